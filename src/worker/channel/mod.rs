//! Node's channel to the process that started it: lines of JSON over a UNIX stream socket, with
//! descriptors beside them.
//!
//! Three rules, each learnt from Node's source or by trying: a blank or partial line kills the app,
//! so lines are only ever written whole; of handles (descriptors) only one may be under way until
//! the app has acknowledged it; and the channel of a living app is never closed from this side,
//! because the app's next `process.send()` would kill it.

mod lines;
mod message;

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

pub(crate) use self::lines::{Line, Lines, MAX_LINE};
pub(crate) use self::message::{ClusterMessage, Incoming};

/// What is read at once: what Node writes at once.
const READ_SIZE: usize = 64 * 1024;

/// How often Node resends a handle that did not arrive before it gives up; so do we.
const MAX_RESENDS: u32 = 3;

/// Messages that may wait for an app that does not read its channel.
const MAX_QUEUED: usize = 4096;

/// Plain lines that follow each other are written together, up to about this.
const TOGETHER: usize = 64 * 1024;

/// Our end of the channel.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    lines: Lines,
    arrived: VecDeque<Incoming>,
    /// Acknowledgements: they may overtake a handle, or both sides would wait for each other.
    replies: VecDeque<Frame>,
    outbox: VecDeque<Frame>,
    /// The frame that is being written.
    current: Option<Frame>,
    /// The handle that the app has not acknowledged yet: nothing of the outbox overtakes it.
    under_way: Option<Frame>,
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
}

