//! Writing whole messages.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::deadline::Deadline;

/// Writes what is left of `bytes` after `written`, and moves that on.
pub(crate) fn poll_write_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    bytes: &[u8],
    written: &mut usize,
) -> Poll<io::Result<()>> {
    while *written < bytes.len() {
        match ready!(Pin::new(&mut *stream).poll_write(cx, &bytes[*written..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *written += count,
        }
    }
    Poll::Ready(Ok(()))
}

/// Writes everything within the time-out. For what is short: a peer may take it as slowly as that.
pub(crate) async fn write_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &[u8],
    deadline: &Deadline,
    timeout: Duration,
) -> io::Result<()> {
    let mut written = 0;
    let whole = deadline.within(timeout, |cx| poll_write_all(stream, cx, bytes, &mut written));
    whole.await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}
