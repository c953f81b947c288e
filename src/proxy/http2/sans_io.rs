//! Heads of HTTP/2 without sockets, for the fuzzer: what is written of one as HTTP/1.1 is one head for
//! the strict parser, which means the same or refuses it.

use h2::ext::Protocol;
use http::{Request, request};

use super::head;
use crate::proxy::field::MAX_FIELDS;
use crate::proxy::request::{Framing, Head};

/// A head from lines: `METHOD URI`, then fields. `+` before it: a body follows; `~`: a WebSocket.
pub(crate) fn head(input: &[u8]) {
    let has_body = input.first() == Some(&b'+');
    let websocket = input.first() == Some(&b'~');
    let Some(parts) = parts(&input[usize::from(has_body || websocket)..], websocket) else {
        return;
    };
    let mut out = Vec::new();
    if head::request_to_http1(&mut out, &parts, has_body).is_err() {
        return;
    }
    let text = || out.escape_ascii().to_string();
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let Ok(parsed) = Head::parse(&out, &mut slots, MAX_FIELDS) else { return };
    let parsed = parsed.unwrap_or_else(|| panic!("it is not whole: {}", text()));
    assert_eq!(parsed.len, out.len(), "something follows: {}", text());
    let method = if websocket { "GET" } else { parts.method.as_str() };
    assert_eq!(parsed.method, method.as_bytes(), "{}", text());
    let framed = parts.headers.contains_key(http::header::CONTENT_LENGTH);
    match parsed.framing {
        Framing::Length(0) => assert!(framed || !has_body, "{}", text()),
        Framing::Length(_) => assert!(framed, "{}", text()),
        Framing::Chunked => assert!(has_body && !framed, "{}", text()),
        Framing::Close => panic!("no request ends with its connection: {}", text()),
    }
    if method == "CONNECT" {
        return; // goes to no server
    }
    let (again, framing) = head::request_from_http1(&out).unwrap_or_else(|error| {
        panic!("{error}: {}", text());
    });
    assert_eq!((again.method().as_str(), framing), (method, parsed.framing), "{}", text());
}

fn parts(input: &[u8], websocket: bool) -> Option<request::Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let at = memchr::memchr(b' ', first)?;
    let mut request = Request::builder().method(&first[..at]).uri(&first[at + 1..]);
    for line in lines {
        let at = memchr::memchr(b':', line)?;
        request = request.header(&line[..at], &line[at + 1..]);
    }
    if websocket {
        request = request.extension(Protocol::from_static("websocket"));
    }
    Some(request.body(()).ok()?.into_parts().0)
}
