//! One client connection: sends a request, takes the reply.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::reply::{Expected, Reply};
use super::stream::Stream;
use crate::message::{self, PATTERN};

/// What a request is and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A GET of this many bytes, or a POST when there is an upload.
    Http {
        /// Bytes of the reply's body.
        reply: usize,
        /// Bytes of the request's body.
        upload: usize,
        /// One request per connection: `Connection: close`, and the peer must close.
        close: bool,
        /// Under TLS.
        tls: bool,
    },
    /// A WebSocket message that comes back.
    WebSocket,
    /// GETs over HTTP/2.
    Http2 {
        /// Requests at once on each connection.
        streams: usize,
        /// Bytes of the reply's body.
        reply: usize,
    },
}

/// A client connection.
pub(crate) struct Conn {
    stream: Stream,
    work: Work,
    output: Vec<u8>,
    upload: usize,
    sent: usize,
    reply: Reply,
    /// When the request in flight was due; `None` when there is none.
    pub(crate) due: Option<Instant>,
    /// The reply is complete, and the peer has yet to close.
    closing: bool,
}

/// What news of a connection led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The reply is not complete.
    Pending,
    /// The reply is complete, and the connection can take another request.
    Done,
    /// The reply is complete, and the connection has ended as it should.
    Ended,
}

// === impl Conn ===

impl Conn {
    pub(crate) fn open(address: SocketAddr, work: Work) -> Result<Self> {
        // On loopback the kernel has shaken hands before connect() returns, also for a blocking
        // socket; a listener that does not accept shows as a slow connect.
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: if matches!(work, Work::Http { tls: true, .. }) {
                Stream::tls(stream)?
            } else {
                Stream::Plain(stream)
            },
            work,
            output: Vec::new(),
            upload: 0,
            sent: 0,
            reply: Reply::new(),
            due: None,
            closing: false,
        })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Sends the opening handshake of a WebSocket.
    pub(crate) fn upgrade(&mut self, due: Instant) -> Result<()> {
        message::upgrade_request(&mut self.output);
        self.reply.expect(Expected::Upgrade, message::digits(0));
        self.send(0, due)
    }

    /// Sends request number `id`.
    pub(crate) fn request(&mut self, id: u64, due: Instant) -> Result<()> {
        let id = message::digits(id);
        match self.work {
            Work::Http { reply, upload, close, .. } => {
                message::request(&mut self.output, id, reply, upload, close);
                self.reply.expect(Expected::Body(reply), id);
                self.send(upload, due)
            }
            Work::WebSocket => {
                message::client_frame(&mut self.output, id);
                self.reply.expect(Expected::Frame, id);
                self.send(0, due)
            }
            Work::Http2 { .. } => bail!("HTTP/2 has a generator of its own"),
        }
    }

    fn send(&mut self, upload: usize, due: Instant) -> Result<()> {
        self.upload = upload;
        self.sent = 0;
        self.due = Some(due);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        while self.sent < self.output.len() + self.upload {
            let result = if self.sent < self.output.len() {
                let head = &self.output[self.sent..];
                if self.upload == 0 {
                    self.stream.write(head)
                } else {
                    let body = &PATTERN[..self.upload];
                    self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])
                }
            } else {
                self.stream.write(&PATTERN[self.sent - self.output.len()..self.upload])
            };
            match result {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }

    /// Sends what is left to send and reads what has come.
    pub(crate) fn drive(&mut self, scratch: &mut [u8], hangup: bool) -> Result<Progress> {
        if self.due.is_none() {
            // News of a connection that idles: only its end, which is the peer's right after it
            // has said so, and a mistake otherwise.
            return match self.stream.read(scratch) {
                Ok(0) => bail!("closed while idle"),
                Ok(n) => bail!("{n} bytes nobody asked for"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Progress::Pending),
                Err(error) => Err(error).context("idle"),
            };
        }
        self.flush()?;
        loop {
            let n = match self.stream.read(scratch) {
                Ok(0) if self.closing => return Ok(Progress::Ended),
                Ok(0) => bail!("closed before the reply was complete"),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::Pending);
                }
                Err(error) => return Err(error).context("reading"),
            };
            if self.closing {
                bail!("{n} bytes behind the reply");
            }
            if self.reply.take(&scratch[..n])? {
                let must_close = matches!(self.work, Work::Http { close: true, .. });
                if !must_close && !self.reply.closes {
                    self.due = None;
                    return Ok(Progress::Done);
                }
                self.closing = true;
            } else if n < scratch.len() && !hangup && !self.stream.is_tls() {
                return Ok(Progress::Pending);
            }
        }
    }
}
