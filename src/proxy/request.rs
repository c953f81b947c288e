//! A client's request head: parsed in place, and checked far beyond what the parser checks.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Status};

use super::field::{self, Field, Kinds, MAX_FIELDS, Options};
use super::target::{Authority, RequestTarget};
use crate::front::Reason;

/// Room for the fields of a head, on the stack of whoever parses it.
pub(crate) type Slots<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// Longest method that is forwarded; the longest registered one has 17 bytes.
const MAX_METHOD: usize = 64;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection: responses only.
    Close,
}

/// A request head that may be forwarded. Borrows the buffer it was read into.
#[derive(Debug)]
pub(crate) struct Head<'h, 'b> {
    pub(crate) method: &'b [u8],
    pub(crate) target: RequestTarget<'b>,
    /// HTTP/1.0, where nothing may be assumed of the client.
    pub(crate) old: bool,
    pub(crate) fields: &'h [Header<'b>],
    pub(crate) kinds: Kinds,
    /// Whom the request is for: from the target, or else `Host`; only HTTP/1.0 may leave it out.
    pub(crate) authority: Option<Authority<'b>>,
    pub(crate) options: Options<'b>,
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
    /// The `Upgrade` field, when the request may be upgraded.
    pub(crate) upgrade: Option<&'b [u8]>,
    pub(crate) takes_trailers: bool,
    /// How many more may pass on an `OPTIONS` or a `TRACE`.
    pub(crate) max_forwards: Option<u64>,
    pub(crate) accept: &'b [u8],
    /// Bytes of the head, with the empty line.
    pub(crate) len: usize,
}

