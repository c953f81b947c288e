//! Where a body ends as it comes in, and how it is framed as it goes out: all in one buffer.

use std::ops::Range;

use super::super::chunk::{self, ChunkError, Event, MAX_SIZE_LINE};
use super::super::field::Field;
use super::{Body, HEADROOM, Relay, RelayError, TAILROOM};
use crate::io::buf::{Buf, Input};

/// What ends a body that has no trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Relay {
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

    /// Decodes this part of the buffer and puts the framing of what is sent around it.
    pub(super) fn frame(&mut self, filled: Range<usize>) -> Result<(), RelayError> {
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
