//! From bytes to requests: an incremental parser that never looks at a byte twice and never
//! believes a length before its bytes are there.

use std::ops::Range;

use thiserror::Error;

/// What one client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one argument.
    pub bulk: usize,
    /// Arguments of one request.
    pub arguments: usize,
    /// Bytes of a line: an inline request, or a length.
    pub inline: usize,
    /// Bytes of one whole request.
    pub request: usize,
}

/// Why a connection cannot go on: what follows in its stream has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ProtocolError {
    /// `*` is not followed by a number that is allowed.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// More arguments than a client may send before it authenticates.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedArrayLength,
    /// `$` is not followed by a number that is allowed.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A longer argument than a client may send before it authenticates.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument that does not begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    /// An inline request, or a line with a length, without an end.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// An array length without an end.
    #[error("Protocol error: too big mbulk count string")]
    ArrayLineTooLong,
    /// A bulk length without an end.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooLong,
    /// Quotes of an inline request that do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The arguments together are too large.
    #[error("Protocol error: the request is larger than {0} bytes")]
    RequestTooLarge(usize),
}

/// The arguments of one request, the command's name first.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

/// The state between two reads of one connection.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// How far the buffer has been read.
    position: usize,
    /// Arguments of the current array that are still missing.
    missing: usize,
    /// The length of the argument whose bytes come next.
    bulk: Option<usize>,
    ranges: Vec<Range<usize>>,
    /// The unquoted bytes of an inline request; `ranges` point here when `inline` is set.
    unquoted: Vec<u8>,
    inline: bool,
    /// Where the search for a line's end goes on.
    searched: usize,
}

/// Before authentication nobody needs more than `HELLO 3 AUTH name password SETNAME name`.
const UNAUTHENTICATED_ARGUMENTS: i64 = 10;
const UNAUTHENTICATED_BULK: usize = 16 * 1024;

/// Ranges kept for the next request; more than this many are given back to the allocator.
const KEPT_RANGES: usize = 1024;

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk: 32 * 1024 * 1024, // a session of more is a mistake; Redis itself takes 512 MiB
            arguments: 1024 * 1024,
            inline: 64 * 1024,
            request: 64 * 1024 * 1024,
        }
    }
}

// === impl Arguments ===

impl<'a> Arguments<'a> {
    /// The arguments that lie at `ranges` of `bytes`.
    pub fn new(bytes: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { bytes, ranges }
    }

    /// How many there are, the command's name included.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is not even a name.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Argument `index`; empty when there is none, so that handlers whose arity was checked need
    /// no second check.
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.get(index).unwrap_or_default()
    }

    /// Argument `index`.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.ranges.get(index)?.clone())
    }

    /// All arguments from `index` on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        let ranges = self.ranges.get(index..).unwrap_or_default();
        ranges.iter().map(move |range| bytes.get(range.clone()).unwrap_or_default())
    }
}

// === impl Parser ===

