//! All threads as the accepting one sees them: what each is told, and who has how many connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::batch::{Accepted, Batch};
use super::listener::Listener;
use crate::front::counters::Counters;

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve these.
    Connections(Batch),
    /// Accept from these; only thread 0 is told so.
    Accept(Vec<Listener>),
    /// Accept no more, and say so.
    StopAccepting(tokio::sync::oneshot::Sender<()>),
    ForgetIdle(u32),
    /// Move the heartbeat.
    Beat,
    /// Have every connection look whether it must end, or its request go elsewhere.
    Look,
    /// Make place: clients wait for one.
    Crowded,
    /// Finish what is in flight and keep nothing alive.
    Stop,
    /// Answer what has begun, and has not been answered.
    GiveUp,
    /// End everything now.
    Cut,
    /// Say so and block the thread until told otherwise: what a stuck thread does.
    #[cfg(test)]
    Block(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>),
}

/// The other ends of all threads, as the accepting one sees them.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) commands: Vec<UnboundedSender<Command>>,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) clients: RefCell<HashMap<IpAddr, usize>>,
    pub(super) gone: RefCell<UnboundedReceiver<IpAddr>>,
    /// The other end of `gone`.
    pub(super) leave: UnboundedSender<IpAddr>,
    pub(super) counting: Cell<bool>,
    /// When [`Self::crowded`] was said last, in the accepting thread's milliseconds.
    pub(super) said: Cell<u64>,
}

/// How often the threads are told that it is crowded.
const CROWDED: u64 = 1000;

impl Links {
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Open connections of each thread, with those on their way there.
    pub(super) fn open_each(&self) -> Vec<usize> {
        self.counters.iter().map(|counters| counters.connections.all()).collect()
    }

    /// Open connections in all.
    pub(super) fn open(&self) -> usize {
        self.open_each().iter().sum()
    }

    /// Gives a batch to a thread.
    pub(super) fn hand(&self, thread: usize, batch: Batch) {
        self.counters[thread].connections.hand(batch.connections.len());
        let _ = self.commands[thread].send(Command::Connections(batch));
    }

    /// Tells every thread that clients wait for a place, if it was not told just now.
    pub(super) fn crowded(&self, now: u64) {
        if now >= self.said.get() + CROWDED {
            self.said.set(now);
            for thread in &self.commands {
                let _ = thread.send(Command::Crowded);
            }
        }
    }

    /// Leaves out the connections of clients that have too many.
    pub(super) fn admit(
        &self,
        mut batch: Vec<Accepted>,
        most: Option<usize>,
        mut refuse: impl FnMut(IpAddr),
    ) -> Vec<Accepted> {
        let mut clients = self.clients.borrow_mut();
        let Some(most) = most else {
            if self.counting.replace(false) {
                clients.clear();
            }
            return batch;
        };
        // Connections that were open before the limit was set are not known and not counted.
        self.counting.set(true);
        while let Ok(peer) = self.gone.borrow_mut().try_recv() {
            if let Some(count) = clients.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    clients.remove(&peer);
                }
            }
        }
        batch.retain(|accepted| {
            let Some(peer) = accepted.peer.map(|peer| peer.ip().to_canonical()) else {
                return true;
            };
            let count = clients.entry(peer).or_default();
            if *count >= most {
                refuse(peer);
                return false;
            }
            *count += 1;
            true
        });
        batch
    }
}
