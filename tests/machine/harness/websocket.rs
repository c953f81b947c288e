//! A WebSocket client that knows a good end from a bad one.

use std::io::{self, Write};

use super::http::{Connection, Failure};
use super::wire::Client;

/// RFC 6455's opcodes.
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// Codes with which a server that is going away may close: "going away" and "service restart".
const GOING_AWAY: [u16; 2] = [1001, 1012];

/// A WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    client: Client,
}

/// What came from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A text.
    Message(String),
    /// A close frame that says that the server goes away; the connection has ended after it.
    Closed,
}

// === impl WebSocket ===

impl WebSocket {
    /// Shakes hands over a new connection.
    pub(crate) fn open(mut connection: Connection, host: &str) -> Result<Self, Failure> {
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let response = connection.get(host, "/ws", headers)?;
        match response.status() {
            101 => Ok(Self { client: connection.into_client() }),
            status => {
                let body = String::from_utf8_lossy(&response.body).into_owned();
                Err(Failure::Status(status, body))
            }
        }
    }

    /// Sends a text and waits for what comes.
    pub(crate) fn ask(&mut self, text: &str) -> Result<Heard, Failure> {
        // A server that has closed meanwhile has said so before; what cannot be sent is no loss
        // as long as that can be read.
        let sent = self.send(TEXT, text.as_bytes());
        let cut = |error: io::Error| Failure::Cut(format!("WebSocket: {error} (sent: {sent:?})"));
        let (opcode, payload) = self.receive().map_err(cut)?;
        if opcode == TEXT {
            return Ok(Heard::Message(String::from_utf8_lossy(&payload).into_owned()));
        }
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        if opcode != CLOSE || !code.is_some_and(|code| GOING_AWAY.contains(&code)) {
            return Err(Failure::Cut(format!("WebSocket: frame {opcode}, code {code:?}")));
        }
        // The handshake's other half, which a server may not wait for; then the end.
        let _ = self.send(CLOSE, &payload);
        while self.client.fill().is_ok_and(|more| more) {}
        Ok(Heard::Closed)
    }

    /// Waits for the next frame: its opcode and payload.
    pub(crate) fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.client.bytes(2)?;
        let length = match head[1] {
            126 => {
                let long = self.client.bytes(2)?;
                usize::from(u16::from_be_bytes([long[0], long[1]]))
            }
            short @ 0..126 => usize::from(short),
            _ => return Err(io::Error::other("a frame that no test sends")),
        };
        Ok((head[0] & 0x0f, self.client.bytes(length)?))
    }

    /// One frame, masked by zeros, which is as good as any mask where nothing is cached.
    fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
        let length = length.ok_or_else(|| io::Error::other("longer than any test says"))?;
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.client.stream.write_all(&frame)
    }
}