impl Parser {
    /// Reads on in `buffer`, which begins with the request that the last call left incomplete.
    ///
    /// Returns how many bytes the request takes once it is whole; its arguments are then
    /// [`Parser::arguments`] until [`Parser::finish`]. An empty request (an empty line, `*0`) has
    /// no arguments and gets no reply.
    pub(crate) fn parse(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        authenticated: bool,
    ) -> Result<Option<usize>, ProtocolError> {
        if self.position == 0 {
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(line) =
                        self.line(buffer, limits.inline, ProtocolError::ArrayLineTooLong)?
                    else {
                        return Ok(None);
                    };
                    let length = number(&buffer[1..line.end]).ok_or(ProtocolError::ArrayLength)?;
                    if length > limits.arguments.cast_signed() as i64 {
                        return Err(ProtocolError::ArrayLength);
                    }
                    if !authenticated && length > UNAUTHENTICATED_ARGUMENTS {
                        return Err(ProtocolError::UnauthenticatedArrayLength);
                    }
                    if length <= 0 {
                        return Ok(Some(self.position));
                    }
                    self.missing = usize::try_from(length).unwrap_or_default();
                }
                Some(_) => return self.parse_inline(buffer, limits),
            }
        }
        while self.missing > 0 {
            if !self.parse_bulk(buffer, limits, authenticated)? {
                return Ok(None);
            }
        }
        Ok(Some(self.position))
    }

    /// The arguments of the request that is whole.
    pub(crate) fn arguments<'a>(&'a self, buffer: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: if self.inline { &self.unquoted } else { buffer }, ranges: &self.ranges }
    }

    /// Forgets the request that was whole; the caller drops its bytes from the buffer.
    pub(crate) fn finish(&mut self) {
        let mut ranges = std::mem::take(&mut self.ranges);
        ranges.clear();
        ranges.shrink_to(KEPT_RANGES);
        self.unquoted.clear();
        let unquoted = std::mem::take(&mut self.unquoted);
        *self = Self { ranges, unquoted, ..Self::default() };
    }

    /// Bytes that the current request will take at least: what a buffer may grow to at once.
    pub(crate) fn wanted(&self) -> usize {
        self.position + self.bulk.map_or(0, |length| length + 2)
    }

    /// Bytes this parser holds on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<Range<usize>>() + self.unquoted.capacity()
    }

    /// Whether a request has begun and is not whole yet.
    pub(crate) fn is_midway(&self) -> bool {
        self.position > 0
    }

    fn parse_bulk(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        authenticated: bool,
    ) -> Result<bool, ProtocolError> {
        let length = if let Some(length) = self.bulk {
            length
        } else {
            match buffer.get(self.position) {
                None => return Ok(false),
                Some(b'$') => {}
                Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
            }
            let start = self.position + 1;
            let Some(line) = self.line(buffer, limits.inline, ProtocolError::BulkLineTooLong)?
            else {
                return Ok(false);
            };
            let length = number(&buffer[start..line.end])
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| *length <= limits.bulk)
                .ok_or(ProtocolError::BulkLength)?;
            if !authenticated && length > UNAUTHENTICATED_BULK {
                return Err(ProtocolError::UnauthenticatedBulkLength);
            }
            if self.position + length > limits.request {
                return Err(ProtocolError::RequestTooLarge(limits.request));
            }
            self.bulk = Some(length);
            length
        };
        let end = self.position + length;
        // The two bytes after an argument are skipped unread, as Redis itself does.
        if buffer.len() < end + 2 {
            return Ok(false);
        }
        self.ranges.push(self.position..end);
        self.position = end + 2;
        self.searched = self.position;
        self.bulk = None;
        self.missing -= 1;
        Ok(true)
    }

    /// The line at the current position, without its end; moves behind it when it is whole.
    fn line(
        &mut self,
        buffer: &[u8],
        longest: usize,
        too_long: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let start = self.position;
        let from = self.searched.max(start);
        let Some(found) = memchr::memchr(b'\r', &buffer[from..]) else {
            self.searched = buffer.len();
            return if buffer.len() - start > longest { Err(too_long) } else { Ok(None) };
        };
        let end = from + found;
        if buffer.len() < end + 2 {
            self.searched = end;
            return if end - start > longest { Err(too_long) } else { Ok(None) };
        }
        self.position = end + 2;
        self.searched = self.position;
        Ok(Some(start..end))
    }

    fn parse_inline(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched.min(buffer.len());
        let Some(found) = memchr::memchr(b'\n', &buffer[from..]) else {
            self.searched = buffer.len();
            return if buffer.len() > limits.inline {
                Err(ProtocolError::InlineTooLong)
            } else {
                Ok(None)
            };
        };
        let end = from + found;
        if end > limits.inline {
            return Err(ProtocolError::InlineTooLong);
        }
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        self.inline = true;
        split_inline(line, &mut self.unquoted, &mut self.ranges)
            .ok_or(ProtocolError::UnbalancedQuotes)?;
        self.position = end + 1;
        Ok(Some(self.position))
    }
}

/// A decimal number exactly as Redis takes it: an optional minus, no plus, no leading zeros.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = digits == b"0" && digits.len() == text.len()
        || (matches!(digits.first(), Some(b'1'..=b'9')) && digits.iter().all(u8::is_ascii_digit));
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Splits a line as a shell would: blanks separate, `"…"` knows escapes, `'…'` only `\'`.
fn split_inline(line: &[u8], bytes: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) -> Option<()> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(());
        }
        let start = bytes.len();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'"' => {
                    rest = double_quoted(rest, bytes)?;
                    end_of_quotes(rest)?;
                }
                b'\'' => {
                    rest = single_quoted(rest, bytes)?;
                    end_of_quotes(rest)?;
                }
                byte if byte.is_ascii_whitespace() || byte == 0 => break,
                byte => bytes.push(byte),
            }
        }
        ranges.push(start..bytes.len());
    }
}

