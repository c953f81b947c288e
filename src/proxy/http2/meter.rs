//! What a client may ask of a connection besides requests: frames that cost the proxy time and
//! bring nothing forward are counted against a credit, which comes back with time and with what
//! the client gets done. Who has none left is told to calm down and is gone.
//!
//! The h2 crate bounds the memory that such frames can take; this bounds the work, and it does so
//! for all of them alike (PING, SETTINGS, RST_STREAM, CONTINUATION, empty DATA, ...), for resets
//! of either side, but for those that a server is the cause of: what a server does is not the client's.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::backlog::Backlog;
use crate::io::ByteStream;
use crate::io::buf::Input;
use crate::io::deadline::Deadlines;

/// What a client may spend at once. A browser that is closed cancels some hundred requests.
const BURST: i64 = 4096;
/// What comes back in a second: some pings, window updates for some hundred small messages.
const REFILL: i64 = 256;
/// A reset costs the work of a request for which nobody gets anything.
const RESET: i64 = 8;
/// What a response earns: its reset, or the window updates for it.
const RESPONSE: i64 = 8;
/// Data frames below this earn nothing: a client that opens its window by single bytes makes us
/// send a frame for each.
const CRUMB: usize = 16;

/// Length of the preface that comes before a client's first frame.
const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    len: usize,
    stream: u32,
}

/// Finds the frames in a stream of bytes that comes in pieces.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    have: usize,
    /// Bytes before the next header.
    skip: usize,
}

/// One connection's account.
#[derive(Debug)]
pub(super) struct Meter {
    credit: Cell<i64>,
    /// Of the last refill, in the thread's milliseconds.
    at: Cell<u64>,
    clock: Rc<Deadlines>,
    /// Since when the client takes nothing of what is there for it.
    stuck: Cell<Option<u64>>,
    read: RefCell<Frames>,
    written: RefCell<Frames>,
    /// What waits to be written of bodies.
    pub(super) backlog: Rc<Backlog>,
    /// Streams that are reset because a server failed; there are few whose reset is still to be written.
    excused: RefCell<Vec<u32>>,
}

/// A client's stream whose frames are counted. Nothing more is read from a client without credit.
#[derive(Debug)]
pub(super) struct Metered<S: ByteStream> {
    /// What was read to see what is spoken.
    begun: Input,
    stream: S,
    meter: Rc<Meter>,
}

impl Frames {
    fn new(skip: usize) -> Self {
        Self { header: [0; HEADER], have: 0, skip }
    }

    fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let part = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have == HEADER {
                let [a, b, c, kind, flags, stream @ ..] = self.header;
                let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
                let len = u32::from_be_bytes([0, a, b, c]) as usize;
                self.have = 0;
                self.skip = len;
                each(Frame { kind, flags, len, stream });
            }
        }
    }
}

impl Frame {
    /// What it costs that the client sent it.
    fn cost(self) -> i64 {
        match self.kind {
            // An end, and real data, bring a request forward; padding does not.
            DATA if self.flags & END_STREAM != 0 => 0,
            DATA if self.len > 0 && self.flags & PADDED == 0 => 0,
            HEADERS => 0,
            RST_STREAM => RESET,
            SETTINGS | CONTINUATION => 4,
            DATA | PRIORITY | GOAWAY | WINDOW_UPDATE => 1,
            _ => 2, // PING, and what nobody knows
        }
    }

    /// What the client earns by getting it.
    fn earns(self) -> i64 {
        match self.kind {
            DATA if self.len >= CRUMB => 1 + i64::try_from(self.len / 256).unwrap_or(0),
            HEADERS => RESPONSE,
            RST_STREAM => -RESET,
            _ => 0,
        }
    }
}

impl Meter {
    pub(super) fn new(clock: &Rc<Deadlines>, backlog: &Rc<Backlog>) -> Rc<Self> {
        Rc::new(Self {
            credit: Cell::new(BURST),
            at: Cell::new(clock.now()),
            clock: Rc::clone(clock),
            stuck: Cell::new(None),
            read: RefCell::new(Frames::new(PREFACE)),
            written: RefCell::new(Frames::new(0)),
            backlog: Rc::clone(backlog),
            excused: RefCell::default(),
        })
    }

    /// Whether the client has asked too much.
    pub(super) fn is_spent(&self) -> bool {
        self.credit.get() < 0
    }

    /// For how long the client has taken nothing of what is there for it.
    pub(super) fn stuck(&self) -> Option<Duration> {
        self.stuck.get().map(|since| Duration::from_millis(self.clock.now() - since))
    }

