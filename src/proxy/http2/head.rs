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
    let mut bits = u128::from(random()) << 64 | u128::from(random());
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
