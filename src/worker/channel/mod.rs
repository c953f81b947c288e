//! Node's channel to the process that started it: lines of JSON over a UNIX stream socket, with
//! descriptors beside them.
//!
//! Three rules, each learnt from Node's source or by trying: a blank or partial line kills the app,
//! so lines are only ever written whole; several handles (descriptors) may be under way, but none
//! together with a line that has none; and the channel of a living app is never closed from this
//! side, because the app's next `process.send()` would kill it.
//!
//! The second rule: the kernel never gives two pieces that have descriptors at one read, so Node finds
//! each handle with its own line, in any number. A plain line however is read together with the
//! handle that follows it, and if the read ends within the handle's line, the next one brings two
//! handles at once, of which Node forgets one. (Its own sender waits for each acknowledgement, which
//! costs a round trip for each.)
//!
//! While handles are under way, the app's answers are looked for from time to time instead of waited
//! for: an app that takes thousands of connections a second writes two lines for each, and to be woken
//! for each of them would cost more than all else that is done for a connection.

mod lines;
mod message;

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use self::lines::{Line, Lines, MAX_LINE};
pub(crate) use self::message::{ClusterMessage, ForAll, Incoming, may_be_nodes};

/// What is read at once: what Node writes at once.
const READ_SIZE: usize = 64 * 1024;

/// What is read at once where that was enough the last time.
const SHORT_READ: usize = 2 * 1024;

/// Handles that may be under way. Who sends them has limits of its own.
const MAX_UNDER_WAY: usize = 64;

/// How often answers are looked for while handles are under way.
const LOOK: Duration = Duration::from_millis(1);

/// How often Node resends a handle that did not arrive before it gives up; so do we.
const MAX_RESENDS: u32 = 3;

/// Messages that may wait for an app that does not read its channel.
const MAX_QUEUED: usize = 4096;

/// Plain lines that follow each other are written together, up to about this.
const TOGETHER: usize = 64 * 1024;

/// Our end of the channel.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    /// A copy of it that the runtime watches, unless answers are looked for.
    watched: Option<UnixStream>,
    /// When they are looked for next.
    look: Option<Instant>,
    /// The last look or wait found something.
    lively: bool,
    lines: Lines,
    /// How much is read at once.
    read_size: usize,
    arrived: VecDeque<Incoming>,
    /// Acknowledgements: they may overtake a handle, or both sides would wait for each other.
    replies: VecDeque<Frame>,
    outbox: VecDeque<Frame>,
    /// The frame that is being written.
    current: Option<Frame>,
    /// The handles that the app has not acknowledged yet, in the order in which they were sent. No
    /// line of the outbox that has none overtakes them.
    under_way: VecDeque<Frame>,
    /// A plain line was written after the last handle.
    plain: bool,
    /// Bytes of users' messages that wait, here and on their way here.
    queued: Arc<AtomicUsize>,
}

/// One line to be written, and the descriptor that goes with it.
#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    written: usize,
    /// How much of it users' messages are.
    user: usize,
    handle: Option<Arc<OwnedFd>>,
    /// The message's own number, to tell which handle did not arrive.
    sequence: Option<u64>,
    resends: u32,
    /// A handle that was sent behind a plain line: it goes alone.
    alone: bool,
}

