//! The request-target and the authority: which bytes they may have and which form they take.

use std::net::Ipv6Addr;

use crate::front::router::MAX_HOST;

/// A request-target (RFC 9112 3.2) of a form that a reverse proxy serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestTarget<'b> {
    /// `/path?query`
    Origin(&'b [u8]),
    /// `http://authority/path?query`; the path may be empty.
    Absolute { authority: Authority<'b>, path: &'b [u8] },
    /// `*`
    Asterisk,
}

/// `host` or `host:port`, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authority<'b> {
    /// As it was written.
    pub(crate) text: &'b [u8],
    /// Without the port.
    pub(crate) host: &'b [u8],
}

impl<'b> RequestTarget<'b> {
    /// Parses the target of any method but `CONNECT`.
    pub(crate) fn parse(target: &'b [u8]) -> Option<Self> {
        if target == b"*" {
            return Some(Self::Asterisk);
        }
        if target.first() == Some(&b'/') {
            return is_path(target).then_some(Self::Origin(target));
        }
        let rest = strip_prefix_ignore_case(target, b"http://")
            .or_else(|| strip_prefix_ignore_case(target, b"https://"))?;
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = Authority::parse(authority)?;
        is_path(path).then_some(Self::Absolute { authority, path })
    }

    /// The path and query.
    pub(crate) fn path(&self) -> &'b [u8] {
        match self {
            Self::Origin(path) | Self::Absolute { path, .. } => path,
            Self::Asterisk => b"*",
        }
    }
}

impl<'b> Authority<'b> {
    /// Parses `uri-host [":" port]`; user information, lists and empty hosts are refused.
    pub(crate) fn parse(text: &'b [u8]) -> Option<Self> {
        let (host, port) = if text.first() == Some(&b'[') {
            let end = memchr::memchr(b']', text)?;
            let address = std::str::from_utf8(&text[1..end]).ok()?;
            address.parse::<Ipv6Addr>().ok()?;
            text.split_at(end + 1)
        } else {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            let (host, port) = text.split_at(end);
            let valid = |b: &u8| HOST_BYTE[usize::from(*b)];
            if host.is_empty() || host.len() > MAX_HOST || !host.iter().all(valid) {
                return None;
            }
            (host, port)
        };
        let port_is_valid = match port {
            [] => true,
            [b':', digits @ ..] => {
                digits.is_empty()
                    || (digits.len() <= 5
                        && super::field::number(digits).is_some_and(|p| p < 65536))
            }
            _ => false,
        };
        port_is_valid.then_some(Self { text, host })
    }
}

/// Whether a path and query have only bytes that every server reads the same way.
///
/// Some that RFC 3986 forbids are let through because browsers send them unescaped in queries.
/// Dot segments are not: clients resolve them before they ask, so what has them wants to be routed
/// by one path and served by another.
fn is_path(path: &[u8]) -> bool {
    // Most paths have nothing in them that needs a second look.
    let seen = path.iter().fold(0, |seen, byte| seen | PATH_BYTE[usize::from(*byte)]);
    if seen != SUSPECT {
        return seen == 0;
    }
    let path = &path[..memchr::memchr(b'?', path).unwrap_or(path.len())];
    memchr::memchr2(b'\\', b'`', path).is_none()
        && escapes_are_valid(path)
        && !has_dot_segment(path)
}

/// The bytes of a host name.
const HOST_BYTE: [bool; 256] = super::field::table(b"-._~");

/// A byte that no path or query may have.
const FORBIDDEN: u8 = 1;
/// A byte that matters to what is checked in paths.
const SUSPECT: u8 = 2;

/// Allowed is visible ASCII but for quotes, angle brackets and the fragment's `#`; in queries alone, the
/// backslash, which browsers send there and take for a slash in a path, and the backtick, which they escape
/// in a path.
const PATH_BYTE: [u8; 256] = {
    let mut table = [FORBIDDEN; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = match byte {
            b'"' | b'<' | b'>' | b'#' => FORBIDDEN,
            b'?' | b'%' | b'.' | b'\\' | b'`' => SUSPECT,
            _ => 0,
        };
        byte += 1;
    }
    table
};

