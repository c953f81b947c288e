//! Two-way copy after an upgrade: bytes go through as they come, each direction ends for itself. A client
//! that is sent something has to read it, at the rate of a response.
//! When the server's time to drain is up the conversation ends: a WebSocket with a close frame.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::frames::{Frames, SERVICE_RESTART};
use super::reading::Reading;
use super::relay::{FRAMING, TURN};
use crate::config::settings;
use crate::front::Reason;
use crate::io::ByteStream;
use crate::io::buf::{Buf, Input, poll_read};
use crate::io::deadline::Deadline;
use crate::io::write::write_all;

/// How long the end of a conversation may take: the rest of a frame, and the client's farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a conversation ends that does not end by itself.
pub(crate) struct End<'a> {
    /// Whether it must.
    pub(crate) is_over: &'a dyn Fn() -> bool,
    /// For a WebSocket: where in the server's frames it is.
    pub(crate) frames: Option<Frames>,
}

/// One direction. It holds a buffer only while bytes are on their way.
#[derive(Debug)]
struct Half {
    buffer: Option<Buf>,
    out: Range<usize>,
    ended: bool,
    moved: u64,
}

/// Which side of a direction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Source,
    Sink,
}

/// Copies until both sides have ended, one fails, nothing moves for as long as a tunnel may be idle, or
/// the client does not read what there is for it; returns why the client was cut off, if it was.
///
/// `held` is what came from the client before the server agreed to switch, and from the server
/// right behind its agreement.
pub(crate) async fn run<A, B>(
    client: &mut A,
    server: &mut B,
    held: (&mut Input, &mut Input),
    deadline: &Deadline,
    front: &settings::Front,
    mut end: End<'_>,
) -> Option<Reason>
where
    A: ByteStream,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Half::new(held.0);
    let mut down = Half::new(held.1);
    let idle = front.timeouts.tunnel_idle;
    let mut reading = Reading::default();
    let mut slow = None;
    let mut seen = None;
    let mut ends = false;
    let mut server_failed = false;
    let over = poll_fn(|cx| {
        let done =
            (up.poll(cx, client, server, None), down.poll(cx, server, client, end.frames.as_mut()));
        match done {
            (Poll::Ready(Err(Failed::Sink)), _) | (_, Poll::Ready(Err(Failed::Source))) => {
                server_failed = true;
                return Poll::Ready(false);
            }
            (Poll::Ready(Err(Failed::Source)), _)
            | (_, Poll::Ready(Err(Failed::Sink)))
            | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(false),
            _ => {}
        }
        if (end.is_over)() {
            if !std::mem::replace(&mut ends, true) {
                deadline.set(FAREWELL);
            }
            // In the middle of a frame its rest is awaited.
            let between = end.frames.as_ref().is_none_or(Frames::is_between);
            if down.out.is_empty() && between || deadline.poll_passed(cx) {
                return Poll::Ready(true);
            }
            return Poll::Pending;
        }
        let (moved, passed, waits) = (up.moved + down.moved, down.moved, !down.out.is_empty());
        if seen != Some((moved, waits)) {
            seen = Some((moved, waits));
            let now = deadline.now();
            reading.rest(now);
            let patience = waits.then(|| reading.wait(now, passed, client, front));
            deadline.set(patience.map_or(idle, |patience| patience.min(idle)));
        }
        while deadline.poll_passed(cx) {
            if !waits {
                return Poll::Ready(false);
            }
            let Some(patience) = reading.go_on(deadline.now(), passed, client, front) else {
                let of_rate = reading.is_slow();
                slow = Some(if of_rate { Reason::SlowReader } else { Reason::WriteTimeout });
                return Poll::Ready(false);
            };
            deadline.set(patience.min(idle));
        }
        Poll::Pending
    })
    .await;
    if server_failed {
        client.server_failed();
    }
    if over && !down.ended {
        farewell(client, end.frames.as_ref(), deadline).await;
    }
    slow
}

/// Ends the client's side so that it hears of it: what closes with unread bytes is reset.
async fn farewell<A>(client: &mut A, frames: Option<&Frames>, deadline: &Deadline)
where
    A: AsyncRead + AsyncWrite + Unpin,
{
    if frames.is_some_and(Frames::is_between) {
        let _ = write_all(client, &SERVICE_RESTART, deadline, FAREWELL).await;
    }
    let mut scratch = Buf::small();
    let mut shut = false;
    deadline
        .within(FAREWELL, |cx| {
            if !shut {
                shut = Pin::new(&mut *client).poll_shutdown(cx).is_ready();
            }
            loop {
                match ready!(poll_read(client, cx, &mut scratch)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(()),
                }
            }
        })
        .await;
}

impl Half {
    fn new(held: &mut Input) -> Self {
        let (buffer, out) = held.take().map_or((None, 0..0), |(buffer, out)| (Some(buffer), out));
        Self { buffer, out, ended: false, moved: 0 }
    }

    fn poll<S, D>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        to: &mut D,
        mut frames: Option<&mut Frames>,
    ) -> Poll<Result<(), Failed>>
    where
        S: AsyncRead + Unpin,
        D: AsyncWrite + Unpin,
    {
        let begun = self.moved;
        let mut heads = 0;
        loop {
            while let Some(buffer) = &self.buffer
                && !self.out.is_empty()
            {
                let written = Pin::new(&mut *to).poll_write(cx, &buffer[self.out.clone()]);
                let Ok(written @ 1..) = ready!(written) else {
                    return Poll::Ready(Err(Failed::Sink));
                };
                if let Some(frames) = &mut frames {
                    heads += frames.pass(&buffer[self.out.start..self.out.start + written]);
                }
                self.out.start += written;
                self.moved += written as u64;
            }
            if self.ended {
                self.buffer = None;
                return Pin::new(to).poll_shutdown(cx).map_err(|_| Failed::Sink);
            }
            // What is moved is read and written, and each head looked at: then others have their turn.
            if 2 * (self.moved - begun) + FRAMING * heads >= TURN {
                self.buffer = None;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let buffer = self.buffer.get_or_insert_with(Buf::bulk);
            let Poll::Ready(read) = poll_read(from, cx, buffer) else {
                self.buffer = None;
                return Poll::Pending;
            };
            self.out = 0..read.map_err(|_| Failed::Source)?;
            self.ended = self.out.is_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::task::Waker;

    use super::super::endless::{Endless, Woken};
    use super::*;

    /// As a server that writes as fast as it can, into a client that reads as fast as it can.
    #[test]
    fn a_conversation_that_never_ends_takes_turns() {
        for (unit, mut frames, most) in [
            (&b"\x81\x01a"[..], Some(Frames::default()), 256 * 1024),
            (&[0x82; 1000], Some(Frames::default()), TURN),
            (&[b'x'; 1000], None, TURN),
        ] {
            let (mut source, mut sink) = (Endless::of(unit), Endless::of(unit));
            let mut half = Half { buffer: None, out: 0..0, ended: false, moved: 0 };
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            for turn in 1..4 {
                let mut cx = Context::from_waker(&waker);
                let polled = half.poll(&mut cx, &mut source, &mut sink, frames.as_mut());
                assert!(polled.is_pending());
                assert_eq!(woken.0.load(Ordering::Relaxed), turn, "it goes on");
                assert!(source.read <= turn * most, "{} bytes in {turn} turns", source.read);
                assert_eq!(source.read, sink.written, "what was read is written");
            }
        }
    }
}
