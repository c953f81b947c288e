//! The way to one worker.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::waiting::Waiting;
use super::wire::{RECORD, Record, TOGETHER, WINDOW, send_connections};
use crate::balance::{InFlight, Server};
use crate::base::{text, worker_socket};

/// How long a worker may take to accept; it is tried again afterwards.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection on its way, and what counts it.
type Given = (Waiting, InFlight);

/// The pauses between two attempts to connect.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A worker that has served for so long is a good one: the next trouble with it is a new one.
const GOOD: Duration = Duration::from_secs(10);
/// What is told of what a worker says and nobody understands.
const QUOTED: usize = 64;

/// Whom a worker's link gives back to.
pub(super) trait Returns {
    /// A worker's app did not want it.
    fn refused(&self, waiting: Waiting);
    /// A worker has died with these.
    fn lost(&self, connections: Vec<Waiting>);
    /// A worker takes more now.
    fn look_again(&self);
}

/// The way to one worker.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: Arc<Server>,
    path: PathBuf,
    /// It has said that it takes connections.
    ready: Cell<bool>,
    closed: Cell<bool>,
    /// To be sent.
    outbox: RefCell<VecDeque<Given>>,
    /// Sent, and not answered.
    sent: RefCell<BTreeMap<u32, Given>>,
    number: Cell<u32>,
    /// How many it may have without an answer. An app that answers is trusted with more and more, so that it
    /// need not wait for each; one that has answered all begins anew, since it may be stuck the next time.
    window: Cell<usize>,
    wake: Notify,
}

impl Link {
    pub(super) fn new(server: Arc<Server>, path: PathBuf) -> Rc<Self> {
        Rc::new(Self {
            server,
            path,
            ready: Cell::new(false),
            closed: Cell::new(false),
            outbox: RefCell::default(),
            sent: RefCell::default(),
            number: Cell::new(0),
            window: Cell::new(1),
            wake: Notify::new(),
        })
    }

    /// Whether it may be given one more.
    pub(super) fn has_room(&self) -> bool {
        let open = self.outbox.borrow().len() + self.sent.borrow().len();
        self.ready.get() && open < self.window.get()
    }

    /// It has answered.
    fn answered(&self) {
        let window = if self.is_idle() { 1 } else { WINDOW.min(self.window.get() + 1) };
        self.window.set(window);
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.borrow().is_empty() && self.sent.borrow().is_empty()
    }

    pub(super) fn give(&self, waiting: Waiting, in_flight: InFlight) {
        self.outbox.borrow_mut().push_back((waiting, in_flight));
        self.wake.notify_one();
    }

    /// The worker is none of the app's any more.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.wake.notify_one();
    }

    /// Connects, again and again, and serves each connection to its end.
    pub(super) async fn run(self: Rc<Self>, handoff: Weak<impl Returns>) {
        let mut wait = SHORTEST_PAUSE;
        let mut warned = false;
        while !self.closed.get() {
            if let Ok(stream) = worker_socket::control_async(CONNECT, &self.path).await {
                let begun = Instant::now();
                let result = self.serve(stream, &handoff).await;
                self.ready.set(false);
                if begun.elapsed() >= GOOD {
                    (wait, warned) = (SHORTEST_PAUSE, false);
                }
                // Once: an app that speaks nonsense for ever is not to fill our log.
                if let Err(error) = result
                    && error.kind() != io::ErrorKind::UnexpectedEof
                    && !std::mem::replace(&mut warned, true)
                {
                    tracing::warn!("handing connections to {}: {error}", self.server.name);
                }
                let Some(handoff) = handoff.upgrade() else { return };
                let mut back: Vec<Waiting> = std::mem::take(&mut *self.sent.borrow_mut())
                    .into_values()
                    .map(|g| g.0)
                    .collect();
                back.extend(self.outbox.borrow_mut().drain(..).map(|given| given.0));
                self.window.set(1);
                handoff.lost(back);
            }
            pause(&mut wait).await;
        }
    }

    async fn serve(&self, mut stream: UnixStream, handoff: &Weak<impl Returns>) -> io::Result<()> {
        stream.write_all(b"handoff\n").await?;
        let mut partial = Vec::new();
        while !self.closed.get() || !self.sent.borrow().is_empty() {
            let blocked = self.send(&stream)?;
            tokio::select! {
                ready = stream.ready(Interest::READABLE) => {
                    ready?;
                    self.receive(&stream, &mut partial, handoff)?;
                }
                writable = stream.writable(), if blocked => writable?,
                () = self.wake.notified() => {}
            }
        }
        Ok(())
    }

    /// Sends what can be sent; whether more waits for the socket.
    fn send(&self, stream: &UnixStream) -> io::Result<bool> {
        loop {
            let mut outbox = self.outbox.borrow_mut();
            let count = outbox.len().min(TOGETHER);
            if count == 0 {
                return Ok(false);
            }
            let first = self.number.get();
            let numbers = (0..count as u32).map(|step| first.wrapping_add(step));
            let connections: Vec<_> = numbers
                .clone()
                .zip(outbox.iter().map(|(waiting, _)| waiting.socket.as_fd()))
                .collect();
            let sent = stream
                .try_io(Interest::WRITABLE, || send_connections(stream.as_fd(), &connections));
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            drop(connections);
            self.number.set(first.wrapping_add(count as u32));
            self.sent.borrow_mut().extend(numbers.zip(outbox.drain(..count)));
        }
    }

    fn receive(
        &self,
        stream: &UnixStream,
        partial: &mut Vec<u8>,
        handoff: &Weak<impl Returns>,
    ) -> io::Result<()> {
        let mut buffer = [0; 64 * RECORD];
        let read = match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        partial.extend_from_slice(&buffer[..read]);
        let whole = partial.len() - partial.len() % RECORD;
        let records: Vec<u8> = partial.drain(..whole).collect();
        let Some(handoff) = handoff.upgrade() else { return Ok(()) };
        for record in records.as_chunks::<RECORD>().0 {
            match Record::read(*record) {
                Some(Record::Ready) => self.ready.set(true),
                Some(Record::Busy) => self.ready.set(false),
                Some(Record::Taken(number)) => {
                    if let Some((_, in_flight)) = self.sent.borrow_mut().remove(&number) {
                        in_flight.responded(200, Instant::now());
                        in_flight.served();
                    }
                    self.answered();
                }
                Some(Record::Refused(number)) => {
                    let given = self.sent.borrow_mut().remove(&number);
                    self.answered();
                    if let Some((waiting, _in_flight)) = given {
                        handoff.refused(waiting);
                    }
                }
                None => {
                    let text = String::from_utf8_lossy(&records);
                    let said = text::one_line(text::beginning(&text, QUOTED));
                    return Err(io::Error::other(format!("it says \"{said}\"")));
                }
            }
        }
        handoff.look_again();
        Ok(())
    }
}

/// Returns after a pause that grows.
async fn pause(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
