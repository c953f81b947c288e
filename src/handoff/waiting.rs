//! A connection on its way to a worker, and for how long it is put off when none wants it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::closing::Handed;
use crate::front::counters::Counters;

/// How long a connection that a worker's app refused waits before it is offered again; doubled each
/// time, up to the second one.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// A connection that no worker has taken yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) socket: Handed,
    pub(super) accepted: Instant,
    _open: Open,
    /// Not to be offered before this.
    pub(super) not_before: Option<Instant>,
    refusals: u32,
}

/// An open connection, as the front counts them; dropping it counts it out.
#[derive(Debug)]
pub(super) struct Open(Arc<Counters>);

impl Waiting {
    /// One that has just been accepted.
    pub(super) fn new(socket: OwnedFd, open: Open) -> Self {
        let socket = socket.into();
        Self { socket, accepted: Instant::now(), _open: open, not_before: None, refusals: 0 }
    }

    /// It was refused, and is offered again after a while.
    pub(super) fn put_off(&mut self) {
        let pause = RETRY_MIN.saturating_mul(1 << self.refusals.min(6)).min(RETRY_MAX);
        self.refusals += 1;
        self.not_before = Some(Instant::now() + pause);
    }
}

impl Open {
    pub(super) fn count(counters: &Arc<Counters>) -> Self {
        counters.accepted.add(1);
        counters.connections.open(1);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.close();
    }
}
