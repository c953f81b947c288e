//! A client's HTTP/2 connection: it hands out the streams, and ends when it is idle, when the
//! front stops, or when the client asks too much.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server;
use tracing::debug;

use super::super::connection::{self as http1, IDLE, STOPPING};
use super::super::forwarded::Origin;
use super::super::local::{About, Local};
use super::backlog::Backlog;
use super::job::{Job, Open, Streams};
use super::meter::{Meter, Metered};
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW, tasks};
use crate::front::Reason;
use crate::io::ByteStream;
use crate::io::buf::{Buf, Input, SMALL};
use crate::io::deadline::Deadline;

/// What a client that speaks HTTP/2 without further ado sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client that is told to go may take to read that.
const FAREWELL: Duration = Duration::from_secs(2);
/// Requests that a client may cancel before we have even looked at them: those of one read.
const CANCELLED_UNSEEN: usize = 128;

/// Serves a client connection on which either version may be spoken: the first bytes say which.
pub(crate) async fn serve_either<C: ByteStream>(local: Rc<Local>, mut stream: C, origin: Origin) {
    let mut input = Input::new(0);
    if is_preface(&local, &mut stream, &mut input).await {
        Box::pin(serve_from(local, stream, origin, input)).await;
    } else {
        http1::serve_from((), local, stream, origin, input).await;
    }
}

/// Whether the connection begins as HTTP/2 does; what was read stays in `input`.
async fn is_preface<C: ByteStream>(local: &Local, stream: &mut C, input: &mut Input) -> bool {
    let deadline = local.deadlines.add();
    let timeouts = local.snapshot().settings.front.timeouts.clone();
    loop {
        let bytes = input.bytes();
        let known = bytes.len().min(PREFACE.len());
        if known == PREFACE.len() || bytes[..known] != PREFACE[..known] {
            return bytes[..known] == *PREFACE;
        }
        let patience = if bytes.is_empty() { timeouts.idle } else { timeouts.client_header };
        let read = |cx: &mut Context<'_>| input.poll_fill(cx, stream, Buf::small, SMALL);
        if !matches!(deadline.within(patience, read).await, Some(Ok(1..))) {
            return false;
        }
    }
}

/// Serves an HTTP/2 connection to its end.
pub(crate) async fn serve<C: ByteStream>(local: Rc<Local>, stream: C, origin: Origin) {
    serve_from(local, stream, origin, Input::new(0)).await;
}

/// The same when something was read already.
async fn serve_from<C: ByteStream>(local: Rc<Local>, stream: C, origin: Origin, begun: Input) {
    let snapshot = local.snapshot();
    let front = &snapshot.settings.front;
    let backlog = Backlog::new(&local.backlog);
    let meter = Meter::new(&local.deadlines, &backlog);
    let deadline = local.deadlines.add();
    let handshake = server::Builder::new()
        .max_concurrent_streams(front.limits.streams_per_connection)
        .max_header_list_size(front.limits.header_bytes as u32)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(CANCELLED_UNSEEN)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(Metered::new(begun, stream, &meter));
    let mut handshake = pin!(handshake);
    let opened =
        deadline.within(front.timeouts.client_header, |cx| handshake.as_mut().poll(cx)).await;
    drop(snapshot);
    deadline.place().end_itself();
    let Some(Ok(inner)) = opened else { return };
    let shared = Streams::new(&meter);
    let unread = local.deadlines.add();
    let (served, phase, since) = (0, Phase::Busy, 0);
    Connection { local, inner, origin, meter, deadline, unread, shared, served, phase, since }
        .run()
        .await;
}

/// A connection at work.
struct Connection<C: ByteStream> {
    local: Rc<Local>,
    inner: server::Connection<Metered<C>, Bytes>,
    origin: Origin,
    meter: Rc<Meter>,
    deadline: Deadline,
    /// For a client that takes nothing.
    unread: Deadline,
    shared: Rc<Streams>,
    served: u64,
    /// What the deadline is for.
    phase: Phase,
    /// When it became idle, in the thread's milliseconds.
    since: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Streams are open, and have deadlines of their own.
    Busy,
    Idle,
    /// It was said that no further streams are taken, and some are still open.
    Leaving,
    /// The same, and none is open.
    Left,
    /// The client is sent away.
    Refused,
}

