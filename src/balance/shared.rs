//! What the threads share about an upstream, across reloads.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::poison::Poisons;
use super::row::Answered;

/// Shared by the servers of an upstream; it lives on as long as one of them does.
#[derive(Debug)]
pub(super) struct Shared {
    /// Process-wide number of the upstream.
    pub(super) id: u32,
    /// Round-robin's turn.
    pub(super) turn: AtomicUsize,
    /// Wakes one request that waits for a place at a server with `max-connections`.
    pub(super) freed: Notify,
    /// Grows whenever a server changes in a way that picking must know about. Written rarely, so
    /// that each thread has it in its cache and knows for the price of one load that its own view
    /// of the servers is good.
    epoch: AtomicU64,
    /// Whom a server failed and another one answered.
    pub(super) answered: Answered,
    /// What servers have died of.
    pub(super) poisons: Poisons,
    /// Wakes the monitor.
    monitor: OnceLock<Arc<Notify>>,
}

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            turn: AtomicUsize::new(0),
            freed: Notify::new(),
            epoch: AtomicU64::new(0),
            answered: Answered::new(),
            poisons: Poisons::new(),
            monitor: OnceLock::new(),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn touch(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    pub(super) fn alert(&self) {
        if let Some(monitor) = self.monitor.get() {
            monitor.notify_one();
        }
    }

    pub(super) fn monitored_by(&self, monitor: &Arc<Notify>) {
        let _ = self.monitor.set(Arc::clone(monitor));
    }
}