impl Channel {
    /// Makes a channel: our end, and the end that the app inherits.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let channel = Self {
            stream: UnixStream::from_std(ours)?,
            lines: Lines::new(MAX_LINE),
            arrived: VecDeque::new(),
            replies: VecDeque::new(),
            outbox: VecDeque::new(),
            current: None,
            under_way: None,
            queued: Arc::default(),
        };
        Ok((channel, theirs.into()))
    }

    /// Queues one message. It goes out while [`Channel::next`] is awaited.
    pub(crate) fn send(&mut self, message: &serde_json::Value) {
        self.outbox.push_back(Frame::new(message, None));
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

    /// Queues one message that carries a descriptor, in the form that Node calls a native handle.
    pub(crate) fn send_handle(
        &mut self,
        kind: &str,
        message: &serde_json::Value,
        handle: Arc<OwnedFd>,
    ) {
        let envelope = serde_json::json!({ "cmd": "NODE_HANDLE", "type": kind, "msg": message });
        let sequence = message["seq"].as_u64();
        self.outbox.push_back(Frame { sequence, ..Frame::new(&envelope, Some(handle)) });
    }

    /// The next message from the app, `None` at the channel's end. Writes what is queued meanwhile.
    /// May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Incoming>> {
        loop {
            if let Some(message) = self.arrived.pop_front() {
                match message {
                    Incoming::HandleAck => self.under_way = None,
                    Incoming::HandleNack => {
                        if let Some(sequence) = self.resend() {
                            return Ok(Some(Incoming::HandleLost(sequence)));
                        }
                    }
                    Incoming::Handle => self.acknowledge(),
                    other => return Ok(Some(other)),
                }
                continue;
            }
            let writing = self.flush()?;
            // An app that asks and asks but reads no answer must not fill our memory.
            let reading = self.outbox.len() + self.replies.len() < MAX_QUEUED;
            let interest = match (reading, writing) {
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (true, false) => Interest::READABLE,
                (false, _) => Interest::WRITABLE,
            };
            self.stream.ready(interest).await?;
            if !reading {
                continue;
            }
            match self.read() {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = vec![0_u8; READ_SIZE]; // not kept: most workers say nothing for hours
        let stream = &self.stream;
        let read = stream.try_io(Interest::READABLE, || receive(stream.as_fd(), &mut buffer))?;
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
            if self.current.is_none() && self.under_way.is_none() {
                self.current = self.outbox.pop_front();
            }
            let Some(frame) = &mut self.current else {
                return Ok(false);
            };
            let stream = &self.stream;
            match stream.try_io(Interest::WRITABLE, || transmit(stream.as_fd(), frame)) {
                Ok(written) => frame.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                // The app's end is closed. What it wrote before is still to be read, so this is
                // not the end yet: reading finds it.
                Err(error) if is_gone(&error) => {
                    (self.current, self.under_way) = (None, None);
                    self.outbox.clear();
                    self.replies.clear();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            if frame.written == frame.bytes.len() {
                self.queued.fetch_sub(frame.user, Ordering::Relaxed);
                let sent = self.current.take();
                if sent.as_ref().is_some_and(|frame| frame.handle.is_some()) {
                    self.under_way = sent;
                }
            }
        }
    }

    /// Sends the handle that did not arrive again; when that was often enough, returns its number.
    fn resend(&mut self) -> Option<u64> {
        let mut frame = self.under_way.take()?;
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
        self.replies.push_back(Frame::new(&acknowledgement, None));
    }
}

// === impl Frame ===

impl Frame {
    fn new(message: &serde_json::Value, handle: Option<Arc<OwnedFd>>) -> Self {
        let mut bytes = message.to_string().into_bytes();
        bytes.push(b'\n');
        Self::of(bytes, handle)
    }

    fn of(bytes: Vec<u8>, handle: Option<Arc<OwnedFd>>) -> Self {
        Self { bytes, written: 0, user: 0, handle, sequence: None, resends: 0 }
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
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdStream;

    use serde_json::json;

    use super::*;

    fn pair() -> (Channel, StdStream) {
        let (channel, theirs) = Channel::pair().unwrap();
        (channel, theirs.into())
    }

    /// What the app's end has been sent, with the number of descriptors that came along.
    fn read_all(app: &StdStream) -> (String, usize) {
        app.set_nonblocking(true).unwrap();
        let (mut text, mut handles) = (Vec::new(), 0);
        loop {
            let mut buffer = [0_u8; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [IoSliceMut::new(&mut buffer)];
            let Ok(received) = recvmsg(app, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)
            else {
                break;
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    handles += descriptors.count();
                }
            }
            let count = received.bytes;
            text.extend_from_slice(&buffer[..count]);
        }
        (String::from_utf8(text).unwrap(), handles)
    }

    /// The app says something, and the channel works until all that is said and what there is to
    /// write is written.
    async fn turn(channel: &mut Channel, app: &mut StdStream, line: &str) {
        app.set_nonblocking(false).unwrap();
        app.write_all(line.as_bytes()).unwrap();
        for _ in 0..2 {
            app.write_all(b"\"synchronize\"\n").unwrap();
            while !matches!(channel.next().await.unwrap(), Some(Incoming::User(text)) if text == b"\"synchronize\"")
            {
            }
        }
    }

    #[tokio::test]
    async fn one_handle_at_a_time_and_nothing_overtakes_it() {
        let (mut channel, mut app) = pair();
        let (one, _other) = StdStream::pair().unwrap();
        let handle = Arc::new(OwnedFd::from(one));
        channel.send_handle("net.Native", &json!("a"), handle.clone());
        channel.send_handle("net.Native", &json!("b"), handle);
        channel.send(&json!("c"));
        turn(&mut channel, &mut app, "").await;
        let first = "{\"cmd\":\"NODE_HANDLE\",\"msg\":\"a\",\"type\":\"net.Native\"}\n";
        assert_eq!(read_all(&app), (first.to_owned(), 1));
        turn(&mut channel, &mut app, "{\"cmd\":\"NODE_HANDLE_NACK\"}\n").await;
        assert_eq!(read_all(&app), (first.to_owned(), 1), "sent again, with its descriptor");
        turn(&mut channel, &mut app, "{\"cmd\":\"NODE_HANDLE_ACK\"}\n").await;
        let second = first.replace("\"a\"", "\"b\"");
        assert_eq!(read_all(&app), (second, 1), "the plain message waits behind the handle");
        turn(&mut channel, &mut app, "{\"cmd\":\"NODE_HANDLE_ACK\"}\n").await;
        assert_eq!(read_all(&app), ("\"c\"\n".to_owned(), 0));
    }

    #[tokio::test]
    async fn a_handle_that_never_arrives_is_given_back_and_the_next_one_goes_out() {
        let (mut channel, mut app) = pair();
        let (one, _other) = StdStream::pair().unwrap();
        let handle = Arc::new(OwnedFd::from(one));
        channel.send_handle("net.Native", &json!({ "seq": 7 }), handle.clone());
        channel.send_handle("net.Native", &json!({ "seq": 8 }), handle);
        for _ in 0..=MAX_RESENDS {
            turn(&mut channel, &mut app, "").await;
            assert_eq!(read_all(&app).1, 1);
            app.set_nonblocking(false).unwrap();
            app.write_all(b"{\"cmd\":\"NODE_HANDLE_NACK\"}\n\"next\"\n").unwrap();
            let answer = channel.next().await.unwrap().unwrap();
            if let Incoming::HandleLost(sequence) = answer {
                assert_eq!(sequence, 7);
                turn(&mut channel, &mut app, "").await;
                assert!(read_all(&app).0.contains("\"seq\":8"));
                return;
            }
        }
        panic!("it is never given back");
    }

    #[tokio::test]
    async fn an_apps_handle_is_acknowledged_even_while_ours_waits() {
        let (mut channel, mut app) = pair();
        let (one, _other) = StdStream::pair().unwrap();
        channel.send_handle("net.Native", &json!("a"), Arc::new(one.into()));
        turn(&mut channel, &mut app, "").await;
        read_all(&app);
        turn(&mut channel, &mut app, "{\"cmd\":\"NODE_HANDLE\",\"msg\":1}\n").await;
        assert_eq!(read_all(&app), ("{\"cmd\":\"NODE_HANDLE_ACK\"}\n".to_owned(), 0));
    }

    #[tokio::test]
    async fn what_the_app_wrote_before_it_died_is_read_to_the_end() {
        let (mut channel, mut app) = pair();
        app.write_all(b"\"last words\"\n\"cut").unwrap();
        drop(app);
        channel.send(&json!("nobody reads this"));
        assert!(
            matches!(channel.next().await.unwrap(), Some(Incoming::User(text)) if text == b"\"last words\"")
        );
        assert!(channel.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn lines_are_whole_however_slowly_the_app_reads() {
        let (mut channel, app) = pair();
        let message = json!("é".repeat(400_000));
        for _ in 0..3 {
            channel.send(&message);
        }
        let reader = std::thread::spawn(move || {
            let mut app = app;
            let mut text = vec![0_u8; 3 * (message.to_string().len() + 1)];
            app.read_exact(&mut text).unwrap();
            text.split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .all(|line| line == message.to_string().as_bytes())
        });
        while channel.next().await.unwrap().is_some() {}
        assert!(reader.join().unwrap());
    }
}
