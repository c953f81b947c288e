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

/// Writes everything, each part of it within the time-out.
pub(crate) async fn write_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &[u8],
    deadline: &Deadline,
    timeout: Duration,
) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let step =
            deadline.within(timeout, |cx| Pin::new(&mut *stream).poll_write(cx, &bytes[written..]));
        match step.await {
            None => return Err(io::ErrorKind::TimedOut.into()),
            Some(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Some(step) => written += step?,
        }
    }
    Ok(())
}
