//! The request path at the wire: real threads, real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod forward;
#[expect(dead_code, reason = "the next tests use the rest")]
mod support;
