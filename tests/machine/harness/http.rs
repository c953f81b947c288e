//! A client over one connection, which tells apart the ways in which it can fail.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::wire::{Client, Message};

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

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    requests: u64,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, Failure> {
        let client = Client::connect(address, TIMEOUT)
            .map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(Self { client, requests: 0 })
    }

    /// Sends one request and reads its answer, whatever its status. `headers` end with CRLF each.
    pub(crate) fn get(
        &mut self,
        host: &str,
        path: &str,
        headers: &str,
    ) -> Result<Message, Failure> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"), &[])
    }

    /// Sends a body in this many pieces, with a rest between them, and reads the answer: to a host and a
    /// path, with more fields.
    pub(crate) fn post(
        &mut self,
        (host, path, headers): (&str, &str, &str),
        body: &[u8],
        pieces: usize,
        rest: Duration,
    ) -> Result<Message, Failure> {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        let pieces: Vec<&[u8]> = body.chunks(length.div_ceil(pieces)).collect();
        self.send_with(&head, &pieces, rest)
    }

    fn send(&mut self, head: &str, pieces: &[&[u8]]) -> Result<Message, Failure> {
        self.send_with(head, pieces, Duration::ZERO)
    }

    fn send_with(
        &mut self,
        head: &str,
        pieces: &[&[u8]],
        rest: Duration,
    ) -> Result<Message, Failure> {
        self.requests += 1;
        let first = self.requests == 1;
        let lost = |error: io::Error| Failure::Lost { first, why: error.to_string() };
        let Self { client, .. } = self;
        client.stream.write_all(head.as_bytes()).map_err(lost)?;
        for piece in pieces {
            std::thread::sleep(rest);
            client.stream.write_all(piece).map_err(lost)?;
        }
        if client.buffer.is_empty() && !client.fill().map_err(lost)? {
            return Err(lost(io::Error::other("closed")));
        }
        let method = head.split(' ').next().unwrap_or_default();
        let answer = client.response(method).map_err(|error| Failure::Cut(error.to_string()));
        client.raw.clear(); // a load has no use for it
        answer
    }

    /// What is left of it after an upgrade.
    pub(crate) fn into_client(self) -> Client {
        self.client
    }
}
