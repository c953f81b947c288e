//! The rest of the shim's way to the task that owns the channel.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Command, HandedIn, View};

/// What may wait of users' messages for an app that does not read, in bytes; a longer message goes
/// through when nothing waits.
const MAX_INBOX: usize = 8 * 1024 * 1024;

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
