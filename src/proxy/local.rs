//! What a thread's connections share: all of it belongs to that thread alone, but for the front.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tracing::{debug, warn};

use super::budget::Budget;
use super::crowd::{self, GivenUp};
use super::http2::{Links, Workers};
use super::pool::Pool;
use super::server::ServerStream;
use crate::base::limiter::Limiter;
use crate::front::counters::Counters;
use crate::front::current::{CurrentSnapshot, ThreadSnapshot};
use crate::front::{Fault, Front, Reason};
use crate::io::deadline::Deadlines;

/// Warnings a second that a thread writes of an upstream: enough to see what is wrong, too few to do harm
/// or to keep another's out of the journal.
const WARNINGS: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// How often it is said that this machine has no room: it is the same for every request.
const EXHAUSTED: Duration = Duration::from_mins(1);
/// Milliseconds after which it is another crowd that waits for a place.
const STILL: u64 = 2500;

/// A thread's own part of the front.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) index: usize,
    pub(crate) front: Arc<Front>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) pool: RefCell<Pool<ServerStream>>,
    /// Connections to servers that many requests share.
    pub(crate) links: RefCell<Links>,
    /// Tasks that wait for a stream of a client.
    pub(crate) workers: Workers,
    pub(crate) budget: RefCell<Budget>,
    /// Bytes that wait for HTTP/2 clients to read them.
    pub(crate) backlog: Rc<Cell<usize>>,
    pub(crate) stopping: Cell<bool>,
    /// How often it was said that what is in flight has had its time: what began before waits for no server any more.
    pub(crate) given_up: Cell<u32>,
    /// Wakes the thread from its rest: it has connections again.
    pub(crate) roused: Notify,
    /// When it was said last that clients wait for a place, in the thread's milliseconds; 0 for never.
    pub(super) crowded: Cell<u64>,
    /// Whose turn it is to work on a TLS handshake.
    pub(crate) handshakes: Semaphore,
    snapshot: ThreadSnapshot,
    ids: Cell<u64>,
    id_key: RandomState,
    /// By upstream, of those of which there was one.
    warnings: RefCell<BTreeMap<String, Limiter>>,
    exhausted: Limiter,
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
            backlog: Rc::default(),
            stopping: Cell::new(false),
            given_up: Cell::new(0),
            roused: Notify::new(),
            crowded: Cell::new(0),
            handshakes: Semaphore::new(1),
            snapshot,
            ids: Cell::new(0),
            id_key: RandomState::new(),
            warnings: RefCell::default(),
            exhausted: Limiter::new(),
        })
    }

    /// Whether it keeps no connection to a server, and nothing waits to be read.
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.pool.borrow().is_empty() && self.links.borrow().is_empty() && self.backlog.get() == 0
    }

    /// Clients wait for a place: who has been idle for a while gives up his, and when they have waited
    /// for that in vain, connections end that the upstream with too many of them has requests on.
    pub(crate) fn make_place(&self) {
        self.deadlines.tick();
        let now = self.deadlines.now();
        let said = self.crowded.replace(now);
        if said > 0 && now <= said + STILL {
            self.give_up_most();
        }
        self.deadlines.wake_all();
    }

    fn give_up_most(&self) {
        let snapshot = self.snapshot();
        let share = self.counters.connections.all() / snapshot.upstreams.len().max(1);
        let Some(given_up) = crowd::give_up(&self.deadlines, share) else { return };
        let GivenUp { whose, ended, of } = given_up;
        let upstream = snapshot.upstreams.values().find(|upstream| upstream.number == whose);
        let name = upstream.map_or("an upstream that has gone", |upstream| &upstream.name);
        let Some(left_out) = self.may_warn(name) else { return };
        let app = name.strip_prefix("app:").unwrap_or(name);
        if left_out > 0 {
            warn!(roundsman_app = app, "{left_out} further warnings about requests were left out");
        }
        warn!(
            roundsman_app = app,
            "the front is full and clients wait: {ended} of {of} connections with a request, WebSocket or \
             event stream of {name} end, the oldest first (limits.connections; its even share is \
             {share} of those of thread {})",
            self.index
        );
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
        if !reason.is_worth_a_warning() {
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
        let ours = reason.fault() == Fault::Ours;
        let (left_out, what) = if ours {
            (self.exhausted.may_write(1, EXHAUSTED), "requests that found no room")
        } else {
            (self.may_warn(about.upstream), "warnings about requests")
        };
        let Some(left_out) = left_out else { return };
        let app = about.upstream.strip_prefix("app:").unwrap_or(about.upstream);
        if left_out > 0 {
            warn!(roundsman_app = app, "{left_out} further {what} were left out");
        }
        warn!(
            roundsman_request = about.id,
            roundsman_app = app,
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

    /// How many warnings of this upstream were left out since the last one; `None` when this one is to be.
    fn may_warn(&self, upstream: &str) -> Option<u64> {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains_key(upstream) {
            warnings.insert(upstream.to_owned(), Limiter::new());
        }
        warnings[upstream].may_write(WARNINGS, SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn what_one_app_fails_at_keeps_nothing_of_another_out_of_the_journal() {
        let front = Arc::new(Front::new(Settings::default(), 1));
        let local = Local::new(0, front, Arc::default());
        let written = |upstream| (0..100).filter(|_| local.may_warn(upstream).is_some()).count();
        assert!(written("app:loud") < 100);
        assert!(local.may_warn("app:quiet").is_some());
    }
}
