//! A server's response head: parsed in place and held to the same standard as a request's.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Status};

use super::field::{self, Field, Kinds, MAX_FIELDS, Options};
use super::request::{Framing, Slots, lines_end_in_crlf};
use crate::front::Reason;

/// A response head that may be forwarded. Borrows the buffer it was read into.
#[derive(Debug)]
pub(crate) struct Head<'h, 'b> {
    pub(crate) status: u16,
    pub(crate) reason: &'b [u8],
    pub(crate) fields: &'h [Header<'b>],
    pub(crate) kinds: Kinds,
    pub(crate) options: Options<'b>,
    pub(crate) framing: Framing,
    pub(crate) upgrade: &'b [u8],
    /// Seconds that the server says it keeps an idle connection.
    pub(crate) idle: Option<u64>,
    /// Server-sent events: a stream that never ends, and can end anywhere.
    pub(crate) is_events: bool,
    /// HTTP/1.0: persistent only when it says so.
    old: bool,
    /// Bytes of the head, with the empty line.
    pub(crate) len: usize,
}

impl<'h, 'b> Head<'h, 'b> {
    /// Parses the head at the start of `buffer`; `None` when it is not complete yet.
    pub(crate) fn parse(
        buffer: &'b [u8],
        slots: &'h mut Slots<'b>,
        max_fields: usize,
        to_head_request: bool,
    ) -> Result<Option<Self>, Reason> {
        // The parser takes empty lines before the status line, and they belong to nothing.
        if matches!(buffer.first(), Some(b'\r' | b'\n')) {
            return Err(Reason::BadResponse);
        }
        let max_fields = max_fields.min(MAX_FIELDS);
        let mut response = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let slots: &mut [MaybeUninit<Header<'_>>] = &mut slots[..max_fields];
        let len = match parser.parse_response_with_uninit_headers(&mut response, buffer, slots) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) => return Ok(None),
            Err(Error::TooManyHeaders) => return Err(Reason::ResponseHeadTooLarge),
            Err(_) => return Err(Reason::BadResponse),
        };
        let status = response.code.unwrap_or_default();
        if !lines_end_in_crlf(&buffer[..len], 0, response.headers) || !(100..=599).contains(&status)
        {
            return Err(Reason::BadResponse);
        }
        let mut head = Self {
            status,
            reason: response.reason.unwrap_or_default().as_bytes(),
            fields: response.headers,
            kinds: Kinds::new(),
            options: Options::default(),
            framing: Framing::Close,
            upgrade: b"",
            idle: None,
            is_events: false,
            old: response.version == Some(0),
            len,
        };
        head.read_fields(to_head_request)?;
        Ok(Some(head))
    }

    fn read_fields(&mut self, to_head_request: bool) -> Result<(), Reason> {
        let mut length = None;
        let mut coding: Option<&[u8]> = None;
        for (at, field) in self.fields.iter().enumerate() {
            match self.kinds.learn(at, field.name.as_bytes()) {
                Field::ContentLength => {
                    let value = field::number(field.value).ok_or(Reason::BadResponse)?;
                    if length.is_some_and(|l| l != value) {
                        return Err(Reason::BadResponse);
                    }
                    length = Some(value);
                }
                Field::TransferEncoding if coding.is_some() => return Err(Reason::BadResponse),
                Field::TransferEncoding => coding = Some(field.value),
                Field::Connection if !self.options.add(field.value) => {
                    return Err(Reason::BadResponse);
                }
                Field::Upgrade => self.upgrade = field.value,
                Field::Other => {
                    self.is_events |= field.name.eq_ignore_ascii_case("content-type")
                        && field
                            .value
                            .get(..17)
                            .is_some_and(|value| value.eq_ignore_ascii_case(b"text/event-stream"));
                }
                Field::KeepAlive => self.idle = keep_alive_timeout(field.value).or(self.idle),
                _ => {}
            }
        }
        self.framing = match (coding, length) {
            (Some(coding), None) if !self.old && coding.eq_ignore_ascii_case(b"chunked") => {
                Framing::Chunked
            }
            (Some(_), _) => return Err(Reason::BadResponse),
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::Close,
        };
        if to_head_request || self.is_interim() || matches!(self.status, 204 | 304) {
            self.framing = Framing::Length(0);
        }
        Ok(())
    }

    /// 1xx: another head follows.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether the connection may be used again after this response.
    pub(crate) fn keeps_alive(&self) -> bool {
        !self.options.close
            && (!self.old || self.options.keep_alive)
            && self.framing != Framing::Close
    }

    /// Whether this 101 switches to a protocol that `offered` names.
    pub(crate) fn switches_to(&self, offered: &[u8]) -> bool {
        self.options.upgrade
            && !self.upgrade.is_empty()
            && field::list(self.upgrade)
                .all(|p| field::list(offered).any(|o| o.eq_ignore_ascii_case(p)))
    }
}