impl Channel {
    /// Makes a channel: our end, and the end that the app inherits.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        let channel = Self {
            socket: ours,
            watched: None,
            look: None,
            lively: true,
            lines: Lines::new(MAX_LINE),
            read_size: SHORT_READ,
            arrived: VecDeque::new(),
            replies: VecDeque::new(),
            outbox: VecDeque::new(),
            current: None,
            under_way: VecDeque::new(),
            plain: false,
            queued: Arc::default(),
        };
        Ok((channel, theirs.into()))
    }

    /// Queues one message. It goes out while [`Channel::next`] is awaited.
    pub(crate) fn send(&mut self, message: &serde_json::Value) {
        self.outbox.push_back(Frame::new(message));
    }

    /// How many bytes of users' messages wait for the app. Who is about to call
    /// [`Channel::send_lines`] adds them here; they are taken off when they are written.
    pub(crate) fn queued(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.queued)
    }

    /// Queues users' messages: whole lines, each a JSON text.
    pub(crate) fn send_lines(&mut self, lines: Vec<u8>) {
        match self.outbox.back_mut() {
            Some(last) if last.handle.is_none() && last.bytes.len() < TOGETHER => {
                last.bytes.extend_from_slice(&lines);
                last.user += lines.len();
            }
            _ => {
                let user = lines.len();
                self.outbox.push_back(Frame { user, ..Frame::of(lines, None) });
            }
        }
    }

    /// Queues one message that carries a descriptor, in the form that Node calls a native handle:
    /// `message` is JSON, and `sequence` its number.
    pub(crate) fn send_handle(
        &mut self,
        kind: &str,
        message: &str,
        sequence: Option<u64>,
        handle: Arc<OwnedFd>,
    ) {
        let line = format!("{{\"cmd\":\"NODE_HANDLE\",\"type\":\"{kind}\",\"msg\":{message}}}\n");
        self.outbox.push_back(Frame { sequence, ..Frame::of(line.into_bytes(), Some(handle)) });
    }

    /// The next message from the app, `None` at the channel's end. Writes what is queued meanwhile.
    /// May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Incoming>> {
        loop {
            if let Some(message) = self.arrived.pop_front() {
                match message {
                    Incoming::HandleAck => drop(self.under_way.pop_front()),
                    Incoming::HandleNack => {
                        if let Some(sequence) = self.resend() {
                            return Ok(Some(Incoming::HandleLost(sequence)));
                        }
                    }
                    Incoming::Handle(beside) => {
                        self.acknowledge();
                        if let Some(text) = beside {
                            return Ok(Some(Incoming::User(text)));
                        }
                    }
                    other => return Ok(Some(other)),
                }
                continue;
            }
            let writing = self.flush()?;
            // An app that asks and asks but reads no answer must not fill our memory.
            let reading = self.outbox.len() + self.replies.len() < MAX_QUEUED;
            if reading && !writing && self.lively && !self.under_way.is_empty() {
                self.watched = None;
                // Kept, since this may be dropped and called again many times before.
                let time = *self.look.get_or_insert_with(|| Instant::now() + LOOK);
                sleep_until(time).await;
                self.look = None;
            } else {
                let interest = match (reading, writing) {
                    (true, true) => Interest::READABLE | Interest::WRITABLE,
                    (true, false) => Interest::READABLE,
                    (false, _) => Interest::WRITABLE,
                };
                match self.watch() {
                    Ok(watched) => drop(watched.ready(interest).await?),
                    Err(_no_descriptor_left) => sleep(LOOK).await,
                }
            }
            if !reading {
                continue;
            }
            match self.read() {
                Ok(0) => return Ok(None),
                Ok(_) => self.lively = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.lively = false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn watch(&mut self) -> io::Result<&UnixStream> {
        let watched = match self.watched.take() {
            Some(watched) => watched,
            None => UnixStream::from_std(self.socket.try_clone()?)?,
        };
        Ok(self.watched.insert(watched))
    }

    /// Reads or writes, in a way that the runtime learns of it when that is not possible now.
    fn attempt<T>(
        &self,
        interest: Interest,
        act: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.watched {
            Some(watched) => watched.try_io(interest, || act(self.socket.as_fd())),
            None => act(self.socket.as_fd()),
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let (mut short, mut long);
        let buffer: &mut [u8] = if self.read_size == SHORT_READ {
            short = [0; SHORT_READ];
            &mut short
        } else {
            long = vec![0; READ_SIZE]; // not kept: most workers say nothing for hours
            &mut long
        };
        let read = self.attempt(Interest::READABLE, |socket| receive(socket, buffer))?;
        self.read_size = if read == buffer.len() { READ_SIZE } else { SHORT_READ };
        let arrived = &mut self.arrived;
        self.lines.push(&buffer[..read], |line| {
            arrived.push_back(match line {
                Line::Whole(bytes) => Incoming::parse(bytes),
                Line::TooLong(beginning, length) => Incoming::parse_truncated(beginning, length),
            });
        });
        Ok(read)
    }

    /// Writes what can be written now; says whether more waits for the socket.
    fn flush(&mut self) -> io::Result<bool> {
        loop {
            if self.current.is_none() {
                self.current = self.replies.pop_front();
            }
            if self.current.is_none() && self.may_send_next() {
                self.current = self.outbox.pop_front();
            }
            let Some(frame) = &self.current else {
                return Ok(false);
            };
            let written = match self.attempt(Interest::WRITABLE, |socket| transmit(socket, frame)) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                // The app's end is closed. What it wrote before is still to be read, so this is
                // not the end yet: reading finds it.
                Err(error) if is_gone(&error) => {
                    self.current = None;
                    self.under_way.clear();
                    self.outbox.clear();
                    self.replies.clear();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            let Some(frame) = &mut self.current else { continue };
            frame.written += written;
            if frame.written == frame.bytes.len() {
                self.queued.fetch_sub(frame.user, Ordering::Relaxed);
                if frame.handle.is_none() {
                    self.plain = true;
                    self.current = None;
                } else {
                    frame.alone = std::mem::take(&mut self.plain);
                    self.under_way.extend(self.current.take());
                }
            }
        }
    }

    /// Whether what is first in the outbox may follow what is under way.
    fn may_send_next(&self) -> bool {
        let Some(first) = self.under_way.front() else { return true };
        let is_handle = self.outbox.front().is_some_and(|frame| frame.handle.is_some());
        is_handle && !first.alone && !self.plain && self.under_way.len() < MAX_UNDER_WAY
    }

    /// Sends the handle that did not arrive again; when that was often enough, returns its number.
    fn resend(&mut self) -> Option<u64> {
        let mut frame = self.under_way.pop_front()?;
        if frame.resends == MAX_RESENDS {
            return frame.sequence;
        }
        frame.resends += 1;
        frame.written = 0;
        self.outbox.push_front(frame);
        None
    }

    fn acknowledge(&mut self) {
        let acknowledgement = serde_json::json!({ "cmd": "NODE_HANDLE_ACK" });
        self.replies.push_back(Frame::new(&acknowledgement));
    }
}

// === impl Frame ===

impl Frame {
    fn new(message: &serde_json::Value) -> Self {
        let mut bytes = message.to_string().into_bytes();
        bytes.push(b'\n');
        Self::of(bytes, None)
    }

    fn of(bytes: Vec<u8>, handle: Option<Arc<OwnedFd>>) -> Self {
        Self { bytes, written: 0, user: 0, handle, sequence: None, resends: 0, alone: false }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn transmit(socket: BorrowedFd<'_>, frame: &Frame) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptor;
    // The descriptor goes with the first byte, once.
    if let (Some(handle), 0) = (&frame.handle, frame.written) {
        descriptor = [handle.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptor));
    }
    let bytes = [IoSlice::new(&frame.bytes[frame.written..])];
    Ok(sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL)?)
}

/// Reads bytes; closes the descriptors that came with them, for which there is no use here.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptors.for_each(drop);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests;
