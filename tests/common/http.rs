//! HTTP/1.1 as every test reads it: a strict parser, for which what does not parse was not sent
//! correctly, and requests over a connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A message as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request line or status line.
    pub(crate) start: String,
    /// Names in lower case, values as they stand.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// Reads messages from a stream.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    pub(crate) stream: R,
    pub(crate) buffer: Vec<u8>,
    /// Every byte that came.
    pub(crate) raw: Vec<u8>,
}

/// A connection of a client.
pub(crate) type Client = Reader<TcpStream>;

/// A plain request.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// What this address answers to a plain request on a connection of its own.
#[track_caller]
pub(crate) fn fetch(address: SocketAddr, path: &str, patience: Duration) -> Message {
    let mut client = Client::connect(address, patience).expect("it listens");
    client.ask(get(path)).expect("an answer")
}

/// What came is no HTTP.
fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

// === impl Message ===

impl Message {
    /// The status of a response.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        self.try_status().expect("a response")
    }

    fn try_status(&self) -> io::Result<u16> {
        let code = self.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let is_whole = matches!(self.start.as_bytes().get(12), None | Some(b' '));
        code.and_then(|code| code.parse().ok())
            .filter(|_| is_whole)
            .ok_or_else(|| invalid(format!("status line: {:?}", self.start)))
    }

    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The only value of a field.
    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.try_one(name).expect("it is there once")
    }

    fn try_one(&self, name: &str) -> io::Result<Option<&str>> {
        match self.all(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            ref all => Err(invalid(format!("{name} is there {} times: {all:?}", all.len()))),
        }
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The cookie that it sets, without its attributes.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.one("set-cookie")?.split(';').next()
    }

    /// Whether the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        let says = self.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
        let has_end =
            ["content-length", "transfer-encoding"].iter().any(|f| !self.all(f).is_empty());
        says || !has_end && self.try_status().is_ok_and(|status| !matches!(status, 204 | 304))
    }
}

// === impl Reader ===

impl<R: Read> Reader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new(), raw: Vec::new() }
    }

    /// Reads more; false at the end of the stream.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let mut part = [0; 16 * 1024];
        let count = self.stream.read(&mut part)?;
        self.buffer.extend_from_slice(&part[..count]);
        self.raw.extend_from_slice(&part[..count]);
        Ok(count > 0)
    }

    fn need(&mut self) -> io::Result<()> {
        if self.fill()? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                if line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                    return Err(invalid(format!("line {line:?}")));
                }
                return Ok(line.iter().map(|b| *b as char).collect());
            }
            if self.buffer.contains(&b'\n') && !self.buffer.contains(&b'\r') {
                return Err(invalid("a line feed alone"));
            }
            self.need()?;
        }
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.need()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            let (name, value) = line
                .split_once(':')
                .filter(|(name, _)| !name.is_empty() && name.chars().all(token))
                .filter(|(_, value)| !value.chars().any(|c| c < ' ' && c != '\t'))
                .ok_or_else(|| invalid(format!("no field: {line:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// Reads a head only.
    pub(crate) fn head(&mut self) -> io::Result<Message> {
        let start = self.line()?;
        if start.is_empty() {
            return Err(invalid("an empty line where a message should begin"));
        }
        Ok(Message { start, fields: self.fields()?, body: Vec::new(), trailers: Vec::new() })
    }

    /// Reads a request with its body.
    pub(crate) fn request(&mut self) -> io::Result<Message> {
        let head = self.head()?;
        self.rest_of_request(head)
    }

    /// Reads the body of a request whose head this is.
    pub(crate) fn rest_of_request(&mut self, mut message: Message) -> io::Result<Message> {
        let words = message.start.split(' ').count();
        if !message.start.ends_with(" HTTP/1.1") || words != 3 || message.all("host").len() != 1 {
            return Err(invalid(format!("no request: {message:?}")));
        }
        self.body(&mut message, false)?;
        Ok(message)
    }

    /// Reads the response to a request with this method: 1xx count as responses.
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Message> {
        let mut message = self.head()?;
        let status = message.try_status()?;
        if method != "HEAD" && status >= 200 && status != 204 && status != 304 {
            self.body(&mut message, true)?;
        } else if method != "HEAD" && status != 304 && message.try_one("content-length")?.is_some()
        {
            return Err(invalid(format!("a length of nothing: {message:?}")));
        }
        Ok(message)
    }

    /// Reads the final response to a request with this method.
    pub(crate) fn final_response(&mut self, method: &str) -> io::Result<Message> {
        loop {
            let message = self.response(method)?;
            if message.status() >= 200 {
                return Ok(message);
            }
        }
    }

    fn body(&mut self, message: &mut Message, to_the_end: bool) -> io::Result<()> {
        match (message.try_one("transfer-encoding")?, message.try_one("content-length")?) {
            (Some("chunked"), None) => self.chunks(message)?,
            (None, Some(length)) => {
                let length = number(length, 10)?;
                message.body = self.bytes(length)?;
            }
            (None, None) if to_the_end => {
                while self.fill()? {}
                message.body = std::mem::take(&mut self.buffer);
            }
            (None, None) => {}
            both => return Err(invalid(format!("ambiguous framing: {both:?}"))),
        }
        Ok(())
    }

    fn chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let size = number(&self.line()?, 16)?;
            if size == 0 {
                message.trailers = self.fields()?;
                return Ok(());
            }
            let data = self.bytes(size)?;
            message.body.extend(data);
            if self.bytes(2)? != b"\r\n" {
                return Err(invalid("a chunk that is longer than it says"));
            }
        }
    }

    /// Whether the other side ended the stream, with nothing left to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        match self.fill() {
            Ok(more) => !more,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

impl<S: Read + Write> Reader<S> {
    #[track_caller]
    pub(crate) fn send(&mut self, raw: impl AsRef<[u8]>) {
        self.stream.write_all(raw.as_ref()).expect("it is open");
    }

    /// Sends a request; its final response.
    pub(crate) fn ask(&mut self, raw: impl AsRef<[u8]>) -> io::Result<Message> {
        let raw = raw.as_ref();
        self.stream.write_all(raw)?;
        let method = raw.split(|b| *b == b' ').next().unwrap_or_default();
        self.final_response(&String::from_utf8_lossy(method))
    }

    /// A GET, and its response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.ask(get(path)).expect("an answer")
    }
}

impl Client {
    /// A connection on which nobody waits longer than that.
    pub(crate) fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, patience)?, patience)
    }

    /// The same over a connection that there is.
    pub(crate) fn over(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self::new(stream))
    }
}

/// Digits, and nothing else.
fn number(digits: &str, radix: u32) -> io::Result<usize> {
    let number = usize::from_str_radix(digits, radix).ok();
    number
        .filter(|_| digits.chars().all(|digit| digit.is_digit(radix)))
        .ok_or_else(|| invalid(format!("a length: {digits:?}")))
}