    fn tried(&self, takes: bool) {
        let since = self.stuck.get().unwrap_or_else(|| self.clock.now());
        self.stuck.set((!takes).then_some(since));
    }

    /// The reset of this stream, which comes next, is not the client's doing.
    pub(super) fn excuse(&self, stream: u32) {
        self.excused.borrow_mut().push(stream);
    }

    /// Whether the reset of a stream is excused. There is but one.
    fn is_excused(&self, stream: u32) -> bool {
        let mut excused = self.excused.borrow_mut();
        let Some(at) = excused.iter().position(|id| *id == stream) else { return false };
        excused.swap_remove(at);
        true
    }

    fn count(&self, frames: &RefCell<Frames>, bytes: &[u8], value: fn(Frame) -> i64) {
        let mut sum = 0;
        let is_written = std::ptr::eq(frames, &raw const self.written);
        frames.borrow_mut().feed(bytes, |frame| {
            match frame.kind {
                DATA if is_written => self.backlog.sent(frame.stream, frame.len),
                RST_STREAM => {
                    self.backlog.reset(frame.stream);
                    if self.is_excused(frame.stream) && is_written {
                        return;
                    }
                }
                _ => {}
            }
            sum += value(frame);
        });
        if sum == 0 {
            return;
        }
        let now = self.clock.now();
        let passed = i64::try_from(now - self.at.get()).unwrap_or(i64::MAX);
        let refill = passed.saturating_mul(REFILL) / 1000;
        if refill > 0 {
            self.at.set(now);
        }
        let credit = self.credit.get();
        if credit >= 0 {
            self.credit.set(credit.saturating_add(refill).saturating_add(sum).min(BURST));
        }
    }
}

impl<S: ByteStream> Metered<S> {
    pub(super) fn new(begun: Input, stream: S, meter: &Rc<Meter>) -> Self {
        Self { begun, stream, meter: Rc::clone(meter) }
    }
}

impl<S: ByteStream> Drop for Metered<S> {
    fn drop(&mut self) {
        if self.meter.stuck.get().is_some() {
            self.stream.discard_unread();
        }
    }
}

impl<S: ByteStream> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.meter.is_spent() {
            return Poll::Pending; // who drives the connection looks after every poll
        }
        if this.begun.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        } else {
            let bytes = this.begun.bytes();
            let part = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..part]);
            this.begun.consume(part);
        }
        this.meter.count(&this.meter.read, &buffer.filled()[before..], |frame| -frame.cost());
        Poll::Ready(Ok(()))
    }
}

