//! Two-way copy after an upgrade: bytes go through as they come, each direction ends for itself.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::buf::{Buf, Input, poll_read};
use super::deadline::Deadline;

/// One direction. It holds a buffer only while bytes are on their way.
#[derive(Debug)]
struct Half {
    buffer: Option<Buf>,
    out: Range<usize>,
    ended: bool,
    moved: u64,
}

/// Copies until both sides have ended, one fails, or nothing moves for `idle`.
///
/// `held` is what came from the client before the server agreed to switch, and from the server
/// right behind its agreement.
pub(crate) async fn run<A, B>(
    client: &mut A,
    server: &mut B,
    held: (&mut Input, &mut Input),
    deadline: &Deadline,
    idle: Duration,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Half::new(held.0);
    let mut down = Half::new(held.1);
    let mut seen = None;
    poll_fn(|cx| {
        let done = (up.poll(cx, client, server), down.poll(cx, server, client));
        match done {
            (Poll::Ready(Err(_)), _)
            | (_, Poll::Ready(Err(_)))
            | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            _ => {}
        }
        let moved = up.moved + down.moved;
        if seen != Some(moved) {
            seen = Some(moved);
            deadline.set(idle);
        }
        if deadline.poll_passed(cx) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Half {
    fn new(held: &mut Input) -> Self {
        let (buffer, out) = held.take().map_or((None, 0..0), |(buffer, out)| (Some(buffer), out));
        Self { buffer, out, ended: false, moved: 0 }
    }

    fn poll<S, D>(&mut self, cx: &mut Context<'_>, from: &mut S, to: &mut D) -> Poll<io::Result<()>>
    where
        S: AsyncRead + Unpin,
        D: AsyncWrite + Unpin,
    {
        loop {
            while let Some(buffer) = &self.buffer
                && !self.out.is_empty()
            {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &buffer[self.out.clone()]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.out.start += written;
                self.moved += written as u64;
            }
            if self.ended {
                self.buffer = None;
                return Pin::new(to).poll_shutdown(cx);
            }
            let buffer = self.buffer.get_or_insert_with(Buf::bulk);
            let Poll::Ready(read) = poll_read(from, cx, buffer) else {
                self.buffer = None;
                return Poll::Pending;
            };
            self.out = 0..read?;
            self.ended = self.out.is_empty();
        }
    }
}
