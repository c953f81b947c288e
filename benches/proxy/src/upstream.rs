//! The tiny server behind every proxy: one thread, no allocation per request, and it checks what it
//! is sent.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};

use crate::message::{self, CLIENT_FRAME, ID, LONGEST, PATTERN};
use crate::poll::Poll;

const LISTENER: usize = usize::MAX;

/// One read takes at most this: about what a TCP window on loopback holds.
const SCRATCH: usize = 256 * 1024;

/// Bodies up to here are copied behind their head: one write of one piece.
const COPIED: usize = 4096;

/// A connection from a proxy.
struct Conn {
    stream: TcpStream,
    /// A head or frame that has not come whole yet.
    input: Vec<u8>,
    upload: Option<Upload>,
    /// The head of the reply, and how much of the pattern follows it.
    output: Vec<u8>,
    pattern: std::ops::Range<usize>,
    sent: usize,
    close: bool,
    websocket: bool,
}

/// A request body that is coming in.
struct Upload {
    length: usize,
    at: usize,
    intact: bool,
    id: [u8; ID],
    reply: usize,
}

/// Whether the connection goes on.
#[derive(PartialEq)]
enum Next {
    Wait,
    Close,
}

/// Serves until it is killed. Prints the address once it listens.
pub(crate) fn run(listen: SocketAddr) -> Result<()> {
    let listener = bind(listen)?;
    println!("{}", listener.local_addr()?);

    let mut poll = Poll::new()?;
    poll.add_listener(&listener, LISTENER)?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut free = Vec::new();
    let mut scratch = vec![0; SCRATCH];
    loop {
        for i in 0..poll.wait(None)? {
            let ready = poll.ready(i);
            if ready.token == LISTENER {
                while let Some(stream) = accept(&listener)? {
                    let token = free.pop().unwrap_or_else(|| {
                        conns.push(None);
                        conns.len() - 1
                    });
                    poll.add(&stream, token)?;
                    conns[token] = Some(Conn::new(stream));
                }
            } else if let Some(conn) = &mut conns[ready.token] {
                // A proxy may reset a connection that it no longer needs: no news for anybody.
                if conn.drive(&mut scratch, ready.hangup).unwrap_or(Next::Close) == Next::Close {
                    conns[ready.token] = None;
                    free.push(ready.token);
                }
            }
        }
    }
}

/// Listens, with room for all clients at once: whom the kernel has no room for tries again a second
/// later, and the forwarder, which waits for each connection of its own, does nothing until then.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next connection that waits, ready for use.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionAborted => Ok(None),
        Err(error) => Err(error),
    }
}

// === impl Conn ===

impl Conn {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            upload: None,
            output: Vec::new(),
            pattern: 0..0,
            sent: 0,
            close: false,
            websocket: false,
        }
    }

    /// Sends what is left to send, then reads and answers.
    fn drive(&mut self, scratch: &mut [u8], hangup: bool) -> io::Result<Next> {
        loop {
            if !self.flush()? {
                return Ok(Next::Wait);
            }
            if self.close {
                return Ok(Next::Close);
            }
            let n = match self.stream.read(scratch) {
                Ok(0) => return Ok(Next::Close),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Wait),
                Err(error) => return Err(error),
            };
            self.take(&scratch[..n]);
            let drained = self.flush()?;
            if drained && self.close {
                return Ok(Next::Close);
            }
            if n < scratch.len() && !hangup {
                return Ok(Next::Wait);
            }
        }
    }

    /// Sends; true once nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        let total = self.output.len() + self.pattern.len();
        while self.sent < total {
            let result = if let Some(head) = self.output.get(self.sent..).filter(|h| !h.is_empty())
            {
                if self.pattern.is_empty() {
                    self.stream.write(head)
                } else {
                    let body = &PATTERN[self.pattern.clone()];
                    self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])
                }
            } else {
                let done = self.sent - self.output.len();
                self.stream.write(&PATTERN[self.pattern.start + done..self.pattern.end])
            };
            match result {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.pattern = 0..0;
        self.sent = 0;
        Ok(true)
    }

    fn take(&mut self, mut data: &[u8]) {
        if let Some(upload) = &mut self.upload {
            let (body, rest) = data.split_at(data.len().min(upload.length - upload.at));
            upload.take(body);
            data = rest;
            self.end_upload();
        }
        if data.is_empty() {
            return;
        }
        if self.input.is_empty() {
            let used = self.message(data);
            self.input.extend_from_slice(&data[used..]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(data);
            let used = self.message(&input);
            input.drain(..used);
            self.input = input;
        }
    }

    /// Answers the message that `data` begins with, if it is whole; returns its length. No proxy
    /// pipelines, so that there is never a second one.
    fn message(&mut self, data: &[u8]) -> usize {
        if self.websocket {
            if data.len() < CLIENT_FRAME {
                return 0;
            }
            if message::echo_frame(&mut self.output, &data[..CLIENT_FRAME]).is_none() {
                self.close = true;
            }
            return CLIENT_FRAME;
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let used = match request.parse(data) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return 0,
            Err(_) => {
                self.refuse("400 Bad Request");
                return data.len();
            }
        };
        self.close = request.version == Some(0);
        let mut length = 0;
        let mut upgrade = false;
        for field in request.headers.iter() {
            if field.name.eq_ignore_ascii_case("connection") {
                self.close |= field.value.eq_ignore_ascii_case(b"close");
            } else if field.name.eq_ignore_ascii_case("content-length") {
                length = number(field.value).unwrap_or(usize::MAX);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                length = usize::MAX; // nobody here has a reason to re-frame a body
            } else if field.name.eq_ignore_ascii_case("upgrade") {
                upgrade = true;
            }
        }
        if upgrade {
            self.websocket = true;
            message::upgrade_reply(&mut self.output);
            return used;
        }
        let Some((reply, id)) = request.path.and_then(asked).filter(|_| length <= LONGEST) else {
            self.refuse("422 Unprocessable Content");
            return data.len();
        };
        if length == 0 {
            self.answer("200 OK", id, reply);
            return used;
        }
        let mut upload = Upload { length, at: 0, intact: true, id, reply };
        let body = &data[used..data.len().min(used + length)];
        upload.take(body);
        self.upload = Some(upload);
        self.end_upload();
        used + body.len()
    }

    fn end_upload(&mut self) {
        if let Some(upload) = self.upload.take_if(|u| u.at == u.length) {
            let status = if upload.intact { "200 OK" } else { "422 Unprocessable Content" };
            self.answer(status, upload.id, upload.reply);
        }
    }

    fn answer(&mut self, status: &str, id: [u8; ID], length: usize) {
        message::reply(&mut self.output, status, &id, length, self.close);
        if length <= COPIED {
            self.output.extend_from_slice(&PATTERN[ID..length]);
        } else {
            self.pattern = ID..length;
        }
    }

    fn refuse(&mut self, status: &str) {
        self.close = true;
        message::reply(&mut self.output, status, b"", 0, true);
    }
}

// === impl Upload ===

impl Upload {
    fn take(&mut self, data: &[u8]) {
        self.intact &= data == &PATTERN[self.at..self.at + data.len()];
        self.at += data.len();
    }
}

/// Length and ID of the reply that this path asks for.
fn asked(path: &str) -> Option<(usize, [u8; ID])> {
    let (length, id) = path.strip_prefix("/bytes/")?.split_once('/')?;
    let length = number(length.as_bytes()).filter(|n| (ID..=LONGEST).contains(n))?;
    Some((length, id.as_bytes().try_into().ok()?))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
