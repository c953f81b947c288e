//! All threads as the accepting one sees them: what each is told, and who has how many connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::batch::{Accepted, Batch};
use super::listener::Listener;
use crate::config::settings::PerClient;
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

/// What one address may have of all connections.
#[derive(Debug)]
pub(super) struct Share<'a> {
    /// As many as there may be in all.
    pub(super) of: usize,
    pub(super) each: PerClient,
    pub(super) trusted: &'a [IpNet],
}

/// How often the threads are told that it is crowded.
const CROWDED: u64 = 1000;

impl Share<'_> {
    /// Connections that this address may have, if they are counted.
    fn most(&self, peer: IpAddr) -> Option<usize> {
        let most = match self.each {
            PerClient::AtMost(most) => most,
            PerClient::Half if !peer.is_loopback() => self.of.div_ceil(2),
            PerClient::Half | PerClient::Unlimited => return None,
        };
        (!self.trusted.iter().any(|net| net.contains(&peer))).then_some(most)
    }
}

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
        share: &Share<'_>,
        mut refuse: impl FnMut(IpAddr),
    ) -> Vec<Accepted> {
        let mut clients = self.clients.borrow_mut();
        if share.each == PerClient::Unlimited {
            if self.counting.replace(false) {
                clients.clear();
            }
            return batch;
        }
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
            let peer = accepted.peer.map(|peer| peer.ip().to_canonical());
            let Some((peer, most)) = peer.and_then(|peer| Some((peer, share.most(peer)?))) else {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_half_but_for_this_machine_and_proxies() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let most =
            |each, peer: &str| Share { of: 7, each, trusted: &trusted }.most(peer.parse().unwrap());
        for (each, stranger, here) in [
            (PerClient::Half, Some(4), None),
            (PerClient::AtMost(2), Some(2), Some(2)),
            (PerClient::Unlimited, None, None),
        ] {
            assert_eq!(most(each, "192.0.2.1"), stranger, "{each:?}");
            assert_eq!(most(each, "2001:db8::1"), stranger, "{each:?}");
            assert_eq!(most(each, "127.0.0.1"), here, "{each:?}");
            assert_eq!(most(each, "10.1.2.3"), None, "{each:?}");
        }
    }
}
