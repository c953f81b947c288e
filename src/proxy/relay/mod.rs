//! One direction of a body: read, decoded in place, framed anew and written, without ever holding
//! more than one buffer. Back-pressure is that nothing is read while something is to be written.

mod error;
mod framing;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::chunk::Decoder;
use super::request::Framing;
use crate::io::ByteStream;
use crate::io::buf::{Buf, poll_read};
use crate::io::splice::{self, Pipe, WORTH};

pub(crate) use error::RelayError;

/// Room before a body for its first chunk-size line and a rewritten head.
pub(crate) const HEADROOM: usize = 512;
/// Room after it for the end of a chunk and the last chunk.
const TAILROOM: usize = 16;
/// Bytes that are read and written in one turn, before the thread's other connections have theirs.
pub(super) const TURN: u64 = 2 * 1024 * 1024;
/// What a byte of framing costs more than one of payload: a chunk of one byte has five around it, and
/// each must be looked at.
pub(super) const FRAMING: u64 = 32;
/// Bytes of a chunked body that are read at once: of the smallest chunks they take about a millisecond.
const CHUNKED: usize = 64 * 1024;

/// Where the end of a body is, as it comes in.
#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Box<Decoder>),
    Close,
}

/// One body on its way.
#[derive(Debug)]
pub(crate) struct Relay {
    body: Body,
    chunked_out: bool,
    buffer: Option<Buf>,
    /// What of the buffer is to be written.
    out: Range<usize>,
    /// What comes after that, without a copy.
    pipe: Option<Pipe>,
    /// Whether enough comes at a time to be worth a pipe, as far as is known.
    gushes: bool,
    /// The whole body is decoded; what is left is to write it.
    complete: bool,
    /// The connection ends with it.
    last: bool,
    /// Bytes after the end of the body.
    rest: Vec<u8>,
    /// Payload bytes that may still come.
    allowance: u64,
    /// Grows with every byte read or written, so that who waits can tell progress.
    pub(crate) moved: u64,
    /// Payload bytes so far.
    pub(crate) payload: u64,
}

/// For whom a relay waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    Source,
    Sink,
}

