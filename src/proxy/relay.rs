//! One direction of a body: read, decoded in place, framed anew and written, without ever holding
//! more than one buffer. Back-pressure is that nothing is read while something is to be written.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::chunk::{self, ChunkError, Decoder, Event, MAX_SIZE_LINE};
use super::field::Field;
use super::request::Framing;
use crate::io::ByteStream;
use crate::io::buf::{Buf, Input, poll_read};
use crate::io::splice::{self, Pipe, WORTH};

/// Room before a body for its first chunk-size line and a rewritten head.
pub(crate) const HEADROOM: usize = 512;
/// Room after it for the end of a chunk and the last chunk.
const TAILROOM: usize = 16;
/// What ends a body that has no trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

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

/// Why a body did not get through.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// The stream it came from ended too early or failed.
    Source(io::Error),
    /// It is no chunked coding.
    Malformed(ChunkError),
    /// It has more bytes than it may.
    TooLarge,
    /// The stream it went to failed.
    Sink(io::Error),
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

    /// Ends the body where it is, as if it had been whole; only when it waits for its source.
    pub(crate) fn finish(&mut self) {
        self.body = Body::Close;
        self.complete = true;
        if self.chunked_out {
            let buffer = self.buffer.insert(Buf::for_bytes(HEADROOM + LAST_CHUNK.len()));
            self.out = HEADROOM..HEADROOM + LAST_CHUNK.len();
            buffer[self.out.clone()].copy_from_slice(LAST_CHUNK);
        }
    }

    /// Takes what `input` has of the body, framed for sending, to the end of `out`.
    pub(crate) fn append_to(
        &mut self,
        input: &mut Input,
        out: &mut Vec<u8>,
    ) -> Result<(), RelayError> {
        if self.complete {
            return Ok(());
        }
        let (payload, used) = self.decode(input.bytes_mut())?;
        if !payload.is_empty() && self.chunked_out {
            let mut line = [0; MAX_SIZE_LINE];
            let at = chunk::size_line(&mut line, payload.len());
            out.extend_from_slice(&line[at..]);
        }
        out.extend_from_slice(&input.bytes()[payload.clone()]);
        if self.chunked_out {
            if !payload.is_empty() {
                out.extend_from_slice(b"\r\n");
            }
            if self.complete {
                self.write_end(out)?;
            }
        }
        input.consume(used);
        Ok(())
    }

    /// Starts with a buffer that has `head` bytes of something else before the body.
    ///
    /// `before` is sent in front, in the same write when it fits.
    pub(crate) fn start(
        &mut self,
        (buffer, filled): (Buf, Range<usize>),
        before: &[u8],
    ) -> Result<(), RelayError> {
        self.buffer = Some(buffer);
        self.frame(filled)?;
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        if self.out.is_empty() {
            buffer.grow(before.len());
            buffer[..before.len()].copy_from_slice(before);
            self.out = 0..before.len();
        } else if let Some(start) = self.out.start.checked_sub(before.len()) {
            buffer[start..self.out.start].copy_from_slice(before);
            self.out.start = start;
        } else {
            let len = before.len() + self.out.len();
            let mut whole = Buf::for_bytes(len);
            whole.grow(len);
            whole[..before.len()].copy_from_slice(before);
            whole[before.len()..len].copy_from_slice(&buffer[self.out.clone()]);
            self.buffer = Some(whole);
            self.out = 0..len;
        }
        Ok(())
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

    /// Bytes worth reading: a byte more than the body has, because a read that fills its room says
    /// nothing about whether there is more, and the runtime would ask the kernel once again.
    fn most(&self) -> usize {
        match self.body {
            Body::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1),
            Body::Chunked(_) | Body::Close => usize::MAX,
        }
    }

    /// Decodes this part of the buffer and puts the framing of what is sent around it.
    fn frame(&mut self, filled: Range<usize>) -> Result<(), RelayError> {
        let Some(mut buffer) = self.buffer.take() else { return Ok(()) };
        let (payload, used) = self.decode(&mut buffer[filled.clone()])?;
        let after = filled.start + used..filled.end;
        if self.complete && !after.is_empty() {
            self.rest = buffer[after].to_vec();
        }
        let mut out = filled.start + payload.start..filled.start + payload.end;
        if self.chunked_out {
            if !out.is_empty() {
                if out.start < MAX_SIZE_LINE || buffer.len() < out.end + TAILROOM {
                    let len = out.len();
                    buffer.grow(MAX_SIZE_LINE + len + TAILROOM);
                    buffer.copy_within(out, MAX_SIZE_LINE);
                    out = MAX_SIZE_LINE..MAX_SIZE_LINE + len;
                }
                let room = &mut buffer[out.start - MAX_SIZE_LINE..out.start];
                let at = chunk::size_line(room, payload.len());
                buffer[out.end..out.end + 2].copy_from_slice(b"\r\n");
                out = out.start - MAX_SIZE_LINE + at..out.end + 2;
            }
            if self.complete {
                let mut end = Vec::new();
                self.write_end(&mut end)?;
                if out.is_empty() {
                    out = HEADROOM..HEADROOM;
                }
                buffer.grow(out.end + end.len());
                buffer[out.end..out.end + end.len()].copy_from_slice(&end);
                out.end += end.len();
            }
        }
        self.out = out;
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Decodes in place: where the payload is now, and how many bytes the body took.
    fn decode(&mut self, bytes: &mut [u8]) -> Result<(Range<usize>, usize), RelayError> {
        let (payload, used) = match &mut self.body {
            Body::Length(left) => {
                let len = (bytes.len() as u64).min(*left) as usize;
                *left -= len as u64;
                self.complete = *left == 0;
                (0..len, len)
            }
            Body::Close => (0..bytes.len(), bytes.len()),
            Body::Chunked(decoder) => {
                let mut payload = 0..0;
                let mut used = 0;
                loop {
                    match decoder.next(&bytes[used..]).map_err(RelayError::Malformed)? {
                        Event::Data { at, len } => {
                            let data = used + at..used + at + len;
                            used = data.end;
                            if payload.is_empty() {
                                payload = data; // where it is: nothing to move
                            } else {
                                bytes.copy_within(data, payload.end);
                                payload.end += len;
                            }
                        }
                        Event::More => break (payload, bytes.len()),
                        Event::End { used: end } => {
                            self.complete = true;
                            break (payload, used + end);
                        }
                    }
                }
            }
        };
        let len = payload.len() as u64;
        self.allowance = self.allowance.checked_sub(len).ok_or(RelayError::TooLarge)?;
        self.payload += len;
        Ok((payload, used))
    }

    /// The last chunk and the trailers that may pass.
    fn write_end(&self, out: &mut Vec<u8>) -> Result<(), RelayError> {
        let Body::Chunked(decoder) = &self.body else {
            out.extend_from_slice(LAST_CHUNK);
            return Ok(());
        };
        if decoder.trailers().is_empty() {
            out.extend_from_slice(LAST_CHUNK);
            return Ok(());
        }
        out.extend_from_slice(b"0\r\n");
        let section = [decoder.trailers(), b"\r\n"].concat();
        let mut slots = [httparse::EMPTY_HEADER; 64];
        match httparse::parse_headers(&section, &mut slots) {
            Ok(httparse::Status::Complete((len, fields))) if len == section.len() => {
                for field in fields {
                    // Framing, routing and the like mean nothing after the body, and harm where
                    // somebody merges them.
                    if matches!(Field::of(field.name.as_bytes()), Field::Other) {
                        out.extend_from_slice(field.name.as_bytes());
                        out.extend_from_slice(b": ");
                        out.extend_from_slice(field.value);
                        out.extend_from_slice(b"\r\n");
                    }
                }
            }
            _ => return Err(RelayError::Malformed(ChunkError::Trailer)),
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Sends `wire` through a relay in pieces of these sizes, over pipes of this size; what came
    /// out, and what was left over.
    fn relay(
        wire: &[u8],
        (framing, chunked_out): (Framing, bool),
        pieces: &[usize],
        pipe: usize,
    ) -> (Result<(), RelayError>, Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut source) = tokio::io::duplex(pipe);
            let (mut sink, mut far) = tokio::io::duplex(pipe);
            let feed = async {
                let mut rest = wire;
                for piece in pieces.iter().cycle() {
                    let (now, later) = rest.split_at((*piece).min(rest.len()));
                    if near.write_all(now).await.is_err() {
                        return; // the relay has all it needs
                    }
                    tokio::task::yield_now().await;
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
                drop(near);
            };
            let mut relay = Relay::new(framing, chunked_out, None, 1024);
            let run = async {
                let result = poll_fn(|cx| relay.poll(cx, &mut source, &mut sink)).await;
                drop(source);
                drop(sink);
                result
            };
            let mut out = Vec::new();
            let collect = async { far.read_to_end(&mut out).await };
            let (result, (), _) = tokio::join!(run, feed, collect);
            (result, out, relay.rest().to_vec())
        })
    }

    fn encode(body: &[u8], chunk: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in body.chunks(chunk) {
            out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            out.extend_from_slice(part);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }

    fn decode(wire: &[u8]) -> Vec<u8> {
        let mut decoder = Decoder::new(0);
        let mut data = Vec::new();
        let mut used = 0;
        loop {
            match decoder.next(&wire[used..]).unwrap() {
                Event::Data { at, len } => {
                    data.extend_from_slice(&wire[used + at..used + at + len]);
                    used += at + len;
                }
                Event::End { used: end } if used + end == wire.len() => return data,
                other => panic!("{other:?} at {used} of {}", wire.len()),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn bodies_come_out_as_they_went_in(
            body in proptest::collection::vec(any::<u8>(), 0..5000),
            chunk in 1_usize..700,
            pieces in proptest::collection::vec(1_usize..900, 1..5),
            pipe in 1_usize..3000,
            chunked in any::<bool>(),
            chunked_out in any::<bool>(),
        ) {
            let (framing, mut wire) = if chunked {
                (Framing::Chunked, encode(&body, chunk))
            } else {
                (Framing::Length(body.len() as u64), body.clone())
            };
            wire.extend_from_slice(b"next");
            let chunked_out = chunked_out && (chunked || !body.is_empty());
            let (result, out, rest) = relay(&wire, (framing, chunked_out), &pieces, pipe);
            prop_assert!(result.is_ok(), "{:?}", result);
            let out = if chunked_out { decode(&out) } else { out };
            prop_assert!(out == body);
            // A body with a length is read to its end and hardly beyond.
            prop_assert!(b"next".starts_with(&rest) && (chunked || rest.len() <= 1));
        }

        #[test]
        fn what_came_with_the_head_is_framed_the_same(
            body in proptest::collection::vec(any::<u8>(), 1..2000),
            chunk in 1_usize..300,
            cut in 0_usize..3000,
            before in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let wire = encode(&body, chunk);
            let cut = cut.min(wire.len());
            let mut buffer = Buf::bulk();
            buffer[HEADROOM..HEADROOM + cut].copy_from_slice(&wire[..cut]);
            let mut relay = Relay::new(Framing::Chunked, true, None, 1024);
            relay.start((buffer, HEADROOM..HEADROOM + cut), &before).unwrap();
            let first = relay.buffer.as_ref().map_or(Vec::new(), |b| b[relay.out.clone()].to_vec());
            prop_assert!(first.starts_with(&before));

            // The same by way of an input, as requests go.
            let mut relay = Relay::new(Framing::Chunked, true, None, 1024);
            let mut input = Input::new(0);
            input.put(&wire[..cut]);
            let mut out = before.clone();
            relay.append_to(&mut input, &mut out).unwrap();
            prop_assert!(out == first);
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn an_early_end_is_no_end() {
        for framing in [Framing::Length(10), Framing::Chunked] {
            let (result, ..) = relay(b"5\r\nhe", (framing, false), &[3], 100);
            assert!(matches!(result, Err(RelayError::Source(_))), "{result:?}");
        }
        let (result, out, _) = relay(b"all of it", (Framing::Close, true), &[3], 100);
        assert!(result.is_ok());
        assert_eq!(decode(&out), b"all of it");
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        let mut relay = Relay::new(Framing::Chunked, true, Some(4), 1024);
        let mut input = Input::new(0);
        input.put(b"5\r\nhello\r\n");
        let result = relay.append_to(&mut input, &mut Vec::new());
        assert!(matches!(result, Err(RelayError::TooLarge)));
    }
}
