//! What all connections share.

use std::cell::{Cell, RefCell};

use tokio::sync::{Notify, watch};

use super::budget::{Budget, Spares};
use super::handover::Handover;
use super::shares::Pool;
use super::turns::Turns;
use crate::base::limiter::Limiter;
use crate::session::command::ServerInfo;
use crate::session::namespace::Trust;
use crate::session::protocol::Limits;
use crate::session::store::Store;

/// All that connections share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) store: RefCell<Store>,
    pub(super) info: ServerInfo,
    pub(super) limits: Limits,
    /// Connections.
    pub(super) seats: Pool,
    /// Connections that are being refused.
    pub(super) refusing: Cell<usize>,
    /// What is said of them in the journal.
    pub(super) refusals: Limiter,
    pub(super) turns: Turns,
    pub(super) budget: Budget,
    pub(super) outputs: Spares,
    pub(super) trust: Trust,
    /// A checkpoint has ended: writers that waited for room may go on.
    pub(super) flushed: Notify,
    stopping: watch::Sender<bool>,
    is_stopping: Cell<bool>,
    /// Connections for the next process.
    pub(super) handovers: RefCell<Vec<Handover>>,
    /// The regular work rests until there is a change.
    pub(super) resting: Cell<bool>,
    pub(super) changed: Notify,
    /// A connection has ended.
    pub(super) left: Notify,
    pub(super) next_id: Cell<u64>,
}

impl Server {
    /// With this store, and no connection yet.
    pub(super) fn new(store: Store, info: ServerInfo) -> Self {
        Self {
            store: RefCell::new(store),
            seats: Pool::new(info.max_connections),
            refusing: Cell::new(0),
            refusals: Limiter::new(),
            info,
            limits: Limits::default(),
            turns: Turns::default(),
            budget: Budget::default(),
            outputs: Spares::default(),
            trust: Trust::from_system(),
            flushed: Notify::new(),
            stopping: watch::Sender::new(false),
            is_stopping: Cell::new(false),
            handovers: RefCell::default(),
            resting: Cell::new(false),
            changed: Notify::new(),
            left: Notify::new(),
            next_id: Cell::new(1),
        }
    }

    /// Waits for something, but no longer than until the service stops: `None` then.
    pub(super) async fn unless_stopping<F: Future>(&self, waiting: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = waiting => Some(done),
            () = self.stops() => None,
        }
    }

    /// Completes when the service stops.
    pub(super) async fn stops(&self) {
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Has all that wait here let go.
    pub(super) fn stop(&self) {
        self.is_stopping.set(true);
        self.stopping.send_replace(true);
    }

    /// Whether the service stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// There may be regular work again.
    pub(super) fn note_change(&self) {
        if self.resting.take() {
            self.changed.notify_one();
        }
    }
}
