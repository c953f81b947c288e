//! The rest of the shim's way to the task that owns the channel.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{mpsc, oneshot, watch};

use crate::handoff::Record;
use crate::worker::clients::Doors;

/// What may wait of users' messages for an app that does not read, in bytes; a longer message goes
/// through when nothing waits.
const MAX_INBOX: usize = 8 * 1024 * 1024;

/// What is known of the app by what it said.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// It speaks the cluster protocol.
    pub(crate) online: bool,
    /// Where it believes to listen for the front.
    pub(crate) front: Option<String>,
    /// Where else it listens.
    pub(crate) others: Vec<String>,
    /// Where its servers are reached, or were.
    pub(in crate::worker) doors: Doors,
    /// It sent the message `"ready"`.
    pub(crate) said_ready: bool,
    /// It may be handed connections.
    pub(crate) takes: bool,
    /// It has closed the channel: it is leaving, or gone.
    pub(crate) gone: bool,
}

/// What the task can be asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Take connections from the worker's listener.
    Accept,
    /// Make the app's event loop answer.
    Ping(oneshot::Sender<()>),
    /// Offer this connection to the front's server; the answer says whether it was taken.
    Offer(OwnedFd, oneshot::Sender<bool>),
    /// Users' messages for the app: whole lines.
    Deliver(Vec<u8>),
    /// Offer this connection, and say what became of it.
    HandIn(HandedIn),
    /// Take no more connections, let the app close its servers and leave.
    Disconnect,
    /// Take no more connections, and say this to the app, whose `message` listeners get it.
    Say(Value),
}

/// A connection that was handed in.
#[derive(Debug)]
pub(crate) struct HandedIn {
    pub(crate) socket: OwnedFd,
    /// The front's number for it.
    pub(crate) number: u32,
    /// Where it is said what became of it.
    pub(crate) answer: UnboundedSender<Record>,
}

/// The rest of the shim's way to the task.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) view: watch::Receiver<View>,
    pub(super) is_cluster: bool,
    pub(super) inbox: Arc<Inbox>,
}

/// Why a message was not taken for the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// Too much waits for the app already.
    Full,
    /// The app has closed its channel.
    Gone,
}

/// What users' messages wait for the app.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) dropped: AtomicU64,
    /// How many of the dropped ones have been told of.
    pub(super) told: AtomicU64,
}

// === impl HandedIn ===

impl HandedIn {
    /// Gives it back.
    pub(super) fn refuse(self) {
        let _ = self.answer.send(Record::Refused(self.number)); // or the front is gone
    }
}

// === impl Handle ===

impl Handle {
    /// What is known of the app; changes can be waited for.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Whether the app is a cluster worker, that is, whether all the rest has a meaning.
    pub(crate) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    pub(crate) fn accept(&self) {
        self.command(Command::Accept);
    }

    pub(crate) fn disconnect(&self) {
        self.command(Command::Disconnect);
    }

    /// Sends the app its last message: no further connection is taken.
    pub(crate) fn say(&self, message: Value) {
        self.command(Command::Say(message));
    }

    /// Returns when the app's event loop has answered; never, if it does not.
    pub(crate) async fn ping(&self) {
        let (sender, answer) = oneshot::channel();
        self.command(Command::Ping(sender));
        if answer.await.is_err() {
            std::future::pending::<()>().await; // the app is gone; its exit is reported elsewhere
        }
    }

    /// Offers a connection to the app's server for the front, past everything that waits.
    pub(crate) async fn offer(&self, connection: OwnedFd) -> bool {
        let (sender, answer) = oneshot::channel();
        self.command(Command::Offer(connection, sender));
        match answer.await {
            Ok(accepted) => accepted,
            Err(_gone) => std::future::pending().await, // nobody is there to say no
        }
    }

    /// Queues users' messages for the app: `count` whole lines. They are taken or dropped together.
    pub(crate) fn deliver(&self, lines: Vec<u8>, count: u64) -> Result<(), Undelivered> {
        if self.view.borrow().gone {
            return Err(Undelivered::Gone);
        }
        let queued = self.inbox.queued.load(Ordering::Relaxed);
        if queued > 0 && queued + lines.len() > MAX_INBOX {
            self.inbox.dropped.fetch_add(count, Ordering::Relaxed);
            return Err(Undelivered::Full);
        }
        self.inbox.queued.fetch_add(lines.len(), Ordering::Relaxed);
        self.command(Command::Deliver(lines));
        Ok(())
    }

    /// How many bytes of messages wait for the app.
    pub(crate) fn queued(&self) -> usize {
        self.inbox.queued.load(Ordering::Relaxed)
    }

    /// How many messages were dropped because the app does not read.
    pub(crate) fn dropped(&self) -> u64 {
        self.inbox.dropped.load(Ordering::Relaxed)
    }

    /// How many were dropped since the last time that this was asked.
    pub(crate) fn gap(&self) -> u64 {
        let dropped = self.dropped();
        dropped - self.inbox.told.swap(dropped, Ordering::Relaxed)
    }

    /// Gives the app a connection that the front has handed in.
    pub(crate) fn hand_in(&self, connection: HandedIn) {
        if let Err(error) = self.commands.send(Command::HandIn(connection))
            && let Command::HandIn(connection) = error.0
        {
            connection.refuse();
        }
    }

    fn command(&self, command: Command) {
        let _ = self.commands.send(command); // the task ends with the app's channel
    }
}
