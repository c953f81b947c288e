//! A strict HTTP/1.1 client over one connection, which tells apart the ways in which it can fail.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than the front lets a request wait for a worker, so that its own answer is what is seen.
const TIMEOUT: Duration = Duration::from_secs(45);

/// What went wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// No connection.
    Refused(String),
    /// The connection ended before any byte of the response, on its first request or a later one.
    Lost { first: bool, why: String },
    /// The connection ended within the response.
    Cut(String),
    /// An answer, but not a good one.
    Status(u16, String),
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    requests: u64,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)
            .and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(stream)
            })
            .map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(Self { stream: BufReader::new(stream), requests: 0 })
    }

    /// Sends one request and reads its answer, whatever its status. `headers` end with CRLF each.
    pub(crate) fn get(
        &mut self,
        host: &str,
        path: &str,
        headers: &str,
    ) -> Result<Response, Failure> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"), &[])
    }

    /// Sends a body in this many pieces, with a rest between them, and reads the answer.
    pub(crate) fn post(
        &mut self,
        path: &str,
        body: &[u8],
        pieces: usize,
        rest: Duration,
    ) -> Result<Response, Failure> {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        let pieces: Vec<&[u8]> = body.chunks(length.div_ceil(pieces)).collect();
        self.send_with(&head, &pieces, rest)
    }

    fn send(&mut self, head: &str, pieces: &[&[u8]]) -> Result<Response, Failure> {
        self.send_with(head, pieces, Duration::ZERO)
    }

    fn send_with(
        &mut self,
        head: &str,
        pieces: &[&[u8]],
        rest: Duration,
    ) -> Result<Response, Failure> {
        self.requests += 1;
        let first = self.requests == 1;
        let lost = |error: io::Error| Failure::Lost { first, why: error.to_string() };
        self.stream.get_mut().write_all(head.as_bytes()).map_err(lost)?;
        for piece in pieces {
            std::thread::sleep(rest);
            self.stream.get_mut().write_all(piece).map_err(lost)?;
        }
        if self.stream.fill_buf().map_err(lost)?.is_empty() {
            return Err(lost(io::Error::other("closed")));
        }
        self.response().map_err(|error| Failure::Cut(error.to_string()))
    }

    /// What is left of it after an upgrade.
    pub(crate) fn into_stream(self) -> BufReader<TcpStream> {
        self.stream
    }

    fn response(&mut self) -> io::Result<Response> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let status = self.line()?;
        let status = status
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| invalid(&format!("not a status line: {status:?}")))?;
        let mut response = Response { status, headers: Vec::new(), body: String::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header line"))?;
            response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut body = Vec::new();
        if let Some(length) = response.header("content-length") {
            body.resize(length.parse().map_err(|_| invalid("a content-length"))?, 0);
            self.stream.read_exact(&mut body)?;
        } else if response.header("transfer-encoding") == Some("chunked") {
            self.chunks(&mut body)?;
        } else if !matches!(status, 101 | 204 | 304) {
            self.stream.read_to_end(&mut body)?;
        }
        response.body = String::from_utf8_lossy(&body).into_owned();
        Ok(response)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?}")))?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            self.line()?; // after the chunk; trailers are none of ours
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 || !line.ends_with("\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }
}

impl Response {
    /// The first header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the server ends the connection after it.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
            || (self.header("content-length").is_none()
                && self.header("transfer-encoding").is_none()
                && !matches!(self.status, 204 | 304))
    }
}
