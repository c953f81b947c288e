//! What goes over the wire: requests that name the reply they want, and replies that can be checked
//! byte for byte.
//!
//! A request is for `/bytes/LENGTH/ID`; the reply's body is ID followed by LENGTH − 16 bytes of a
//! fixed pattern. The ID tells replies of different connections apart, the pattern finds bytes that
//! are lost, doubled or moved. A request body is the pattern from its start.

use std::io::Write as _;
use std::sync::LazyLock;

/// Hexadecimal digits of an ID.
pub(crate) const ID: usize = 16;

/// The longest body.
pub(crate) const LONGEST: usize = 1 << 20;

/// Payload of a WebSocket message: short enough for the short form of a frame.
pub(crate) const PAYLOAD: usize = 64;

/// The sample handshake of RFC 6455: the bench tests tunnels, not SHA-1.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Any four bytes that change what they mask.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0xe9];

const BINARY_FRAME: u8 = 0x82;

/// No two places of it look alike, so that a moved run of bytes is found.
pub(crate) static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b' ' + (state >> 32) as u8 % 95
    })
    .take(LONGEST)
    .collect()
});

/// The digits of this ID.
pub(crate) fn digits(id: u64) -> [u8; ID] {
    let mut digits = [0; ID];
    write!(&mut digits[..], "{id:016x}").expect("sixteen digits fit");
    digits
}

/// About the head that a browser sends.
pub(crate) fn request(into: &mut Vec<u8>, id: [u8; ID], reply: usize, upload: usize, close: bool) {
    into.clear();
    into.extend_from_slice(if upload == 0 { b"GET /bytes/" } else { b"POST /bytes/" });
    write!(into, "{reply}/").expect("memory");
    into.extend_from_slice(&id);
    into.extend_from_slice(
        b" HTTP/1.1\r\n\
          Host: bench.example\r\n\
          User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
          Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n\
          Accept-Language: en-GB,en;q=0.5\r\n\
          Accept-Encoding: gzip, deflate\r\n\
          Cookie: session=4f1c2d7e9a8b6035; theme=dark\r\n",
    );
    if upload > 0 {
        write!(into, "Content-Length: {upload}\r\n").expect("memory");
    }
    into.extend_from_slice(if close { b"Connection: close\r\n\r\n" } else { b"\r\n" });
}

/// A WebSocket's opening handshake.
pub(crate) fn upgrade_request(into: &mut Vec<u8>) {
    into.clear();
    write!(
        into,
        "GET /ws HTTP/1.1\r\nHost: bench.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .expect("memory");
}

/// The server's side of the handshake.
pub(crate) fn upgrade_reply(into: &mut Vec<u8>) {
    into.clear();
    write!(
        into,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .expect("memory");
}

/// Whether this is the value of `Sec-WebSocket-Accept` that must come.
pub(crate) fn is_accept(value: &[u8]) -> bool {
    value == ACCEPT.as_bytes()
}

/// The head of a reply and the ID that its body begins with.
pub(crate) fn reply(into: &mut Vec<u8>, status: &str, id: &[u8], length: usize, close: bool) {
    into.clear();
    write!(
        into,
        "HTTP/1.1 {status}\r\n\
         Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Cache-Control: no-store\r\n\
         ETag: \"5d8c72a5edda8d6a\"\r\n\
         Content-Length: {length}\r\n\
         {}\r\n",
        if close { "Connection: close\r\n" } else { "" }
    )
    .expect("memory");
    into.extend_from_slice(id);
}

/// A client's message, in one masked frame.
pub(crate) fn client_frame(into: &mut Vec<u8>, id: [u8; ID]) {
    into.clear();
    into.extend_from_slice(&[BINARY_FRAME, 0x80 | PAYLOAD as u8]);
    into.extend_from_slice(&MASK);
    let payload = id.iter().chain(&PATTERN[ID..PAYLOAD]);
    into.extend(payload.zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// What a server that has read `frame`, a client's, sends back; `None` when it is not one of ours.
pub(crate) fn echo_frame(into: &mut Vec<u8>, frame: &[u8]) -> Option<()> {
    let (header, masked) = frame.split_at_checked(6)?;
    if header[..2] != [BINARY_FRAME, 0x80 | PAYLOAD as u8] || masked.len() != PAYLOAD {
        return None;
    }
    into.clear();
    into.extend_from_slice(&[BINARY_FRAME, PAYLOAD as u8]);
    into.extend(masked.iter().zip(header[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Some(())
}

/// Bytes of a client's frame.
pub(crate) const CLIENT_FRAME: usize = 6 + PAYLOAD;

/// Header of a server's frame.
pub(crate) const SERVER_FRAME: [u8; 2] = [BINARY_FRAME, PAYLOAD as u8];