impl<'h, 'b> Head<'h, 'b> {
    /// Parses the head at the start of `buffer`; `None` when it is not complete yet.
    pub(crate) fn parse(
        buffer: &'b [u8],
        slots: &'h mut Slots<'b>,
        max_fields: usize,
    ) -> Result<Option<Self>, Reason> {
        let max_fields = max_fields.min(MAX_FIELDS);
        let mut request = httparse::Request::new(&mut []);
        let len = match request.parse_with_uninit_headers(buffer, &mut slots[..max_fields]) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) => return Ok(None),
            Err(Error::Version) => return Err(version_error(buffer)),
            Err(Error::TooManyHeaders) => return Err(Reason::TooManyFields),
            Err(_) => return Err(Reason::MalformedHead),
        };
        let method = request.method.unwrap_or_default().as_bytes();
        let begins = field::offset(buffer, method);
        if !lines_end_in_crlf(&buffer[..len], begins, request.headers) {
            return Err(Reason::MalformedHead);
        }
        let path = request.path.unwrap_or_default().as_bytes();
        if method == b"CONNECT" {
            // Its target is an authority with a port, and no reverse proxy serves it.
            let valid = Authority::parse(path).is_some_and(|a| a.host.len() + 1 < a.text.len());
            return Err(if valid { Reason::Connect } else { Reason::MalformedTarget });
        }
        if method.len() > MAX_METHOD {
            return Err(Reason::UnknownMethod);
        }
        let target = RequestTarget::parse(path).ok_or(Reason::MalformedTarget)?;
        if target == RequestTarget::Asterisk && method != b"OPTIONS" {
            return Err(Reason::MalformedTarget);
        }
        let mut head = Self {
            method,
            target,
            old: request.version == Some(0),
            fields: request.headers,
            kinds: Kinds::new(),
            authority: None,
            options: Options::default(),
            framing: Framing::Length(0),
            expects_continue: false,
            upgrade: None,
            takes_trailers: false,
            max_forwards: None,
            accept: b"",
            len,
        };
        head.read_fields()?;
        Ok(Some(head))
    }

    fn read_fields(&mut self) -> Result<(), Reason> {
        let mut host: Option<&[u8]> = None;
        let mut length = None;
        let mut coding: Option<&[u8]> = None;
        let mut expect: Option<&[u8]> = None;
        let mut upgrade: Option<&[u8]> = None;
        let mut upgrades = 0;
        for (at, field) in self.fields.iter().enumerate() {
            match self.kinds.learn(at, field.name.as_bytes()) {
                Field::Host if host.is_some() => return Err(Reason::MalformedHost),
                Field::Host => host = Some(field.value),
                // Twice the same length is legal, and nobody but a smuggler sends it.
                Field::ContentLength if length.is_some() => return Err(Reason::MalformedFraming),
                Field::ContentLength => {
                    length = Some(field::number(field.value).ok_or(Reason::MalformedFraming)?);
                }
                Field::TransferEncoding if coding.is_some() => {
                    return Err(Reason::MalformedFraming);
                }
                Field::TransferEncoding => coding = Some(field.value),
                Field::Connection if !self.options.add(field.value) => {
                    return Err(Reason::MalformedHead);
                }
                Field::Upgrade => {
                    upgrade = Some(field.value);
                    upgrades += 1;
                }
                Field::Expect if expect.is_some() => return Err(Reason::UnknownExpectation),
                Field::Expect => expect = Some(field.value),
                Field::Te => {
                    self.takes_trailers |=
                        field::list(field.value).any(|t| t.eq_ignore_ascii_case(b"trailers"));
                }
                Field::Accept if self.accept.is_empty() => self.accept = field.value,
                _ => {}
            }
        }
        self.framing = self.read_framing(length, coding)?;
        self.read_authority(host)?;
        if matches!(self.method, b"OPTIONS" | b"TRACE") {
            self.max_forwards = self.read_max_forwards()?;
        }
        if let Some(expect) = expect
            && !self.old
        {
            if !expect.eq_ignore_ascii_case(b"100-continue") {
                return Err(Reason::UnknownExpectation);
            }
            // Without a body there is nothing to wait for, and a server that did would hang.
            self.expects_continue = self.has_body();
        }
        if let Some(upgrade) = upgrade {
            // HTTP/2 in the clear is never spoken behind our back, and a body before the other
            // protocol would make it unclear where that one starts.
            let h2 = |p: &[u8]| p.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"h2"));
            let valid = upgrades == 1
                && self.options.upgrade
                && !self.old
                && self.method == b"GET"
                && !self.has_body()
                && !field::list(upgrade).any(h2);
            self.upgrade = valid.then_some(upgrade).filter(|u| !u.is_empty());
        }
        Ok(())
    }

    fn read_framing(&self, length: Option<u64>, coding: Option<&[u8]>) -> Result<Framing, Reason> {
        let Some(coding) = coding else { return Ok(Framing::Length(length.unwrap_or(0))) };
        if self.old {
            return Err(Reason::MalformedFraming);
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            // One well-formed coding is only unknown to us; anything else is an attempt.
            let unknown = field::is_token(coding);
            return Err(if unknown { Reason::UnknownCoding } else { Reason::MalformedFraming });
        }
        if length.is_some() {
            return Err(Reason::MalformedFraming);
        }
        Ok(Framing::Chunked)
    }

    fn read_max_forwards(&self) -> Result<Option<u64>, Reason> {
        let mut all = self.fields.iter().filter(|f| field::is_max_forwards(f.name.as_bytes()));
        let Some(only) = all.next() else { return Ok(None) };
        let number = field::number(only.value).filter(|_| all.next().is_none());
        number.map(Some).ok_or(Reason::MalformedHead)
    }

    fn read_authority(&mut self, host: Option<&'b [u8]>) -> Result<(), Reason> {
        let host = match host {
            Some(host) => Some(Authority::parse(host).ok_or(Reason::MalformedHost)?),
            None if self.old => None,
            None => return Err(Reason::MalformedHost),
        };
        self.authority = match self.target {
            RequestTarget::Absolute { authority, .. } => Some(authority),
            _ => host,
        };
        Ok(())
    }

    /// Whether a body follows the head.
    pub(crate) fn has_body(&self) -> bool {
        self.framing != Framing::Length(0)
    }

    /// Whether the client takes another request on this connection.
    pub(crate) fn keeps_alive(&self) -> bool {
        !self.options.close && (!self.old || self.options.keep_alive)
    }

    /// Whether asking twice is the same as asking once (RFC 9110 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
    }
}

/// Whether no line of a head that was parsed ends in a bare LF, which the parser lets pass. What is
/// before `begins` are empty lines.
pub(crate) fn lines_end_in_crlf(head: &[u8], begins: usize, fields: &[Header<'_>]) -> bool {
    // The parser lets an LF be nowhere but at the end of a line, so looking there will do.
    let empty = head[..begins].as_chunks::<2>();
    let all = empty.1.is_empty()
        && empty.0.iter().all(|line| line == b"\r\n")
        && fields.iter().all(|field| {
            let at = field::offset(head, field.name.as_bytes());
            head.get(at.wrapping_sub(2)..at) == Some(b"\r\n")
        })
        && head.ends_with(b"\r\n\r\n");
    debug_assert_eq!(all, !has_bare_lf(head), "{}", head.escape_ascii());
    all
}

/// Whether there is an LF without a CR before it, wherever it is.
fn has_bare_lf(head: &[u8]) -> bool {
    head.first() == Some(&b'\n') || head.windows(2).any(|w| w[1] == b'\n' && w[0] != b'\r')
}

/// What is wrong with a version that the parser refused: another one, or none at all.
fn version_error(buffer: &[u8]) -> Reason {
    let line = &buffer[..memchr::memchr(b'\r', buffer).unwrap_or(buffer.len())];
    if memchr::memchr_iter(b' ', line).count() != 2 {
        return Reason::MalformedHead; // a target with a space, whatever comes behind it
    }
    let version = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
    match version.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Reason::UnknownVersion
        }
        _ => Reason::MalformedHead,
    }
}

