//! Heads, from one version of HTTP to the other.
//!
//! What comes from outside is written as HTTP/1.1 and then read by the strict parsers; what those
//! have let through and rewritten is read here without asking again.

use std::io;
use std::sync::LazyLock;

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request};
use memchr::memmem::Finder;

use super::super::field;
use super::super::incoming::random;
use super::super::request::Framing;
use super::invalid;
use crate::front::Reason;

/// Writes a client's request as the HTTP/1.1 head that it means.
pub(super) fn request_to_http1(
    out: &mut Vec<u8>,
    head: &request::Parts,
    has_body: bool,
) -> Result<(), Reason> {
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let websocket = is_websocket(head);
    if !websocket && head.extensions.get::<Protocol>().is_some() {
        return Err(Reason::Connect);
    }
    let method = if websocket { &Method::GET } else { &head.method };
    let target = match (method, head.uri.path_and_query()) {
        (&Method::CONNECT, _) => authority.unwrap_or_default(),
        (_, Some(path)) => path.as_str(),
        (_, None) => return Err(Reason::MalformedTarget),
    };
    // Any other scheme than these two is somebody else's business.
    if !matches!(head.uri.scheme_str(), None | Some("http" | "https"))
        || method != Method::CONNECT && !target.starts_with('/') && target != "*"
    {
        return Err(Reason::MalformedTarget);
    }
    line(out, &[method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
    if let Some(authority) = authority {
        line(out, &[b"host: ", authority.as_bytes()]);
    }
    let (mut hosts, mut cookies, mut has_length) = (0, false, false);
    for (name, value) in &head.headers {
        match *name {
            header::HOST if let Some(authority) = authority => {
                // Somebody routes by the one and somebody by the other, so they must be the same.
                hosts += 1;
                if hosts > 1 || !value.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                    return Err(Reason::MalformedHost);
                }
            }
            // These are malformed in HTTP/2 (RFC 9113 8.2.2), and would be ours to write.
            header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => {
                return Err(Reason::MalformedHead);
            }
            header::COOKIE => cookies = true,
            // What follows is a conversation; and the key is ours to write.
            header::CONTENT_LENGTH if websocket => return Err(Reason::MalformedFraming),
            header::SEC_WEBSOCKET_KEY if websocket => {}
            // Some take the space off and some do not (RFC 9113 8.2.1).
            _ if value.as_bytes().trim_ascii() != value.as_bytes() => {
                return Err(Reason::MalformedHead);
            }
            _ => {
                has_length |= *name == header::CONTENT_LENGTH;
                line(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]);
            }
        }
    }
    if cookies {
        // Compression works better on crumbs; HTTP/1.1 knows one field only (RFC 9113 8.2.3).
        out.extend_from_slice(b"cookie: ");
        for (number, crumb) in head.headers.get_all(header::COOKIE).iter().enumerate() {
            out.extend_from_slice(if number == 0 { b"" } else { b"; " });
            out.extend_from_slice(crumb.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if websocket {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ");
        write_key(out);
    } else if has_body && !has_length {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Whether a request opens a WebSocket (RFC 8441).
pub(super) fn is_websocket(head: &request::Parts) -> bool {
    let protocol = head.extensions.get::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// Writes the line of a key, which only HTTP/1.1 has: 16 bytes in base64.
fn write_key(out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key = [0; 16];
    key[..8].copy_from_slice(&random().to_ne_bytes());
    key[8..].copy_from_slice(&random().to_ne_bytes());
    let mut bits = u128::from_ne_bytes(key);
    for _ in 0..21 {
        out.push(DIGITS[(bits >> 122) as usize]);
        bits <<= 6;
    }
    out.push(DIGITS[(bits >> 122) as usize]); // two bits, and zeros
    out.extend_from_slice(b"==\r\n");
}

/// Where the head at the start of these bytes ends.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    END.find(bytes).map(|at| at + 4)
}

/// Reads the head of a response as the proxy writes it.
pub(super) fn response_from_http1(head: &[u8]) -> io::Result<(Response<()>, Framing)> {
    let (first, fields) = first_line(head)?;
    let status = first.get(9..12).and_then(|s| StatusCode::from_bytes(s).ok());
    let mut response = Response::new(());
    *response.status_mut() = status.ok_or_else(broken_head)?;
    let (fields, framing) = read_fields(fields, response.headers_mut())?;
    debug_assert!(fields.is_none(), "a response has no host");
    Ok((response, framing))
}

/// Reads the head of a request as the proxy writes it.
pub(super) fn request_from_http1(head: &[u8]) -> io::Result<(Request<()>, Framing)> {
    let (first, fields) = first_line(head)?;
    let mut parts = first.split(|b| *b == b' ');
    let mut request = Request::new(());
    *request.version_mut() = http::Version::HTTP_2;
    *request.method_mut() =
        parts.next().and_then(|m| Method::from_bytes(m).ok()).ok_or_else(broken_head)?;
    let target = parts.next().ok_or_else(broken_head)?;
    let (host, framing) = read_fields(fields, request.headers_mut())?;
    let uri = Uri::builder()
        .scheme("http")
        .authority(host.as_ref().map_or(&b"localhost"[..], |host| host.as_bytes()))
        .path_and_query(target);
    *request.uri_mut() = uri.build().map_err(|_| broken_head())?;
    Ok((request, framing))
}

/// Whether HTTP/2 can carry a request's head as the proxy writes it: what stands in a target by the
/// letter of HTTP/1.1 parsers need not be a URI.
pub(crate) fn can_carry(head: &[u8]) -> bool {
    request_from_http1(head).is_ok()
}

/// Writes a server's response as the HTTP/1.1 head that it means.
pub(super) fn response_to_http1(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
    body: Body,
) {
    line(out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" "]);
    write_fields(out, fields);
    match body {
        Body::Unframed => {}
        Body::Empty => out.extend_from_slice(b"content-length: 0\r\n"),
        Body::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// How the body that follows a response head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// As the fields say, or there is none.
    Unframed,
    /// There is none, and the head must say so.
    Empty,
    Chunked,
}

/// Writes a trailer section, without the line that ends it.
pub(super) fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        line(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]);
    }
}

/// Reads the lines of a trailer section.
pub(super) fn read_trailers(lines: &[u8]) -> io::Result<HeaderMap> {
    let mut trailers = HeaderMap::new();
    read_fields(lines, &mut trailers)?;
    Ok(trailers)
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

fn first_line(head: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', head).filter(|end| *end > 0).ok_or_else(broken_head)?;
    Ok((&head[..end - 1], &head[end + 1..]))
}

/// Reads field lines; returns the host, and how the body is framed.
fn read_fields(lines: &[u8], fields: &mut HeaderMap) -> io::Result<(Option<HeaderValue>, Framing)> {
    // One piece of memory for all values.
    let shared = Bytes::copy_from_slice(lines);
    let mut host = None;
    let mut framing = Framing::Length(0);
    let mut start = 0;
    // No more than there are: a larger map comes from a slower part of the allocator.
    fields.reserve(memchr::memchr_iter(b'\n', lines).count());
    for end in memchr::memchr_iter(b'\n', lines) {
        let line = start..end.saturating_sub(1);
        start = end + 1;
        if line.is_empty() {
            break;
        }
        let colon = memchr::memchr(b':', &lines[line.clone()]).ok_or_else(broken_head)?;
        let name = &lines[line.start..line.start + colon];
        let value = field::trim(&lines[line.start + colon + 1..line.end]);
        let at = field::offset(lines, value);
        let value = shared.slice(at..at + value.len());
        let name = HeaderName::from_bytes(name).map_err(|_| broken_head())?;
        match name {
            header::CONNECTION | header::UPGRADE => continue,
            header::TRANSFER_ENCODING => {
                framing = Framing::Chunked;
                continue;
            }
            header::CONTENT_LENGTH => {
                framing = Framing::Length(field::number(&value).ok_or_else(broken_head)?);
            }
            _ => {}
        }
        let is_host = name == header::HOST;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| broken_head())?;
        if is_host {
            host = Some(value);
        } else {
            fields.append(name, value);
        }
    }
    Ok((host, framing))
}

fn broken_head() -> io::Error {
    invalid("a head that HTTP/2 cannot carry")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of HTTP/2, as h2 hands it on: `METHOD URI`, and fields.
    fn request(
        first: &str,
        fields: &[(&str, &str)],
        protocol: Option<&'static str>,
    ) -> request::Parts {
        let (method, uri) = first.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        if let Some(protocol) = protocol {
            request = request.extension(Protocol::from_static(protocol));
        }
        request.body(()).unwrap().into_parts().0
    }

    fn written(parts: &request::Parts, has_body: bool) -> Result<String, Reason> {
        let mut out = Vec::new();
        request_to_http1(&mut out, parts, has_body)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn requests_are_written_as_what_they_mean() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], bool, &'static str);
        const CASES: &[Case] = &[
            ("GET https://a/", &[], false, "GET / HTTP/1.1|host: a"),
            ("GET https://a/x?y=%20", &[("b", "c")], false, "GET /x?y=%20 HTTP/1.1|host: a|b: c"),
            ("GET http://a:81/", &[], false, "GET / HTTP/1.1|host: a:81"),
            // The scheme is left out by clients that send `Host`.
            ("GET /", &[("host", "b")], false, "GET / HTTP/1.1|host: b"),
            ("GET https://a/", &[("host", "A")], false, "GET / HTTP/1.1|host: a"),
            ("OPTIONS *", &[("host", "a")], false, "OPTIONS * HTTP/1.1|host: a"),
            ("CONNECT a:443", &[], false, "CONNECT a:443 HTTP/1.1|host: a:443"),
            ("POST https://a/", &[], true, "POST / HTTP/1.1|host: a|transfer-encoding: chunked"),
            (
                "POST https://a/",
                &[("content-length", "3")],
                true,
                "POST / HTTP/1.1|host: a|content-length: 3",
            ),
            // Two lengths are for the strict parser to refuse.
            (
                "POST https://a/",
                &[("content-length", "3"), ("content-length", "4")],
                true,
                "POST / HTTP/1.1|host: a|content-length: 3|content-length: 4",
            ),
            (
                "GET https://a/",
                &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")],
                false,
                "GET / HTTP/1.1|host: a|x: y|cookie: a=1; b=2; c=3",
            ),
            ("GET https://a/", &[("te", "trailers")], false, "GET / HTTP/1.1|host: a|te: trailers"),
            (
                "GET https://a/",
                &[("sec-websocket-key", "x")],
                false,
                "GET / HTTP/1.1|host: a|sec-websocket-key: x",
            ),
        ];
        for (first, fields, has_body, expected) in CASES {
            let head = written(&request(first, fields, None), *has_body).expect(first);
            assert_eq!(head.trim_end().replace("\r\n", "|"), *expected);
            assert!(head.ends_with("\r\n\r\n"));
        }
    }

    #[test]
    fn what_no_request_may_be_is_refused() {
        type Case =
            (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>, Reason);
        const CASES: &[Case] = &[
            ("GET https://a/", &[("host", "b")], None, Reason::MalformedHost),
            ("GET https://a/", &[("host", "a"), ("host", "a")], None, Reason::MalformedHost),
            ("GET https://a:443/", &[("host", "a")], None, Reason::MalformedHost),
            ("GET https://a/", &[("connection", "close")], None, Reason::MalformedHead),
            ("GET https://a/", &[("transfer-encoding", "chunked")], None, Reason::MalformedHead),
            ("GET https://a/", &[("upgrade", "h2c")], None, Reason::MalformedHead),
            ("GET https://a/", &[("b", " c")], None, Reason::MalformedHead),
            ("GET https://a/", &[("b", "c\t")], None, Reason::MalformedHead),
            ("GET ftp://a/", &[], None, Reason::MalformedTarget),
            ("GET a:80", &[], None, Reason::MalformedTarget),
            ("CONNECT https://a/", &[], Some("connect-udp"), Reason::Connect),
            (
                "CONNECT https://a/",
                &[("content-length", "1")],
                Some("websocket"),
                Reason::MalformedFraming,
            ),
        ];
        for (first, fields, protocol, expected) in CASES {
            let result = written(&request(first, fields, *protocol), false);
            assert_eq!(result, Err(*expected), "{first} {fields:?}");
        }
    }

    #[test]
    fn a_websocket_is_a_get_with_a_key_of_ours() {
        let fields = [("sec-websocket-key", "theirs"), ("sec-websocket-version", "13")];
        for protocol in ["websocket", "WebSocket"] {
            let parts = request("CONNECT https://a/chat", &fields, Some(protocol));
            assert!(is_websocket(&parts));
            let head = written(&parts, true).unwrap();
            let start = "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\n\
                         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ";
            let key = head.strip_prefix(start).unwrap_or_else(|| panic!("{head}"));
            let key = key.strip_suffix("==\r\n\r\n").unwrap_or_else(|| panic!("{head}"));
            let digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
            assert!(key.len() == 22 && key.bytes().all(digit), "16 bytes in base64: {key}");
            // The last digit has two bits of its own.
            assert!("AQgw".contains(&key[21..]), "{key}");
        }
    }

    #[test]
    fn no_two_keys_are_alike_in_any_place() {
        let keys: Vec<Vec<u8>> = std::iter::repeat_with(|| {
            let mut key = Vec::new();
            write_key(&mut key);
            key
        })
        .take(500)
        .collect();
        for place in 0..22 {
            let digits: std::collections::BTreeSet<u8> =
                keys.iter().map(|key| key[place]).collect();
            let expected = if place == 21 { 4..=4 } else { 50..=64 };
            assert!(expected.contains(&digits.len()), "{place}: {digits:?}");
        }
    }

    #[test]
    fn the_first_line_ends_with_a_cr_and_is_no_empty_one() {
        assert_eq!(first_line(b"a\r\nb").unwrap(), (&b"a"[..], &b"b"[..]));
        assert!(first_line(b"\nb").is_err() && first_line(b"a").is_err());
        assert!(can_carry(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!can_carry(b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"));
    }

    #[test]
    fn responses_are_read_as_the_proxy_writes_them() {
        let read = |head: &str| {
            let (response, framing) = response_from_http1(head.replace('|', "\r\n").as_bytes())?;
            let fields: Vec<_> = response
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            io::Result::Ok((response.status().as_u16(), fields.join("|"), framing))
        };
        for (head, status, fields, framing) in [
            ("HTTP/1.1 200 OK||", 200, "", Framing::Length(0)),
            ("HTTP/1.1 404 |a:  b |c: d||", 404, "a: b|c: d", Framing::Length(0)),
            ("HTTP/1.1 200 OK|content-length: 7||", 200, "content-length: 7", Framing::Length(7)),
            ("HTTP/1.1 200 OK|transfer-encoding: chunked||", 200, "", Framing::Chunked),
            (
                "HTTP/1.1 101 x|connection: upgrade|upgrade: websocket||",
                101,
                "",
                Framing::Length(0),
            ),
        ] {
            assert_eq!(read(head).expect(head), (status, fields.to_owned(), framing), "{head}");
        }
        for broken in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 20||",
            "HTTP/1.1 abc OK||",
            "HTTP/1.1 200 OK|no colon||",
            "HTTP/1.1 200 OK|a b: c||",
            "HTTP/1.1 200 OK|content-length: x||",
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn requests_are_read_as_the_proxy_writes_them() {
        let read = |head: &str| {
            let (request, framing) = request_from_http1(head.replace('|', "\r\n").as_bytes())?;
            assert_eq!(request.version(), http::Version::HTTP_2);
            let fields = request.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>();
            io::Result::Ok((
                format!("{} {}", request.method(), request.uri()),
                fields.join(","),
                framing,
            ))
        };
        for (head, first, fields, framing) in [
            ("GET /a?b HTTP/1.1|Host: x|A: b||", "GET http://x/a?b", "a", Framing::Length(0)),
            ("GET / HTTP/1.1||", "GET http://localhost/", "", Framing::Length(0)),
            (
                "PUT / HTTP/1.1|Content-Length: 3||",
                "PUT http://localhost/",
                "content-length",
                Framing::Length(3),
            ),
            (
                "PUT / HTTP/1.1|Transfer-Encoding: chunked||",
                "PUT http://localhost/",
                "",
                Framing::Chunked,
            ),
            (
                "GET / HTTP/1.1|Connection: x|Upgrade: y||",
                "GET http://localhost/",
                "",
                Framing::Length(0),
            ),
        ] {
            assert_eq!(read(head).expect(head), (first.to_owned(), fields.to_owned(), framing));
        }
        for broken in ["", "GET||", "G(T / HTTP/1.1||", "GET / HTTP/1.1|Host: a b||"] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn heads_and_trailers_end_where_they_end() {
        assert_eq!(end(b"a\r\n\r\nb"), Some(5));
        assert_eq!(end(b"a\r\n\r"), None);
        let trailers = read_trailers(b"a: b\r\nc: d\r\n\r\ne: f\r\n").unwrap();
        assert_eq!(trailers.len(), 2, "nothing behind the empty line");
        let mut out = Vec::new();
        write_fields(&mut out, &trailers);
        assert_eq!(out, b"a: b\r\nc: d\r\n");
        for (body, expected) in [
            (Body::Unframed, ""),
            (Body::Empty, "content-length: 0\r\n"),
            (Body::Chunked, "transfer-encoding: chunked\r\n"),
        ] {
            let mut out = Vec::new();
            response_to_http1(&mut out, StatusCode::NO_CONTENT, &trailers, body);
            let expected = format!("HTTP/1.1 204 \r\na: b\r\nc: d\r\n{expected}\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