/// A closing quote ends its argument: what follows must be a blank.
fn end_of_quotes(rest: &[u8]) -> Option<()> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some(())
}

fn double_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                bytes.push(hex(*high) * 16 + hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                bytes.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '?' }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Requests = Vec<Vec<Vec<u8>>>;

    /// What the bytes mean when they come in pieces of this size.
    fn parse(
        input: &[u8],
        piece: usize,
        limits: &Limits,
        authenticated: bool,
    ) -> Result<Requests, ProtocolError> {
        let (mut parser, mut buffer, mut requests) = (Parser::default(), Vec::new(), Vec::new());
        for piece in input.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(taken) = parser.parse(&buffer, limits, authenticated)? {
                let arguments = parser.arguments(&buffer);
                let all: Vec<Vec<u8>> = arguments.from(0).map(<[u8]>::to_vec).collect();
                assert_eq!(arguments.is_empty(), all.is_empty());
                requests.push(all);
                parser.finish();
                assert!(!parser.is_midway());
                buffer.drain(..taken);
            }
        }
        Ok(requests)
    }

    /// The same however they are cut.
    fn of(input: &str, limits: &Limits, authenticated: bool) -> Result<Requests, ProtocolError> {
        let whole = parse(input.as_bytes(), input.len(), limits, authenticated);
        for piece in [1, 2, 3, 7] {
            assert_eq!(parse(input.as_bytes(), piece, limits, authenticated), whole, "{input:?}");
        }
        whole
    }

    const SMALL: Limits = Limits { bulk: 100, arguments: 5, inline: 20, request: 60 };

    #[test]
    fn requests_are_arrays_or_lines() {
        let nothing: &[&[&str]] = &[&[]];
        for (input, expected) in [
            ("*1\r\n$4\r\nPING\r\n", &[&["PING"][..]][..]),
            ("*2\r\n$3\r\nGET\r\n$0\r\n\r\nping\n", &[&["GET", ""], &["ping"]]),
            ("*0\r\n", nothing),
            ("*-1\r\n", nothing),
            ("\r\n", nothing),
            ("*1\r\n$4\r\nPI", &[]),
            ("PING", &[]),
            ("set  a\t'b \\' \\n' \"\\\"c\"\r\n", &[&["set", "a", "b ' \\n", "\"c"]]),
            (
                "\"\\x41\\x4a\\x4A\\xZZ\\n\\r\\t\\b\\a\\q\" \"\"\n",
                &[&["AJJxZZ\n\r\t\u{8}\u{7}q", ""]],
            ),
            ("a\0b c'd'\n", &[&["a", "b", "cd"]]),
        ] {
            let expected: Requests = expected
                .iter()
                .map(|request| request.iter().map(|word| word.as_bytes().to_vec()).collect())
                .collect();
            assert_eq!(of(input, &Limits::default(), true), Ok(expected), "{input:?}");
        }
    }

    #[test]
    fn what_has_no_meaning_says_why() {
        use ProtocolError as E;
        for (input, error) in [
            ("*x\r\n", E::ArrayLength),
            ("*\r\n", E::ArrayLength),
            ("*01\r\n", E::ArrayLength),
            ("*+1\r\n", E::ArrayLength),
            ("*-0\r\n", E::ArrayLength),
            ("*1x\r\n", E::ArrayLength),
            ("*1048577\r\n", E::ArrayLength),
            ("*1\r\n:1\r\n", E::ExpectedBulk(b':')),
            ("*1\r\n$-1\r\n", E::BulkLength),
            ("*1\r\n$33554433\r\n", E::BulkLength),
            ("\"a\n", E::UnbalancedQuotes),
            ("'a\n", E::UnbalancedQuotes),
            ("\"a\"b\n", E::UnbalancedQuotes),
            ("'a'b\n", E::UnbalancedQuotes),
        ] {
            assert_eq!(of(input, &Limits::default(), true), Err(error), "{input:?}");
        }
        assert_eq!(E::ExpectedBulk(b':').to_string(), "Protocol error: expected '$', got ':'");
        assert_eq!(E::ExpectedBulk(7).to_string(), "Protocol error: expected '$', got '?'");
    }

    #[test]
    fn whoever_has_not_said_who_it_is_may_send_little() {
        let unknown = |input: &str| of(input, &Limits::default(), false);
        assert_eq!(unknown("*10\r\n"), Ok(vec![]));
        assert_eq!(unknown("*11\r\n"), Err(ProtocolError::UnauthenticatedArrayLength));
        assert_eq!(of("*11\r\n", &Limits::default(), true), Ok(vec![]));
        assert_eq!(unknown("*1\r\n$16384\r\n"), Ok(vec![]));
        assert_eq!(unknown("*1\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedBulkLength));
        assert_eq!(of("*1\r\n$16385\r\n", &Limits::default(), true), Ok(vec![]));
    }

    #[test]
    fn every_part_has_a_largest_size() {
        use ProtocolError as E;
        let digits = |start: &str, count: usize| format!("{start}{}", "1".repeat(count));
        for (input, result) in [
            ("*5\r\n".to_owned(), Ok(0)),
            ("*6\r\n".to_owned(), Err(E::ArrayLength)),
            (digits("*", 19), Ok(0)),
            (digits("*", 20), Err(E::ArrayLineTooLong)),
            (digits("*1\r\n$", 19), Ok(0)),
            (digits("*1\r\n$", 20), Err(E::BulkLineTooLong)),
            ("*1\r\n$51\r\n".to_owned(), Ok(0)),
            ("*1\r\n$52\r\n".to_owned(), Err(E::RequestTooLarge(60))),
            (format!("*2\r\n$40\r\n{}\r\n$40\r\n", "x".repeat(40)), Err(E::RequestTooLarge(60))),
            ("x".repeat(20), Ok(0)),
            ("x".repeat(21), Err(E::InlineTooLong)),
            ("x".repeat(20) + "\n", Ok(1)),
            ("x".repeat(21) + "\n", Err(E::InlineTooLong)),
        ] {
            assert_eq!(
                of(&input, &SMALL, true).map(|requests| requests.len()),
                result,
                "{input:?}"
            );
        }
        // Its end is there by half.
        let begun = |input: &str| Parser::default().parse(input.as_bytes(), &SMALL, true);
        assert_eq!(begun(&(digits("*", 19) + "\r")), Ok(None));
        assert_eq!(begun(&(digits("*", 20) + "\r")), Err(E::ArrayLineTooLong));
        let usual =
            Limits { bulk: 33_554_432, arguments: 1_048_576, inline: 65_536, request: 67_108_864 };
        assert_eq!(Limits::default(), usual);
    }

    #[test]
    fn it_says_what_it_waits_for_and_what_it_holds() {
        let mut parser = Parser::default();
        let mut begin = |input: &str| {
            let whole = parser.parse(input.as_bytes(), &Limits::default(), true).unwrap();
            let said = (whole.is_some(), parser.wanted(), parser.is_midway(), parser.memory());
            if whole.is_some() {
                parser.finish();
            }
            (said, parser.memory())
        };
        assert_eq!(begin("").0, (false, 0, false, 0));
        assert_eq!(begin("*1\r\n$100\r\nabc").0, (false, 112, true, 0));
        let ((whole, .., held), kept) = begin(&format!("*1\r\n$100\r\n{}\r\n", "x".repeat(100)));
        assert!(whole && held == kept && (64..200).contains(&held), "{held}, {kept}");
        let ((whole, .., held), kept) = begin(&format!("{}\n", "x".repeat(100)));
        assert!(whole && held == kept && (164..400).contains(&held), "{held}, {kept}");
        let ((whole, .., held), kept) = begin(&format!("*5000\r\n{}", "$1\r\nx\r\n".repeat(5000)));
        assert!(whole && held >= 80_000 && (16_384..20_000).contains(&kept), "{held}, {kept}");
    }

    #[test]
    fn arguments_that_are_not_there_are_empty() {
        let ranges = [0..1, 1..3];
        let arguments = Arguments::new(b"abc", &ranges);
        assert_eq!((arguments.len(), arguments.is_empty()), (2, false));
        assert_eq!((arguments.at(1), arguments.at(2)), (&b"bc"[..], &b""[..]));
        assert_eq!((arguments.get(1), arguments.get(2)), (Some(&b"bc"[..]), None));
        assert_eq!(arguments.from(1).collect::<Vec<_>>(), [b"bc"]);
        assert_eq!(arguments.from(3).len(), 0);
    }
}
