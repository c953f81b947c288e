//! How a server shows that it speaks WebSocket (RFC 6455 4.2.2). Over HTTP/1.1 its client looks at that;
//! over HTTP/2 there is no such field, so the front has to.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a key is hashed with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server answers to this key.
fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

/// Whether this is the one answer to the key.
pub(crate) fn is_accepted<'a>(key: &[u8], mut answers: impl Iterator<Item = &'a [u8]>) -> bool {
    answers.next() == Some(accept(key).as_bytes()) && answers.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_answer() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ=="; // RFC 6455 1.3
        let right: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let accepted = |answers: &[&[u8]]| is_accepted(key, answers.iter().copied());
        assert!(accepted(&[right]));
        assert!(!accepted(&[]));
        assert!(!accepted(&[b"x"]));
        assert!(!accepted(&[right, right]));
        assert!(!is_accepted(b"another", std::iter::once(right)));
    }
}