fn keep_alive_timeout(value: &[u8]) -> Option<u64> {
    field::list(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked(b"timeout=".len())?;
        name.eq_ignore_ascii_case(b"timeout=").then(|| field::number(seconds))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T>(head: &str, of: impl FnOnce(Head<'_, '_>) -> T) -> Result<T, Reason> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        Head::parse(head.as_bytes(), &mut slots, 128, false).map(|h| of(h.expect("complete")))
    }

    #[test]
    fn framing() {
        let framing = |fields: &str| {
            parse(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), |h| (h.framing, h.keeps_alive()))
        };
        assert_eq!(framing(""), Ok((Framing::Close, false)));
        assert_eq!(framing("Content-Length: 5\r\n"), Ok((Framing::Length(5), true)));
        let twice = "Content-Length: 5\r\nContent-Length: 5\r\n";
        assert_eq!(framing(twice), Ok((Framing::Length(5), true)));
        assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Ok((Framing::Chunked, true)));
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +5\r\n",
        ] {
            assert_eq!(framing(bad), Err(Reason::BadResponse), "{bad}");
        }
        let old = |f: &str| parse(&format!("HTTP/1.0 200 OK\r\n{f}\r\n"), |h| h.keeps_alive());
        assert_eq!(old("Content-Length: 5\r\n"), Ok(false));
        assert_eq!(old("Content-Length: 5\r\nConnection: keep-alive\r\n"), Ok(true));
        assert_eq!(old("Transfer-Encoding: chunked\r\n"), Err(Reason::BadResponse));
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_say() {
        let to = |head_request: bool, status: &str| {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
            let head = Head::parse(head.as_bytes(), &mut slots, 128, head_request)?.unwrap();
            Ok((head.framing, head.is_interim()))
        };
        for (status, length, interim) in [
            ("100", 0, true),
            ("199", 0, true),
            ("200", 5, false),
            ("204", 0, false),
            ("304", 0, false),
            ("599", 5, false),
        ] {
            assert_eq!(to(false, status), Ok((Framing::Length(length), interim)), "{status}");
        }
        assert_eq!(to(true, "200"), Ok((Framing::Length(0), false)));
        for status in ["099", "600"] {
            assert_eq!(to(false, status), Err(Reason::BadResponse), "{status}");
        }
    }

    #[test]
    fn a_stream_of_events_is_known_by_its_type() {
        let is =
            |field: &str| parse(&format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n"), |h| h.is_events);
        assert_eq!(is("content-type: Text/Event-Stream; charset=utf-8"), Ok(true));
        assert_eq!(is("Content-Type: text/plain"), Ok(false));
        assert_eq!(is("X-Event-Type: text/event-stream"), Ok(false));
    }

    #[test]
    fn keep_alive_says_how_long() {
        let head = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=7\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(parse(head, |head| head.idle), Ok(Some(7)));
        assert_eq!(keep_alive_timeout(b"timeout=5"), Some(5));
        assert_eq!(keep_alive_timeout(b"max=3, Timeout=72"), Some(72));
        assert_eq!(keep_alive_timeout(b"timeout=x"), None);
    }

    #[test]
    fn switching_needs_what_was_offered() {
        let head = "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        assert_eq!(parse(head, |h| h.switches_to(b"foo, websocket")), Ok(true));
        assert_eq!(parse(head, |h| h.switches_to(b"foo")), Ok(false));
        for without in
            ["Connection: upgrade", "Upgrade: websocket", "Connection: upgrade\r\nUpgrade:"]
        {
            let head = format!("HTTP/1.1 101 S\r\n{without}\r\n\r\n");
            assert_eq!(parse(&head, |h| h.switches_to(b"websocket")), Ok(false), "{without}");
        }
    }
}
