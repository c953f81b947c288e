//! One request at a server, from the pick to the end of the response.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::gate::Entry;
use super::server::Server;

/// One request in flight at a server; dropping it counts it out.
#[derive(Debug)]
pub struct InFlight {
    server: Arc<Server>,
    thread: usize,
    entry: Entry,
    began: Option<Instant>,
    /// The server's place in its upstream, and whether the client must be told by a cookie.
    pub(super) pin: Option<usize>,
}

/// In which way a server failed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFailure {
    /// No connection could be made.
    Connect,
    /// No response in time.
    Timeout,
    /// What came was not HTTP, or broke off.
    InvalidResponse,
}

/// Errors of a server on one thread that make the monitor look at its rate at once.
const ERRORS_PER_ALERT: u64 = 16;

impl Server {
    /// Counts a request in, unless the server takes none.
    pub fn begin(self: &Arc<Self>, thread: usize) -> Option<InFlight> {
        self.begin_as(thread, Entry { counted: self.is_counted(), ..Entry::default() })
    }

    /// As [`Self::begin`], for those who come in a special way.
    pub(super) fn begin_as(self: &Arc<Self>, thread: usize, entry: Entry) -> Option<InFlight> {
        self.gate.enter(thread, entry).ok()?;
        self.counters[thread].requests.fetch_add(1, Ordering::Relaxed);
        Some(InFlight::new(Arc::clone(self), thread, entry))
    }
}

impl InFlight {
    pub(super) fn new(server: Arc<Server>, thread: usize, entry: Entry) -> Self {
        Self { server, thread, entry, began: None, pin: None }
    }

    pub(super) fn begun(mut self, now: Instant) -> Self {
        self.began = Some(now);
        self
    }

    /// The server it is at.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether it is the one request that tries a suspect server.
    pub fn is_trial(&self) -> bool {
        self.entry.trial
    }

    /// Says that the server failed this request, whatever the reason.
    ///
    /// Not for a kept-alive connection that turned out to be closed: that is no failure at all.
    pub fn failed(&self) {
        self.count_failure();
    }

    /// Says in which way the server failed this request; whether it counts is configured.
    pub fn failed_by(&self, failure: ServerFailure) {
        let counted = self.server.passive().failures;
        let counts = match failure {
            ServerFailure::Connect => counted.connect,
            ServerFailure::Timeout => counted.timeout,
            ServerFailure::InvalidResponse => counted.invalid_response,
        };
        if counts {
            self.count_failure();
        }
    }

    /// Says that the head of a final response came with this status.
    pub fn responded(&self, status: u16, now: Instant) {
        if status >= 400 && self.server.passive().statuses.contains(status) {
            return self.count_failure();
        }
        let error = status >= 500;
        let counters = &self.server.counters[self.thread];
        counters.answered.fetch_add(1, Ordering::Relaxed);
        if error {
            let before = counters.errors.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(ERRORS_PER_ALERT) {
                self.server.alert();
            }
        }
        if self.server.is_measured() {
            if self.server.errors.learn(error) {
                self.server.changed();
            }
            // An error that comes fast says nothing about how fast the server works.
            if let Some(began) = self.began
                && !error
            {
                self.server.latency.learn(now.saturating_duration_since(began), now);
            }
        }
        if self.entry.trial {
            self.server.trials[0].fetch_add(1, Ordering::Release);
            self.server.alert();
        }
    }

    /// The same, now: looks at the clock only where somebody wants to know.
    pub fn responded_now(&self, status: u16) {
        let now = match self.began {
            Some(began) if !self.server.is_measured() => began,
            _ => Instant::now(),
        };
        self.responded(status, now);
    }

    fn count_failure(&self) {
        self.server.counters[self.thread].failures.fetch_add(1, Ordering::Relaxed);
        self.server.setbacks.fetch_add(1, Ordering::Relaxed);
        if self.server.is_measured() {
            self.server.errors.learn(true);
        }
        if self.entry.trial {
            self.server.trials[1].fetch_add(1, Ordering::Release);
        }
        self.server.changed(); // effective weights fall
        self.server.alert();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.server.gate.leave(self.thread, self.entry);
        if self.entry.counted
            && self.server.gate.has_limit()
            && let Some(shared) = self.server.shared()
        {
            shared.freed.notify_one();
        }
    }
}
