//! Whether a client is still there while its request waits.
//!
//! A client that has gone must not be worked for: it would take a place in the queue, or at a server,
//! that others wait for. A reset is the end at once. So is the end of its stream, unless
//! `serve-half-closed` says that there are clients who end their side and read on.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::Connection;
use crate::io::ByteStream;
use crate::io::buf::{Buf, LARGE, SMALL};

/// How long a request waits before its client is watched, where watching costs a registration with the
/// kernel: most are answered sooner.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// What is read ahead of a client's next requests. Of one that sends more nothing is known any more.
const AHEAD: usize = LARGE;

impl<C: ByteStream> Connection<C> {
    /// Ready when the client has gone. What it sends meanwhile, its next request perhaps, is kept.
    ///
    /// Not while it sends a body: that is for whoever reads that.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.half_closed || self.stream.is_watched().is_none() {
            return Poll::Pending;
        }
        while self.input.bytes().len() < AHEAD {
            if self.stream.poll_may_read(cx).is_pending() {
                return Poll::Pending;
            }
            match self.input.poll_fill(cx, &mut self.stream, Buf::small, SMALL) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if self.serves_half_closed() => {
                    self.half_closed = true;
                    break;
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// The same where watching it costs nothing.
    pub(super) fn poll_gone_if_watched(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.is_watched() == Some(true) { self.poll_gone(cx) } else { Poll::Pending }
    }

    /// Waits until the client has gone.
    pub(super) async fn gone(&mut self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    /// Whether it has gone, by asking the kernel; also behind bytes that nobody has read.
    pub(super) fn is_gone(&self) -> bool {
        let Some(socket) = self.stream.socket() else { return false };
        let end = if self.serves_half_closed() { PollFlags::empty() } else { PollFlags::RDHUP };
        let mut sockets = [PollFd::new(&socket, end)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut sockets, Some(&at_once))
            .is_ok_and(|_| sockets[0].revents().intersects(end | PollFlags::HUP | PollFlags::ERR))
    }

    fn serves_half_closed(&self) -> bool {
        self.local.snapshot().settings.front.serve_half_closed
    }
}