fn escapes_are_valid(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path)
        .all(|at| path.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

fn has_dot_segment(path: &[u8]) -> bool {
    // Nearly no path has a segment that begins with a dot, written out or escaped.
    let mut suspects = memchr::memchr_iter(b'/', path)
        .filter(|at| matches!(path.get(at + 1), Some(b'.' | b'%')))
        .peekable();
    suspects.peek().is_some()
        && path.split(|b| *b == b'/').any(|segment| {
            let segment = segment.to_ascii_lowercase();
            matches!(segment.as_slice(), b"." | b".." | b"%2e" | b".%2e" | b"%2e." | b"%2e%2e")
        })
}

fn strip_prefix_ignore_case<'b>(bytes: &'b [u8], prefix: &[u8]) -> Option<&'b [u8]> {
    let (start, rest) = bytes.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let longest = "a".repeat(255);
        for good in [
            "a",
            "a.example",
            "a_b.example:80",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "a:",
            "a:65535",
            &longest,
        ] {
            assert!(Authority::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            &format!("{longest}a"),
            "a:65536",
            ":80",
            "a b",
            "a,b",
            "u@a",
            "a:99999",
            "a:+1",
            "a:b",
            "[::1",
            "[a]",
            "[::1]x",
            "a/b",
            "a\0",
            "[::1]:123456",
            "\u{e9}",
        ] {
            assert!(Authority::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn forms() {
        assert_eq!(RequestTarget::parse(b"*"), Some(RequestTarget::Asterisk));
        assert_eq!(RequestTarget::parse(b"/a?b=|"), Some(RequestTarget::Origin(b"/a?b=|")));
        let Some(RequestTarget::Absolute { authority, path }) =
            RequestTarget::parse(b"HTTP://b.example:1?q")
        else {
            panic!("absolute form");
        };
        assert_eq!((authority.host, path), (&b"b.example"[..], &b"?q"[..]));
        for (target, path) in [("*", "*"), ("/a?b", "/a?b"), ("http://a/b?c", "/b?c")] {
            let parsed = RequestTarget::parse(target.as_bytes()).unwrap();
            assert_eq!(parsed.path(), path.as_bytes());
        }
        for bad in ["", "a", "ftp://a/", "http://", "http:///x", "http://u@a/", "/a#b", "/a\\b"] {
            assert_eq!(RequestTarget::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    /// Which bytes reach a server must not hang on the version that a client speaks.
    #[test]
    fn what_is_taken_over_http1_is_taken_over_http2() {
        for byte in 0..=255 {
            for target in
                [[b"/a".as_slice(), &[byte], b"b"].concat(), [b"/?a=".as_slice(), &[byte]].concat()]
            {
                let taken = RequestTarget::parse(&target).is_some();
                let over_http2 = http::uri::PathAndQuery::try_from(target.as_slice()).is_ok();
                // What HTTP/2's parser lets through is looked at by this one, too.
                assert!(!taken || over_http2 || byte == b'#', "{}", target.escape_ascii());
            }
        }
    }

    #[test]
    fn browsers_send_a_backslash_in_a_query_and_never_in_a_path() {
        assert!(RequestTarget::parse(b"/files?name=C:\\x&q=`").is_some());
        for bad in ["/a\\b", "/a\\b?c", "/..\\x?", "/a`b"] {
            assert_eq!(RequestTarget::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_servers_may_read_differently_is_refused() {
        for bad in ["/a/../b", "/..", "/./a", "/%2e%2E/a", "/a/.%2e", "/%zz", "/%2", "/a\u{e9}"] {
            assert_eq!(RequestTarget::parse(bad.as_bytes()), None, "{bad}");
        }
        for good in ["/.well-known/x", "/...", "/a..b", "/a%00b", "/?x=%zz&y=../.."] {
            assert!(RequestTarget::parse(good.as_bytes()).is_some(), "{good}");
        }
    }
}
