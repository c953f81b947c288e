//! One client of a load: what it does next, and whether that was answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::http::{Connection, Failure};
use super::http2::Http2;
use super::websocket::{Heard, WebSocket};
use super::wire::Message;

/// An upload: larger than what sockets buffer, and in pieces over a while, so that some are in the
/// middle whatever happens.
const UPLOAD: usize = 1024 * 1024;
const PIECES: usize = 10;
const BETWEEN_PIECES: Duration = Duration::from_millis(50);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Asks over one connection for as long as that lasts.
    Kept,
    /// Connects anew for each request.
    Connecting,
    /// Asks for what takes 6 s, or another time that was chosen.
    Slow,
    /// Sends a large body, slowly, and checks that all of it has arrived.
    Upload,
    /// Says something over a WebSocket and waits for its echo; connects again when it is closed.
    WebSocket,
    /// Asks many times at once over HTTP/2, on one connection for as long as that lasts.
    Http2,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    kind: Kind,
    kept: Option<Connection>,
    web_socket: Option<WebSocket>,
    http2: Option<Http2>,
    connections: u64,
    port: u16,
    slow: String,
    /// Which host it asks for, and which path.
    host: String,
    path: String,
    /// More fields of its requests, each with CRLF.
    fields: String,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(kind: Kind, port: u16, slow: Duration) -> Self {
        let slow = format!("/slow?ms={}", slow.as_millis());
        let (host, fields) = ("test".to_owned(), String::new());
        let http2 = (kind == Kind::Http2).then(|| Http2::new(address(port)));
        let path = "/".to_owned();
        let (kept, web_socket, connections) = (None, None, 0);
        Self { kind, kept, web_socket, http2, connections, port, slow, host, path, fields }
    }

    /// The same for another host and path, with more fields.
    pub(crate) fn asking_for(self, host: &str, path: &str, fields: &str) -> Self {
        let [host, path, fields] = [host, path, fields].map(str::to_owned);
        Self { host, path, fields, ..self }
    }

    /// How often it has connected.
    pub(crate) fn connections(&self) -> u64 {
        self.connections + self.http2.as_ref().map_or(0, Http2::connections)
    }

    /// Asks once: what came back, or `None` for a WebSocket that was closed in good order.
    pub(crate) fn ask(&mut self) -> Result<Option<String>, Failure> {
        match self.kind {
            Kind::Kept => self.get(&self.path.clone(), "").map(Some),
            Kind::Connecting => self.get(&self.path.clone(), "Connection: close\r\n").map(Some),
            Kind::Slow => self.get(&self.slow.clone(), "").map(Some),
            Kind::Upload => self.upload().map(Some),
            Kind::WebSocket => self.echo(),
            Kind::Http2 => {
                let uri = format!("http://{}/", self.host);
                self.http2.as_mut().map(|client| client.ask(&uri)).transpose()
            }
        }
    }

    fn connect(&mut self) -> Result<Connection, Failure> {
        if let Some(connection) = self.kept.take() {
            return Ok(connection);
        }
        self.connections += 1;
        Connection::open(address(self.port))
    }

    fn get(&mut self, path: &str, headers: &str) -> Result<String, Failure> {
        let mut connection = self.connect()?;
        let response = connection.get(&self.host, path, &format!("{}{headers}", self.fields))?;
        if headers.is_empty() && !response.closes() {
            self.kept = Some(connection);
        }
        good(&response)
    }

    fn upload(&mut self) -> Result<String, Failure> {
        let mut connection = self.connect()?;
        let body = vec![b'x'; UPLOAD];
        let response = connection.post(("test", "/upload", ""), &body, PIECES, BETWEEN_PIECES)?;
        if !response.closes() {
            self.kept = Some(connection);
        }
        let received = response.all("x-received").concat();
        let body = good(&response)?;
        if received == UPLOAD.to_string() {
            Ok(body)
        } else {
            Err(Failure::Cut(format!("{received:?} of {UPLOAD} bytes arrived")))
        }
    }

    fn echo(&mut self) -> Result<Option<String>, Failure> {
        let mut web_socket = match self.web_socket.take() {
            Some(web_socket) => web_socket,
            None => WebSocket::open(self.connect()?, &self.host)?,
        };
        match web_socket.ask("hello")? {
            Heard::Message(text) => {
                self.web_socket = Some(web_socket);
                match text.strip_suffix(" hello") {
                    Some(version) => Ok(Some(version.to_owned())),
                    None => Err(Failure::Cut(format!("the echo was {text:?}"))),
                }
            }
            Heard::Closed => Ok(None),
        }
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn good(response: &Message) -> Result<String, Failure> {
    let body = String::from_utf8_lossy(&response.body).into_owned();
    match response.status() {
        200 => Ok(body),
        status => Err(Failure::Status(status, body)),
    }
}
