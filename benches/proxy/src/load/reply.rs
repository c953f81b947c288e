//! Reads a reply as it arrives and compares every byte of it with what was asked for.

use anyhow::{Result, bail, ensure};

use crate::message::{self, ID, PATTERN, PAYLOAD, SERVER_FRAME};

/// What must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// `200` with a body of this length, which begins with the ID.
    Body(usize),
    /// `101`.
    Upgrade,
    /// One WebSocket message with the ID.
    Frame,
}

/// One reply on its way in.
#[derive(Debug)]
pub(crate) struct Reply {
    expected: Expected,
    id: [u8; ID],
    /// A head or frame that has not come whole yet.
    partial: Vec<u8>,
    /// Bytes of the body that have come; `None` before the end of the head.
    body: Option<usize>,
    /// The peer has announced that it closes the connection.
    pub(crate) closes: bool,
}

// === impl Reply ===

impl Reply {
    pub(crate) fn new() -> Self {
        Self {
            expected: Expected::Upgrade,
            id: [0; ID],
            partial: Vec::new(),
            body: None,
            closes: false,
        }
    }

    /// Begins anew, for the reply to the next request.
    pub(crate) fn expect(&mut self, expected: Expected, id: [u8; ID]) {
        self.expected = expected;
        self.id = id;
        self.partial.clear();
        self.body = None;
        self.closes = false;
    }

    /// Takes what has arrived; true once the reply is complete. Anything but the expected bytes is
    /// an error.
    pub(crate) fn take(&mut self, data: &[u8]) -> Result<bool> {
        if self.body.is_some() {
            return self.take_body(data);
        }
        if self.partial.is_empty() {
            return self.take_head(data);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(data);
        self.take_head(&whole)
    }

    fn take_head(&mut self, data: &[u8]) -> Result<bool> {
        if self.expected == Expected::Frame {
            return self.take_frame(data);
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let used = match head.parse(data) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => {
                self.partial.extend_from_slice(data);
                return Ok(false);
            }
            Err(error) => bail!("a reply that is no HTTP: {error}: {}", excerpt(data)),
        };
        let status = head.code.unwrap_or_default();
        let mut length = None;
        let mut accepted = false;
        for field in head.headers.iter() {
            if field.name.eq_ignore_ascii_case("content-length") {
                length = std::str::from_utf8(field.value)?.parse().ok();
            } else if field.name.eq_ignore_ascii_case("connection") {
                self.closes = field.value.eq_ignore_ascii_case(b"close");
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                bail!("the reply's framing was changed: {}", excerpt(data));
            } else if field.name.eq_ignore_ascii_case("sec-websocket-accept") {
                accepted = message::is_accept(field.value);
            }
        }
        match self.expected {
            Expected::Upgrade => {
                ensure!(status == 101 && accepted, "no WebSocket: {}", excerpt(data));
                ensure!(used == data.len(), "bytes behind the 101");
                Ok(true)
            }
            Expected::Body(expected) => {
                ensure!(status == 200, "status {status}: {}", excerpt(data));
                ensure!(length == Some(expected), "length {length:?} and not {expected}");
                self.body = Some(0);
                self.take_body(&data[used..])
            }
            Expected::Frame => unreachable!("taken above"),
        }
    }

    fn take_body(&mut self, mut data: &[u8]) -> Result<bool> {
        let Expected::Body(length) = self.expected else { unreachable!("only bodies have one") };
        let mut at = self.body.unwrap_or_default();
        ensure!(data.len() <= length - at, "more bytes than the length says");
        if at < ID {
            let (id, rest) = data.split_at(data.len().min(ID - at));
            ensure!(id == &self.id[at..at + id.len()], "the reply to another request");
            at += id.len();
            data = rest;
        }
        ensure!(data == &PATTERN[at..at + data.len()], "corrupt body near byte {at}");
        at += data.len();
        self.body = Some(at);
        Ok(at == length)
    }

    fn take_frame(&mut self, data: &[u8]) -> Result<bool> {
        let length = SERVER_FRAME.len() + PAYLOAD;
        ensure!(data.len() <= length, "more than one message");
        if data.len() < length {
            self.partial.extend_from_slice(data);
            return Ok(false);
        }
        let payload = &data[SERVER_FRAME.len()..];
        let intact = data.starts_with(&SERVER_FRAME)
            && payload[..ID] == self.id
            && payload[ID..] == PATTERN[ID..PAYLOAD];
        ensure!(intact, "not the message that was sent: {}", excerpt(data));
        Ok(true)
    }
}

fn excerpt(data: &[u8]) -> String {
    data[..data.len().min(300)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: usize) -> (Reply, Vec<u8>) {
        let id = message::digits(7);
        let mut bytes = Vec::new();
        message::reply(&mut bytes, "200 OK", &id, body, false);
        bytes.extend_from_slice(&PATTERN[ID..body]);
        let mut reply = Reply::new();
        reply.expect(Expected::Body(body), id);
        (reply, bytes)
    }

    #[test]
    fn takes_a_reply_in_pieces_of_any_size() {
        for size in 1..400 {
            let (mut reply, bytes) = reply(200);
            let mut pieces = bytes.chunks(size).peekable();
            while let Some(piece) = pieces.next() {
                assert_eq!(reply.take(piece).unwrap(), pieces.peek().is_none(), "pieces of {size}");
            }
        }
    }

    #[test]
    fn finds_every_changed_byte_of_a_body() {
        let (_, bytes) = reply(200);
        for at in bytes.len() - 200..bytes.len() {
            let (mut reply, mut bytes) = reply(200);
            bytes[at] ^= 1;
            reply.take(&bytes).unwrap_err();
        }
    }

    #[test]
    fn finds_a_wrong_status_length_or_framing() {
        for (from, to) in [
            ("200 OK", "404 OK"),
            ("Content-Length: 200", "Content-Length: 201"),
            ("Content-Length: 200", "Transfer-Encoding: chunked"),
        ] {
            let (mut reply, bytes) = reply(200);
            let changed = String::from_utf8(bytes).unwrap().replace(from, to);
            reply.take(changed.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn takes_no_byte_too_many() {
        let (mut reply, mut bytes) = reply(200);
        bytes.push(b'x');
        reply.take(&bytes).unwrap_err();
    }

    #[test]
    fn a_message_is_echoed_unmasked() {
        let id = message::digits(9);
        let (mut frame, mut echo) = (Vec::new(), Vec::new());
        message::client_frame(&mut frame, id);
        message::echo_frame(&mut echo, &frame).unwrap();
        let mut reply = Reply::new();
        reply.expect(Expected::Frame, id);
        assert!(!reply.take(&echo[..10]).unwrap());
        assert!(reply.take(&echo[10..]).unwrap());
        reply.expect(Expected::Frame, message::digits(10));
        reply.take(&echo).unwrap_err();
    }
}