/// Makes a request of a later minor version, as which it may be read (RFC 9112 2.3), one of HTTP/1.1.
/// False when it is none.
pub(crate) fn read_as_1_1(buffer: &mut [u8]) -> bool {
    let end = memchr::memchr(b'\r', buffer).unwrap_or(buffer.len());
    match buffer[..end].last_chunk_mut::<9>() {
        Some([b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9']) => {
            *minor = b'1';
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(head: &str) -> Result<Framing, Reason> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        Head::parse(head.as_bytes(), &mut slots, 128).map(|h| h.expect("complete").framing)
    }

    fn with(fields: &str) -> Result<Framing, Reason> {
        verdict(&format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn framing() {
        assert_eq!(with(""), Ok(Framing::Length(0)));
        assert_eq!(with("Content-Length: 5 \r\n"), Ok(Framing::Length(5)));
        assert_eq!(with("Transfer-Encoding:\tChunked\t\r\n"), Ok(Framing::Chunked));
        assert_eq!(with("Transfer-Encoding: gzip\r\n"), Err(Reason::UnknownCoding));
        for bad in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: \r\n",
        ] {
            assert_eq!(with(bad), Err(Reason::MalformedFraming), "{bad}");
        }
    }

    fn parsed<T>(head: &str, of: impl FnOnce(Head<'_, '_>) -> T) -> Result<T, Reason> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        Head::parse(head.as_bytes(), &mut slots, 128).map(|head| of(head.expect("complete")))
    }

    #[test]
    fn a_target_goes_with_its_method() {
        let longest = "M".repeat(64);
        for (line, expected) in [
            ("OPTIONS *", None),
            ("GET *", Some(Reason::MalformedTarget)),
            ("CONNECT a:80", Some(Reason::Connect)),
            ("CONNECT a:", Some(Reason::MalformedTarget)),
            ("CONNECT a", Some(Reason::MalformedTarget)),
            (&format!("{longest} /"), None),
            (&format!("{longest}M /"), Some(Reason::UnknownMethod)),
        ] {
            let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(verdict(&head).err(), expected, "{line}");
        }
    }

    #[test]
    fn a_request_says_once_for_whom_it_is() {
        let of = |head: &str| {
            parsed(head, |head| head.authority.map(|a| String::from_utf8(a.text.to_vec()).unwrap()))
        };
        let a = || Ok(Some("a".to_owned()));
        assert_eq!(of("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), a());
        assert_eq!(of("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"), a());
        assert_eq!(of("GET / HTTP/1.0\r\n\r\n"), Ok(None));
        for bad in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n"] {
            let head = format!("GET / HTTP/1.1\r\n{bad}\r\n");
            assert_eq!(of(&head), Err(Reason::MalformedHost), "{bad}");
        }
    }

    #[test]
    fn what_is_expected_is_known_and_only_waited_for_with_a_body() {
        let waits = |version: &str, fields: &str| {
            let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
            parsed(&head, |head| head.expects_continue)
        };
        let (expect, body) = ("Expect: 100-Continue\r\n", "Content-Length: 1\r\n");
        assert_eq!(waits("1.1", &format!("{expect}{body}")), Ok(true));
        assert_eq!(waits("1.1", expect), Ok(false));
        assert_eq!(waits("1.1", body), Ok(false));
        assert_eq!(waits("1.0", &format!("{expect}{body}")), Ok(false));
        for bad in [format!("{expect}{expect}"), "Expect: 200-ok\r\n".to_owned()] {
            assert_eq!(waits("1.1", &bad), Err(Reason::UnknownExpectation), "{bad}");
        }
    }

    #[test]
    fn what_the_client_takes_is_read() {
        let takes = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            parsed(&head, |head| (head.takes_trailers, head.accept.to_vec())).unwrap()
        };
        assert_eq!(takes(""), (false, vec![]));
        assert_eq!(takes("TE: gzip\r\n"), (false, vec![]));
        assert_eq!(takes("TE: gzip, Trailers\r\nTE: gzip\r\n"), (true, vec![]));
        assert_eq!(takes("Accept: a\r\nAccept: b\r\n"), (false, b"a".to_vec()));
    }

    #[test]
    fn a_connection_goes_on_by_its_version_and_options() {
        for (version, options, goes_on) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{options}\r\n");
            let found = parsed(&head, |head| head.keeps_alive());
            assert_eq!(found, Ok(goes_on), "{version} {options}");
        }
    }

    #[test]
    fn only_some_methods_may_be_asked_twice() {
        for (method, may) in [("GET", true), ("DELETE", true), ("POST", false), ("PATCH", false)] {
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(parsed(&head, |head| head.is_idempotent()), Ok(may), "{method}");
        }
    }

    #[test]
    fn upgrades_that_may_pass() {
        let upgrade = |head: &str| {
            let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
            let head = Head::parse(head.as_bytes(), &mut slots, 128).unwrap().unwrap();
            head.upgrade.is_some()
        };
        let get = |fields: &str| upgrade(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert!(get("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"));
        assert!(!get("Upgrade: websocket\r\n"));
        assert!(!get("Connection: upgrade\r\nUpgrade: h2c\r\n"));
        assert!(!get("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: foo\r\n"));
        assert!(!get("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n"));
    }

    #[test]
    fn a_bare_line_feed_is_found_wherever_it_is() {
        let head = "GET / HTTP/1.1\r\nHost: a.example\r\nA: b\r\nUser-Agent: somebody\r\n\r\n";
        assert_eq!(verdict(head), Ok(Framing::Length(0)));
        assert_eq!(verdict(&format!("\r\n\r\n{head}")), Ok(Framing::Length(0)));
        for head in [head, "GET / HTTP/1.1\r\n\r\n"] {
            for at in (0..head.len()).filter(|at| &head[*at..=*at] == "\n") {
                // The CR is gone, or there is another LF: before the line, between CR and LF.
                let without = [&head[..at - 1], &head[at..]].concat();
                assert_eq!(verdict(&without), Err(Reason::MalformedHead), "{without:?}");
                for at in [0, at - 1, at] {
                    let more = [&head[..at], "\n", &head[at..]].concat();
                    if more.starts_with(head) {
                        continue; // it is behind the head
                    }
                    assert_eq!(verdict(&more), Err(Reason::MalformedHead), "{more:?}");
                }
            }
        }
    }

    /// A head with two CRs or LFs too many, wherever they are, passes only without a bare LF; and what
    /// is looked at to see that is compared with the whole head by an assertion in the parser.
    #[test]
    fn line_ends_are_all_that_has_to_be_looked_at() {
        let head = "GET /a HTTP/1.1\r\nHost: a\r\nB:\r\n\r\n";
        let mut refused = 0;
        for (first, second) in (0..=head.len()).flat_map(|a| (0..=a).map(move |b| (a, b))) {
            for more in ["\r\r", "\r\n", "\n\r", "\n\n"] {
                let mut bytes = head.to_owned();
                bytes.insert_str(first, &more[..1]);
                bytes.insert_str(second, &more[1..]);
                let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
                if let Ok(Some(parsed)) = Head::parse(bytes.as_bytes(), &mut slots, 128) {
                    assert!(!has_bare_lf(&bytes.as_bytes()[..parsed.len]), "{bytes:?}");
                } else {
                    refused += 1;
                }
            }
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn versions() {
        assert_eq!(verdict("GET / HTTP/2.0\r\n\r\n"), Err(Reason::UnknownVersion));
        assert_eq!(verdict("GET / HTTP/01.01\r\n\r\n"), Err(Reason::MalformedHead));
        for bad in ["http/1.1", "HTTP/x.1", "HTTP/1.x"] {
            let head = format!("GET / {bad}\r\n\r\n");
            assert_eq!(verdict(&head), Err(Reason::MalformedHead), "{bad}");
        }
        for (line, read) in [
            ("GET / HTTP/1.2\r\nA: b", Some("GET / HTTP/1.1\r\nA: b")),
            ("GET / HTTP/1.9", Some("GET / HTTP/1.1")),
            ("GET / HTTP/1.1\r\n", None),
            ("GET / HTTP/1.0\r\n", None),
            ("GET / HTTP/2.2\r\n", None),
            ("GET / HTTP/1.12\r\n", None),
        ] {
            let mut head = line.as_bytes().to_vec();
            assert_eq!(read_as_1_1(&mut head), read.is_some(), "{line}");
            assert_eq!(head, read.unwrap_or(line).as_bytes());
        }
    }
}
