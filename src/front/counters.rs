//! What a thread counts. Only that thread writes, so counting is a plain load and store.

use std::sync::atomic::{AtomicU64, Ordering};

use super::presence::Presence;
use super::reason::{REASONS, Reason};

/// One number that one thread counts and every thread may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only the thread that owns it may.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Takes from it. Only the thread that owns it may.
    pub(crate) fn sub(&self, count: u64) {
        self.0.store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of something for each reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByReason<T>([T; REASONS]);

impl<T> ByReason<T> {
    /// That of this reason.
    pub fn of(&self, reason: Reason) -> &T {
        &self.0[reason as usize]
    }
}

impl<T: Default> Default for ByReason<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

/// One thread's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) heartbeat: Counter,
    pub(crate) accepted: Counter,
    pub(crate) connections: Presence,
    pub(crate) requests: Counter,
    pub(crate) statuses: [Counter; 6],
    pub(crate) retries: Counter,
    pub(crate) stale: Counter,
    pub(crate) waiting: Counter,
    pub(crate) upgraded: Counter,
    pub(crate) body_in: Counter,
    pub(crate) body_out: Counter,
    pub(crate) reasons: ByReason<Counter>,
}

/// What the whole front counted, from its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Client connections taken.
    pub accepted: u64,
    /// Client connections open now.
    pub open: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Responses by class: `[1]` is 1xx to `[5]` 5xx.
    pub statuses: [u64; 6],
    /// Requests tried on another server.
    pub retries: u64,
    /// Kept-alive server connections that turned out to be closed already.
    pub stale: u64,
    /// Requests that wait for a server now.
    pub waiting: u64,
    /// Connections upgraded to another protocol, open now.
    pub upgraded: u64,
    /// Bytes of request bodies.
    pub body_in: u64,
    /// Bytes of response bodies.
    pub body_out: u64,
    /// Requests that no server answered, by the number of the [`Reason`].
    pub reasons: ByReason<u64>,
}

impl Totals {
    /// How many requests ended for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        *self.reasons.of(reason)
    }

    pub(crate) fn add(&mut self, counters: &Counters) {
        self.accepted += counters.accepted.get();
        self.open += counters.connections.now_open() as u64;
        self.requests += counters.requests.get();
        for (sum, counter) in self.statuses.iter_mut().zip(&counters.statuses) {
            *sum += counter.get();
        }
        self.retries += counters.retries.get();
        self.stale += counters.stale.get();
        self.waiting += counters.waiting.get();
        self.upgraded += counters.upgraded.get();
        self.body_in += counters.body_in.get();
        self.body_out += counters.body_out.get();
        for (sum, counter) in self.reasons.0.iter_mut().zip(&counters.reasons.0) {
            *sum += counter.get();
        }
    }
}
