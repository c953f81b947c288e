//! What a thread's connections share: all of it belongs to that thread alone, but for the front.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::budget::Budget;
use super::http2::{Links, Workers};
use super::server::Pool;
use crate::front::Front;
use crate::front::Reason;
use crate::front::counters::Counters;
use crate::front::current::{CurrentSnapshot, ThreadSnapshot};
use crate::io::deadline::Deadlines;

/// Warnings a second that a thread writes: enough to see what is wrong, too few to do harm.
const WARNINGS: u32 = 20;

/// A thread's own part of the front.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) index: usize,
    pub(crate) front: Arc<Front>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) pool: RefCell<Pool>,
    /// Connections to servers that many requests share.
    pub(crate) links: RefCell<Links>,
    /// Tasks that wait for a stream of a client.
    pub(crate) workers: Workers,
    pub(crate) budget: RefCell<Budget>,
    pub(crate) stopping: Cell<bool>,
    /// Whose turn it is to work on a TLS handshake.
    pub(crate) handshakes: Semaphore,
    snapshot: ThreadSnapshot,
    ids: Cell<u64>,
    id_key: RandomState,
    warnings: Cell<Warnings>,
}

#[derive(Debug, Clone, Copy)]
struct Warnings {
    since: Instant,
    written: u32,
    left_out: u64,
}

/// What an event in the journal is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) id: &'a str,
    pub(crate) client: Option<std::net::IpAddr>,
    pub(crate) upstream: &'a str,
    pub(crate) server: &'a str,
    pub(crate) route: &'a str,
    pub(crate) detail: &'a str,
}

impl Local {
    pub(crate) fn new(index: usize, front: Arc<Front>, counters: Arc<Counters>) -> Rc<Self> {
        let snapshot = ThreadSnapshot::new(&front);
        Rc::new(Self {
            index,
            budget: RefCell::new(Budget::new(front.threads())),
            front,
            counters,
            deadlines: Deadlines::new(),
            pool: RefCell::default(),
            links: RefCell::default(),
            workers: Workers::default(),
            stopping: Cell::new(false),
            handshakes: Semaphore::new(1),
            snapshot,
            ids: Cell::new(0),
            id_key: RandomState::new(),
            warnings: Cell::new(Warnings { since: Instant::now(), written: 0, left_out: 0 }),
        })
    }

    /// The configuration at work.
    pub(crate) fn snapshot(&self) -> Rc<CurrentSnapshot> {
        self.snapshot.current()
    }

    /// A request id that no other request of any front is likely to have.
    pub(crate) fn request_id(&self) -> String {
        self.ids.set(self.ids.get() + 1);
        format!("{:016x}", self.id_key.hash_one((self.index, self.ids.get())))
    }

    /// Counts and logs that a request ended without a server's answer, or that a connection did.
    pub(crate) fn refused(&self, reason: Reason, about: &About<'_>) {
        self.counters.reasons.of(reason).add(1);
        if !reason.is_servers() {
            debug!(
                roundsman_request = about.id,
                roundsman_client = about.client.map(tracing::field::display),
                roundsman_route = about.route,
                roundsman_reason = reason.name(),
                "{} {}",
                reason.text(),
                about.detail
            );
            return;
        }
        let Some(left_out) = self.may_warn() else { return };
        if left_out > 0 {
            warn!("{left_out} further warnings about requests were left out");
        }
        warn!(
            roundsman_request = about.id,
            roundsman_app = about.upstream.strip_prefix("app:").unwrap_or(about.upstream),
            roundsman_worker = about.server,
            roundsman_client = about.client.map(tracing::field::display),
            roundsman_route = about.route,
            roundsman_reason = reason.name(),
            "{} (request {}) {}",
            reason.text(),
            about.id,
            about.detail
        );
    }

    /// Whether a warning may be written now, and how many were not since the last one.
    fn may_warn(&self) -> Option<u64> {
        let mut warnings = self.warnings.get();
        if warnings.since.elapsed().as_secs() >= 1 {
            warnings.since = Instant::now();
            warnings.written = 0;
        }
        let may = warnings.written < WARNINGS;
        let left_out = warnings.left_out;
        if may {
            warnings.written += 1;
            warnings.left_out = 0;
        } else {
            warnings.left_out += 1;
        }
        self.warnings.set(warnings);
        may.then_some(left_out)
    }
}
