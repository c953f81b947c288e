//! One request at a server, from the pick to the end of the response.

use std::cell::Cell;
use std::net::IpAddr;
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
    /// What was answered was a failure.
    doubtful: Cell<bool>,
    /// Whose request it is, where that is known.
    client: Option<IpAddr>,
}

/// A request that failed at a server and goes to another one: it is the server's failure if that one
/// does better.
#[derive(Debug)]
pub struct Suspicion {
    server: Arc<Server>,
    thread: usize,
    trial: bool,
    counts: bool,
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
        Self {
            server,
            thread,
            entry,
            began: None,
            pin: None,
            doubtful: Cell::new(false),
            client: None,
        }
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
        self.suspicion(true).confirm();
    }

    /// Says in which way the server, and nobody else, failed this request; whether it counts is
    /// configured.
    pub fn failed_by(&self, failure: ServerFailure) {
        if self.counts(failure) {
            self.failed();
        }
    }

    /// Says that the request failed here in a way that may be its own fault. It goes to another server,
    /// which will show whose it was.
    #[must_use]
    pub fn suspect(self, failure: ServerFailure) -> Suspicion {
        let counts = self.counts(failure);
        if counts {
            self.count_failure();
        }
        self.suspicion(counts)
    }

    /// The same where no other server will show it: that counts if it happens again and again.
    pub fn doubted(&self, failure: ServerFailure) {
        if self.counts(failure) {
            self.count_failure();
            if self.entry.trial && failure == ServerFailure::Timeout {
                // The next one that tries it would have to wait as long.
                self.suspicion(true).confirm();
            } else {
                self.doubt();
            }
        }
    }

    /// Says whose request it is.
    pub fn is_for(&mut self, client: Option<IpAddr>) {
        self.client = client;
    }

    /// Says that the response came to its end.
    pub fn served(&self) {
        if self.doubtful.get() {
            return;
        }
        self.server.row.end();
        if let Some(shared) = self.server.shared() {
            shared.answered.note(self.client);
        }
    }

    fn doubt(&self) {
        self.doubtful.set(true);
        let passive = self.server.passive();
        let answered = self.server.shared().map(|shared| &shared.answered);
        let (window, most) = (passive.fail_window, passive.max_fails);
        let row = self.server.row.add((Instant::now(), self.client), window, most, answered);
        if let Some(count) = row {
            self.server.in_rows.fetch_add(count.into(), Ordering::Release);
            self.server.alert();
        }
    }

    fn counts(&self, failure: ServerFailure) -> bool {
        let counted = self.server.passive().failures;
        match failure {
            ServerFailure::Connect => counted.connect,
            ServerFailure::Timeout => counted.timeout,
            ServerFailure::InvalidResponse => counted.invalid_response,
        }
    }

    fn suspicion(&self, counts: bool) -> Suspicion {
        let (thread, trial) = (self.thread, self.entry.trial);
        Suspicion { server: Arc::clone(&self.server), thread, trial, counts }
    }

    /// Says that the head of a final response came with this status.
    pub fn responded(&self, status: u16, now: Instant) {
        if status >= 400 && self.server.passive().statuses.contains(status) {
            // An app says 503 to whom it likes.
            self.count_failure();
            return self.doubt();
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
        if self.server.is_measured() {
            self.server.errors.learn(true);
            self.server.changed();
        }
        self.server.alert(); // the rate of errors has risen
    }
}

impl Suspicion {
    /// Another server did better.
    pub fn confirm(self) {
        if !self.counts {
            return;
        }
        self.server.counters[self.thread].blamed.fetch_add(1, Ordering::Relaxed);
        self.server.setbacks.fetch_add(1, Ordering::Relaxed);
        if self.trial {
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