impl<S: ByteStream> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.meter.tried(polled.is_ready());
        let written = ready!(polled)?;
        this.meter.count(&this.meter.written, &bytes[..written], Frame::earns);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.meter.tried(polled.is_ready());
        let written = ready!(polled)?;
        let mut left = written;
        for part in parts {
            let len = left.min(part.len());
            this.meter.count(&this.meter.written, &part[..len], Frame::earns);
            left -= len;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = (payload as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER + payload, 0xff);
        bytes
    }

    fn meter() -> Rc<Meter> {
        Meter::new(&Deadlines::new(), &Backlog::new(&Rc::default()))
    }

    /// How many of these a client may send, for each of which it gets that.
    fn rounds(sent: &[u8], got: &[u8]) -> usize {
        let meter = meter();
        meter.read.borrow_mut().skip = 0;
        (0..100_000)
            .take_while(|_| {
                meter.count(&meter.read, sent, |frame| -frame.cost());
                meter.count(&meter.written, got, Frame::earns);
                !meter.is_spent()
            })
            .count()
    }

    #[test]
    fn what_brings_nothing_forward_ends_the_connection() {
        let reset = [frame(HEADERS, 5, 30), frame(RST_STREAM, 0, 4)].concat();
        assert_eq!(rounds(&reset, &[]), 512);
        assert_eq!(rounds(&frame(HEADERS, 5, 30), &frame(RST_STREAM, 0, 4)), 512);
        assert_eq!(rounds(&frame(6, 0, 8), &frame(6, 1, 8)), 2048);
        assert_eq!(rounds(&frame(SETTINGS, 0, 6), &frame(SETTINGS, 1, 0)), 1024);
        assert_eq!(rounds(&frame(CONTINUATION, 0, 100), &[]), 1024);
        assert_eq!(rounds(&frame(DATA, 0, 0), &[]), 4096);
        assert_eq!(rounds(&frame(DATA, PADDED, 200), &[]), 4096);
        assert_eq!(rounds(&frame(WINDOW_UPDATE, 0, 4), &frame(DATA, 0, 1)), 4096);
        assert_eq!(rounds(&frame(WINDOW_UPDATE, 0, 4).repeat(5), &frame(DATA, 0, 3 * 256)), 4092);
    }

    #[test]
    fn what_waits_is_less_by_what_is_written_and_nothing_after_a_reset() {
        let thread = Rc::default();
        let backlog = Backlog::new(&thread);
        let meter = Meter::new(&Deadlines::new(), &backlog);
        meter.read.borrow_mut().skip = 0;
        backlog.given(1, 100);
        meter.count(&meter.read, &frame(DATA, 0, 30), |frame| -frame.cost());
        assert_eq!(thread.get(), 100, "these are the client's own");
        meter.count(&meter.written, &frame(DATA, 0, 30), Frame::earns);
        assert_eq!(thread.get(), 70);
        meter.count(&meter.read, &frame(RST_STREAM, 0, 4), |frame| -frame.cost());
        assert_eq!(thread.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn credit_comes_back_with_time() {
        let clock = Deadlines::new();
        let meter = Meter::new(&clock, &Backlog::new(&Rc::default()));
        meter.read.borrow_mut().skip = 0;
        let update = frame(WINDOW_UPDATE, 0, 4);
        let spend = |count: usize| {
            (0..count).for_each(|_| meter.count(&meter.read, &update, |frame| -frame.cost()));
        };
        let pass = async |ms| {
            tokio::time::advance(std::time::Duration::from_millis(ms)).await;
            clock.tick();
        };
        spend(4000);
        for left in [96, 1] {
            pass(1000).await;
            spend(left + 255);
            assert!(!meter.is_spent() && meter.credit.get() == 1, "{}", meter.credit.get());
        }
        pass(1000).await;
        spend(196);
        assert_eq!(meter.credit.get(), 61);
        for _ in 0..100 {
            pass(3).await; // too short for one, and not lost
            spend(1);
        }
        assert!((5..=15).contains(&meter.credit.get()), "{}", meter.credit.get());
        pass(100_000).await;
        spend(1);
        assert_eq!(meter.credit.get(), BURST, "and never more");
    }

    #[test]
    fn what_a_server_fails_at_is_not_the_clients() {
        let meter = meter();
        meter.read.borrow_mut().skip = 0;
        let reset = frame(RST_STREAM, 0, 4);
        let read = |bytes: &[u8]| meter.count(&meter.read, bytes, |frame| -frame.cost());
        for _ in 0..10_000 {
            meter.excuse(1);
            meter.count(&meter.written, &reset, Frame::earns);
        }
        assert_eq!(meter.credit.get(), BURST);
        meter.count(&meter.written, &reset, Frame::earns);
        assert_eq!(meter.credit.get(), BURST - RESET, "an excuse is for one reset");
        meter.excuse(1);
        read(&reset);
        assert_eq!(meter.credit.get(), BURST - 2 * RESET, "the client's own is the client's");
        meter.count(&meter.written, &reset, Frame::earns);
        assert_eq!(meter.credit.get(), BURST - 3 * RESET, "and excuses do not pile up");
    }

    #[test]
    fn whoever_gets_work_done_may_go_on_for_ever() {
        let cancelled = [frame(HEADERS, 5, 30), frame(RST_STREAM, 0, 4)].concat();
        let updates = [frame(WINDOW_UPDATE, 0, 4), frame(WINDOW_UPDATE, 0, 4)].concat();
        for (sent, got) in [
            (frame(HEADERS, 5, 30), frame(HEADERS, 5, 50)),
            (frame(DATA, 0, 1), vec![]),
            (frame(DATA, END_STREAM, 0), vec![]),
            (frame(DATA, END_STREAM | PADDED, 200), vec![]),
            (frame(WINDOW_UPDATE, 0, 4).repeat(4), frame(DATA, 0, 3 * 256)),
            (cancelled, [frame(HEADERS, 4, 50), frame(DATA, 0, 100)].concat()),
            (updates, frame(DATA, 0, 16 * 1024)),
        ] {
            assert_eq!(rounds(&sent, &got), 100_000);
        }
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_cut(
            list in proptest::collection::vec((0..12_u8, any::<u8>(), 0..40_usize), 1..20),
            cuts in proptest::collection::vec(1..30_usize, 1..10),
        ) {
            let bytes: Vec<_> = list.iter().flat_map(|(k, f, len)| frame(*k, *f, *len)).collect();
            let mut found = Vec::new();
            let mut frames = Frames::new(0);
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                frames.feed(now, |frame| found.push((frame.kind, frame.flags, frame.len)));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, list);
        }
    }
}