impl<C: ByteStream> Connection<C> {
    async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// Ready at the end of the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.remember(cx);
        loop {
            match self.inner.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, answer)))) => {
                    self.served += 1;
                    let stream_of = Some(self.deadline.place_of());
                    let origin = Origin { stream_of, ..self.origin.clone() };
                    let open = Open::new(&self.shared);
                    tasks::serve(&self.local, Job { request, answer, origin, open });
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    // The h2 crate has limits of its own beside the meter's.
                    let calmed = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
                    if calmed && error.is_library() {
                        self.refuse_frames();
                    }
                    debug!(
                        roundsman_client = self.origin.peer.map(tracing::field::display),
                        "HTTP/2 connection: {error}"
                    );
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if self.look() {
                continue;
            }
            if self.reads_nothing(cx) {
                return Poll::Ready(());
            }
            if !self.deadline.poll_passed(cx) {
                return Poll::Pending;
            }
            match self.phase {
                Phase::Idle => self.leave(),
                // Its last word says which streams were seen, if more are on their way.
                Phase::Left => {
                    self.inner.abrupt_shutdown(h2::Reason::NO_ERROR);
                    self.enter(Phase::Refused, FAREWELL);
                }
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Looks whether something has changed; true when the connection has something to say.
    fn look(&mut self) -> bool {
        let idle = self.shared.open.get() == 0;
        let snapshot = self.local.snapshot();
        let front = &snapshot.settings.front;
        match (self.phase, idle) {
            (Phase::Refused, _) => return false,
            _ if self.meter.is_spent() => {
                self.refuse_frames();
                self.inner.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                self.enter(Phase::Refused, FAREWELL);
                return true;
            }
            _ if self.deadline.place().is_given_up() => {
                self.inner.abrupt_shutdown(h2::Reason::NO_ERROR);
                self.enter(Phase::Refused, FAREWELL);
                return true;
            }
            (Phase::Leaving, true) => self.enter(Phase::Left, STOPPING),
            (Phase::Left, false) => self.enter(Phase::Leaving, Duration::MAX),
            (Phase::Leaving | Phase::Left, _) => {}
            _ if self.local.stopping.get()
                || self.served >= front.limits.requests_per_connection =>
            {
                self.leave();
                return true;
            }
            (Phase::Busy, true) => {
                self.deadline.place().rest();
                self.deadline.place().end_itself();
                self.since = self.local.deadlines.now();
                self.enter(Phase::Idle, front.timeouts.idle);
            }
            // Others wait for its place.
            (Phase::Idle, true) if self.local.crowded.get() >= self.since + IDLE => {
                self.leave();
                return true;
            }
            (Phase::Idle, false) => self.enter(Phase::Busy, Duration::MAX),
            (Phase::Busy | Phase::Idle, _) => {}
        }
        false
    }

    /// Whether the client has taken nothing for so long that it is given up, with all its streams.
    fn reads_nothing(&self, cx: &mut Context<'_>) -> bool {
        let Some(stuck) = self.meter.stuck() else { return false };
        let patience = self.local.snapshot().settings.front.timeouts.client_write;
        self.unread.set(patience.saturating_sub(stuck));
        let passed = self.unread.poll_passed(cx);
        if passed {
            let about = About { client: self.origin.peer, ..About::default() };
            self.local.refused(Reason::WriteTimeout, &about);
        }
        passed
    }

    /// Counts and says that the client sends more than it gets done.
    fn refuse_frames(&self) {
        let about = About { client: self.origin.peer, ..About::default() };
        self.local.refused(Reason::TooManyFrames, &about);
    }

    /// Takes no further streams, and says so; those that are open finish.
    fn leave(&mut self) {
        self.inner.graceful_shutdown();
        self.enter(Phase::Leaving, Duration::MAX);
    }

    fn enter(&mut self, phase: Phase, patience: Duration) {
        self.phase = phase;
        self.deadline.set(patience);
    }
}
