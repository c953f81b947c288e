//! A strict HTTP/1.1 parser of the tests' own: what does not parse here was not sent correctly.

use std::io::{self, Read};

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

impl Message {
    pub(crate) fn status(&self) -> u16 {
        assert!(self.start.starts_with("HTTP/1.1 "), "status line: {:?}", self.start);
        self.start[9..12].parse().expect("a status")
    }

    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap()
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The only value of a field.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {all:?}", all.len());
        all.first().copied()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads messages from a stream.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    pub(crate) stream: R,
    pub(crate) buffer: Vec<u8>,
    /// Every byte that came.
    pub(crate) raw: Vec<u8>,
}

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
                assert!(!line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "line {line:?}");
                return Ok(line.iter().map(|b| *b as char).collect());
            }
            assert!(!self.buffer.contains(&b'\n') || self.buffer.contains(&b'\r'), "bare LF");
            self.need()?;
        }
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
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
            let (name, value) =
                line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            assert!(!name.is_empty() && name.chars().all(token), "name of {line:?}");
            assert!(!value.chars().any(|c| c < ' ' && c != '\t'), "value of {line:?}");
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// Reads a head only.
    pub(crate) fn head(&mut self) -> io::Result<Message> {
        let start = self.line()?;
        assert!(!start.is_empty(), "an empty line where a message should begin");
        Ok(Message { start, fields: self.fields()?, body: Vec::new(), trailers: Vec::new() })
    }

    /// Reads a request with its body.
    pub(crate) fn request(&mut self) -> io::Result<Message> {
        let mut message = self.head()?;
        assert!(message.start.ends_with(" HTTP/1.1"), "{}", message.start);
        assert_eq!(message.start.split(' ').count(), 3, "{}", message.start);
        assert_eq!(message.all("host").len(), 1, "{message:?}");
        self.body(&mut message, false)?;
        Ok(message)
    }

    /// Reads the response to a request with this method: 1xx count as responses.
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Message> {
        let mut message = self.head()?;
        let status = message.status();
        if method != "HEAD" && status >= 200 && status != 204 && status != 304 {
            self.body(&mut message, true)?;
        } else if method != "HEAD" && status != 304 {
            assert!(message.one("content-length").is_none(), "{message:?}");
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
        match (message.one("transfer-encoding"), message.one("content-length")) {
            (Some(coding), None) => {
                assert_eq!(coding, "chunked");
                loop {
                    let line = self.line()?;
                    assert!(line.chars().all(|c| c.is_ascii_hexdigit()), "chunk size {line:?}");
                    let size = usize::from_str_radix(&line, 16).unwrap();
                    if size == 0 {
                        message.trailers = self.fields()?;
                        return Ok(());
                    }
                    let data = self.bytes(size)?;
                    message.body.extend(data);
                    assert_eq!(self.bytes(2)?, b"\r\n");
                }
            }
            (None, Some(length)) => {
                assert!(!length.is_empty() && length.chars().all(|c| c.is_ascii_digit()));
                message.body = self.bytes(length.parse().unwrap())?;
            }
            (None, None) if to_the_end => {
                while self.fill()? {}
                message.body = std::mem::take(&mut self.buffer);
            }
            (None, None) => {}
            both => panic!("ambiguous framing: {both:?}"),
        }
        Ok(())
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
