//! Bodies, from one version of HTTP to the other: DATA frames and trailers on one side, bytes with
//! a length or in chunks on the other. Flow control is the back-pressure.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, StreamId};
use tokio::io::ReadBuf;

use super::super::chunk::{Decoder, Event};
use super::super::request::Framing;
use super::backlog::Backlog;
use super::{broken, head, invalid};

/// Bytes of a trailer section; more than the limit on heads may ever be.
const MAX_TRAILERS: usize = 2 * 1024 * 1024;

/// Sends the body of an HTTP/1.1 message on a stream. It keeps nothing back: what it takes is on
/// its way, since nobody would come and send it later.
pub(super) struct Sender {
    stream: SendStream<Bytes>,
    coding: Coding,
    ended: bool,
    /// Of the connection, where that has a limit.
    backlog: Option<Rc<Backlog>>,
}

enum Coding {
    Length(u64),
    Chunked(Box<Decoder>),
}

/// Receives a body from a stream, as an HTTP/1.1 message would have it.
pub(super) struct Receiver {
    stream: RecvStream,
    chunked: bool,
    data: Bytes,
    /// What is to be read before `data`: a chunk-size line, or what ends the body.
    line: Bytes,
    begun: bool,
    ended: bool,
}

impl Sender {
    /// For a body that is there, and not of length zero.
    pub(super) fn new(
        stream: SendStream<Bytes>,
        framing: Framing,
        backlog: Option<Rc<Backlog>>,
    ) -> Self {
        let coding = match framing {
            Framing::Length(length) => Coding::Length(length),
            Framing::Chunked => Coding::Chunked(Box::new(Decoder::new(MAX_TRAILERS))),
            Framing::Close => Coding::Length(u64::MAX), // a conversation, until `finish`
        };
        Self { stream, coding, ended: false, backlog }
    }

    /// Takes bytes of the message, as many as the other side has opened its window for.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(invalid("bytes after the end of a body")));
        }
        let room = match self.poll_room(cx, bytes.len()) {
            Poll::Ready(room) => room?,
            Poll::Pending => 0,
        };
        let room = self.backlog.as_ref().map_or(room, |backlog| room.min(backlog.room(cx)));
        let (data, used, trailers) = match &mut self.coding {
            Coding::Length(left) => {
                let len = (bytes.len().min(room) as u64).min(*left) as usize;
                *left -= len as u64;
                self.ended = *left == 0;
                (Bytes::copy_from_slice(&bytes[..len]), len, None)
            }
            Coding::Chunked(decoder) => {
                let (data, used) = decode(decoder, bytes, room, &mut self.ended)?;
                let trailers = self.ended.then(|| decoder.trailers()).filter(|t| !t.is_empty());
                (data.into(), used, trailers.map(head::read_trailers).transpose()?)
            }
        };
        if used == 0 {
            return Poll::Pending;
        }
        let last = self.ended && trailers.is_none();
        if !data.is_empty() || last {
            let count = data.len();
            self.stream.send_data(data, last).map_err(broken)?;
            if let Some(backlog) = &self.backlog {
                backlog.given(self.id().as_u32(), count);
            }
        }
        if let Some(trailers) = trailers {
            self.stream.send_trailers(trailers).map_err(broken)?;
        }
        Poll::Ready(Ok(used))
    }

    /// How much may be sent now, of so much.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(wanted);
        let mut room = self.stream.capacity();
        while room == 0 {
            room = match ready!(self.stream.poll_capacity(cx)) {
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(room) => room.map_err(broken)?,
            };
        }
        Poll::Ready(Ok(room))
    }

    /// Ends what has no end of its own.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.stream.send_data(Bytes::new(), true).map_err(broken)
    }

    /// Whether all of the body was given to the stream.
    pub(super) fn is_finished(&self) -> bool {
        self.ended
    }

    pub(super) fn id(&self) -> StreamId {
        self.stream.stream_id()
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
        if let Some(backlog) = &self.backlog {
            backlog.reset(self.id().as_u32());
        }
    }

    /// Ready when the other side wants no more of it.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }
}

impl Receiver {
    pub(super) fn new(stream: RecvStream, chunked: bool) -> Self {
        let (data, line) = (Bytes::new(), Bytes::new());
        Self { stream, chunked, data, line, begun: false, ended: false }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            put(&mut self.line, buffer);
            if self.line.is_empty() {
                let given = put(&mut self.data, buffer);
                if given > 0 {
                    self.stream.flow_control().release_capacity(given).map_err(broken)?;
                }
            }
            if buffer.remaining() == 0 || self.ended {
                return Poll::Ready(Ok(()));
            }
            match self.poll_next(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Waits for the next frame.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.stream.poll_data(cx)) {
            // A chunk without data would end the body.
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                if self.chunked {
                    let end = if self.begun { "\r\n" } else { "" };
                    self.line = format!("{end}{:x}\r\n", data.len()).into();
                    self.begun = true;
                }
                self.data = data;
            }
            Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            None => {
                if self.chunked {
                    let trailers = ready!(self.stream.poll_trailers(cx)).map_err(broken)?;
                    let mut line = Vec::from(if self.begun { "\r\n0\r\n" } else { "0\r\n" });
                    head::write_fields(&mut line, &trailers.unwrap_or_default());
                    line.extend_from_slice(b"\r\n");
                    self.line = line.into();
                    self.chunked = false;
                } else {
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Decodes no more data than there is room for; returns it with the bytes it took.
fn decode(
    decoder: &mut Decoder,
    bytes: &[u8],
    room: usize,
    ended: &mut bool,
) -> io::Result<(Vec<u8>, usize)> {
    let mut data = Vec::with_capacity(bytes.len().min(room));
    let mut used = 0;
    while used < bytes.len() {
        // One byte at a time is never data unless data comes next: what is between the chunks, and
        // the end above all, needs no room.
        let step = match room - data.len() {
            0 if decoder.is_in_data() => break,
            0 => 1,
            room => room,
        };
        let rest = &bytes[used..(used + step).min(bytes.len())];
        match decoder.next(rest).map_err(|_| invalid("no chunked coding"))? {
            Event::Data { at, len } => {
                data.extend_from_slice(&rest[at..at + len]);
                used += at + len;
            }
            Event::More => used += rest.len(),
            Event::End { used: end } => {
                used += end;
                *ended = true;
                break;
            }
        }
    }
    Ok((data, used))
}

/// Moves what fits; returns how much that was.
fn put(from: &mut Bytes, buffer: &mut ReadBuf<'_>) -> usize {
    let len = from.len().min(buffer.remaining());
    if len > 0 {
        buffer.put_slice(&from.split_to(len));
    }
    len
}
