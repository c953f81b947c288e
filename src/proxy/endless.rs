//! For tests of turns: sockets that never let anybody wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::ByteStream;

/// A socket that always has more to read, and takes whatever is written.
pub(super) struct Endless {
    unit: &'static [u8],
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Endless {
    /// It has this again and again.
    pub(super) fn of(unit: &'static [u8]) -> Self {
        Self { unit, read: 0, written: 0 }
    }
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let whole = buffer.remaining() / self.unit.len();
        assert!(self.read < 1 << 30, "it never lets go");
        (0..whole).for_each(|_| buffer.put_slice(self.unit));
        self.read += (whole * self.unit.len()) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for Endless {}

/// How often somebody was woken.
#[derive(Default)]
pub(super) struct Woken(pub(super) AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