impl Relay {
    /// A body framed like this, to be sent chunked or as it is.
    pub(crate) fn new(
        framing: Framing,
        chunked_out: bool,
        limit: Option<u64>,
        max_trailers: usize,
    ) -> Self {
        let body = match framing {
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::new(Decoder::new(max_trailers))),
            Framing::Close => Body::Close,
        };
        Self {
            complete: matches!(body, Body::Length(0)),
            body,
            chunked_out,
            last: false,
            buffer: None,
            out: 0..0,
            pipe: None,
            gushes: !chunked_out,
            rest: Vec::new(),
            allowance: limit.unwrap_or(u64::MAX),
            moved: 0,
            payload: 0,
        }
    }

    /// Ends our side of the connection with the body.
    pub(crate) fn end_with_it(&mut self) {
        self.last = true;
    }

    /// Whether all of it was read and written.
    pub(crate) fn is_finished(&self) -> bool {
        self.complete && self.waits() == Waits::Source
    }

    /// Bytes that came after the end of the body.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Payload bytes that the sink has taken.
    pub(crate) fn passed(&self) -> u64 {
        let held = self.out.len() + self.pipe.as_ref().map_or(0, Pipe::held);
        self.payload.saturating_sub(held as u64)
    }

    /// For whom it waits when polling it was pending.
    pub(crate) fn waits(&self) -> Waits {
        let nothing = self.out.is_empty() && self.pipe.is_none();
        if nothing { Waits::Source } else { Waits::Sink }
    }

    /// Moves what can be moved now; ready when all of the body is written.
    pub(crate) fn poll<S, D>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
    ) -> Poll<Result<(), RelayError>>
    where
        S: ByteStream,
        D: ByteStream,
    {
        let begun = (self.moved, self.payload);
        loop {
            while let Some(buffer) = &self.buffer
                && !self.out.is_empty()
            {
                let out = &buffer[self.out.clone()];
                let written = if self.last && self.complete {
                    sink.poll_write_last(cx, out)
                } else {
                    Pin::new(&mut *sink).poll_write(cx, out)
                };
                let written = ready!(written)
                    .and_then(|n| if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) })
                    .map_err(RelayError::Sink)?;
                self.out.start += written;
                self.moved += written as u64;
            }
            if self.pipe.is_some() {
                ready!(self.poll_drain(cx, sink))?;
            }
            if self.complete {
                self.buffer = None;
                if self.last {
                    sink.end();
                }
                return Poll::Ready(Ok(()));
            }
            if self.has_had_its_turn(begun) {
                self.buffer = None;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.gushes
                && let Body::Length(WORTH..) = self.body
                && ready!(self.poll_splice(cx, source, sink))?
            {
                continue;
            }
            let most = self.most();
            let buffer = self.buffer.get_or_insert_with(|| {
                Buf::for_bytes(HEADROOM.saturating_add(most).saturating_add(TAILROOM))
            });
            let mut room = HEADROOM..buffer.len() - TAILROOM;
            room.end = room.start + room.len().min(most);
            let read = match poll_read(source, cx, &mut buffer[room]) {
                Poll::Pending => {
                    self.buffer = None;
                    return Poll::Pending;
                }
                Poll::Ready(read) => read.map_err(RelayError::Source)?,
            };
            self.moved += read as u64;
            self.gushes = read as u64 >= WORTH && !self.chunked_out;
            if read == 0 {
                if !matches!(self.body, Body::Close) {
                    return Poll::Ready(Err(RelayError::Source(
                        io::ErrorKind::UnexpectedEof.into(),
                    )));
                }
                self.complete = true;
            }
            self.frame(HEADROOM..HEADROOM + read)?;
        }
    }

    /// Takes what has come of the body into a pipe, where both sides allow it. False when they do
    /// not.
    fn poll_splice<S: ByteStream, D: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
    ) -> Poll<Result<bool, RelayError>> {
        let Body::Length(left) = &mut self.body else { return Poll::Ready(Ok(false)) };
        if !sink.is_plain_tcp() {
            return Poll::Ready(Ok(false));
        }
        let Some(source) = source.plain_tcp() else { return Poll::Ready(Ok(false)) };
        let Some(mut pipe) = Pipe::take() else { return Poll::Ready(Ok(false)) };
        self.buffer = None;
        let most = usize::try_from(*left).unwrap_or(usize::MAX);
        let moved = match ready!(pipe.poll_fill(cx, source, most)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if splice::is_refused(&error) => {
                self.gushes = false;
                return Poll::Ready(Ok(false));
            }
            result => result,
        };
        let moved = moved.map_err(RelayError::Source)? as u64;
        *left -= moved;
        self.complete = *left == 0;
        self.allowance = self.allowance.checked_sub(moved).ok_or(RelayError::TooLarge)?;
        self.moved += moved;
        self.payload += moved;
        self.gushes = moved >= WORTH;
        self.pipe = Some(pipe);
        Poll::Ready(Ok(true))
    }

    /// Empties the pipe and gives it back.
    fn poll_drain<D: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut D,
    ) -> Poll<Result<(), RelayError>> {
        let gone = || RelayError::Sink(io::ErrorKind::NotConnected.into());
        let sink = sink.plain_tcp().ok_or_else(gone)?;
        while let Some(pipe) = &mut self.pipe
            && pipe.held() > 0
        {
            let written = ready!(pipe.poll_drain(cx, sink)).map_err(RelayError::Sink)?;
            self.moved += written as u64;
        }
        self.pipe = None;
        Poll::Ready(Ok(()))
    }

    /// Whether it has worked for long since it had moved and decoded so much.
    fn has_had_its_turn(&self, (moved, payload): (u64, u64)) -> bool {
        let (moved, payload) = (self.moved - moved, self.payload - payload);
        // Payload is read and written.
        let framing = moved.saturating_sub(2 * payload);
        moved.saturating_add(FRAMING.saturating_mul(framing)) >= TURN
    }

    /// Bytes worth reading: a byte more than the body has, because a read that fills its room says
    /// nothing about whether there is more, and the runtime would ask the kernel once again.
    fn most(&self) -> usize {
        match self.body {
            Body::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1),
            Body::Chunked(_) => CHUNKED,
            Body::Close => usize::MAX,
        }
    }
}
