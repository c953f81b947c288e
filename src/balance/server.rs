//! One server: what every thread of the front knows about it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::conduct::Conduct;
use super::gate::{Gate, UNLIMITED};
use super::latency::{Errors, Latency};
use super::row::Row;
use super::shared::Shared;
use super::status::{HealthReason, Status, Verdict};
use crate::base::worker_address::Worker;
use crate::config::settings::ProxyVersion;
use crate::config::settings::{
    Address, Algorithm, Balancing, Passive, ServerOptions, ServerProtocol, StartState,
};

/// Whether a server may get requests, as systemd and the administrator say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It may.
    Up = 0,
    /// Nothing new; what is in flight finishes.
    Draining = 1,
    /// Nothing at all.
    Down = 2,
}

/// One server of an upstream, shared by all threads.
#[derive(Debug)]
pub struct Server {
    /// `shop:1` for a worker, the address for others.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// What it speaks.
    pub protocol: ServerProtocol,
    /// The header that each connection to it begins with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// The worker that it is, if it is one.
    pub(crate) worker: Option<Worker>,
    /// Process-wide number of this server, for per-thread tables such as connection pools.
    pub id: u32,
    pub(super) gate: Gate,
    pub(super) latency: Latency,
    pub(super) errors: Errors,
    conduct: Conduct,
    pub(super) row: Row,
    /// Failures in rows that were long enough to say something.
    pub(super) in_rows: AtomicU64,
    pub(super) counters: Box<[ThreadCounters]>,
    /// Whether somebody wants [`Gate::total`], [`Latency`] and [`Errors`]: they cost a little.
    measured: AtomicBool,
    /// Whether what has no end of its own must end: see [`Self::end_conversations`].
    over: AtomicBool,
    /// Whether it is known that it is down and nobody starts it.
    absent: AtomicBool,
    /// Whether it gets nothing before its first check has passed.
    starts_down: AtomicBool,
    weight: AtomicU32,
    options: ArcSwap<ServerOptions>,
    passive: ArcSwap<Passive>,
    verdict: AtomicU32,
    /// Failures so far, in one number for all threads; each lowers the effective weights.
    pub(super) setbacks: AtomicU32,
    /// Trial requests that passed and failed.
    pub(super) trials: [AtomicU64; 2],
    /// By what it became, and why.
    transitions: [[AtomicU64; HealthReason::ALL.len()]; Status::ALL.len()],
    shared: OnceLock<Arc<Shared>>,
}

/// What one thread counts about one server; its own cache line, so that threads do not contend.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct ThreadCounters {
    pub(super) requests: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) blamed: AtomicU64,
}

/// What has been counted about one server, over all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests sent to it.
    pub requests: u64,
    /// Requests that it answered and that do not count as failed.
    pub answered: u64,
    /// Of these, those with a 5xx status.
    pub errors: u64,
    /// Requests that failed at it.
    pub failures: u64,
    /// Of these, those that are its own doing.
    pub blamed: u64,
    /// Of the others, those that failed one after the other, without an answer in between.
    pub in_rows: u64,
    /// Trial requests that passed.
    pub trials_passed: u64,
    /// Trial requests that failed.
    pub trials_failed: u64,
}

impl Counts {
    /// What was counted since then.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            answered: self.answered.saturating_sub(before.answered),
            errors: self.errors.saturating_sub(before.errors),
            failures: self.failures.saturating_sub(before.failures),
            blamed: self.blamed.saturating_sub(before.blamed),
            in_rows: self.in_rows.saturating_sub(before.in_rows),
            trials_passed: self.trials_passed.saturating_sub(before.trials_passed),
            trials_failed: self.trials_failed.saturating_sub(before.trials_failed),
        }
    }
}

// === impl Server ===

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// A server that is up until somebody says otherwise.
    pub fn new(name: impl Into<String>, address: Address, threads: usize) -> Self {
        Self::with_options(name, address, threads, &ServerOptions::default())
    }

    /// A server with other options than the default ones.
    pub fn with_options(
        name: impl Into<String>,
        address: Address,
        threads: usize,
        options: &ServerOptions,
    ) -> Self {
        let server = Self {
            name: name.into(),
            address,
            protocol: options.protocol,
            proxy_protocol: options.proxy_protocol,
            worker: None,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            gate: Gate::new(threads),
            latency: Latency::default(),
            errors: Errors::default(),
            conduct: Conduct::new(),
            row: Row::new(),
            in_rows: AtomicU64::new(0),
            counters: (0..threads).map(|_| ThreadCounters::default()).collect(),
            measured: AtomicBool::new(false),
            over: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            starts_down: AtomicBool::new(false),
            weight: AtomicU32::new(0),
            options: ArcSwap::from_pointee(ServerOptions::default()),
            passive: ArcSwap::from_pointee(Passive::default()),
            verdict: AtomicU32::new(Verdict::default().pack()),
            setbacks: AtomicU32::new(0),
            trials: Default::default(),
            transitions: Default::default(),
            shared: OnceLock::new(),
        };
        server.weight.store(options.weight, Ordering::Relaxed);
        server.set_options(options);
        server
    }

    /// Whether it may get requests, as systemd and the administrator say.
    pub fn state(&self) -> State {
        match self.gate.state() {
            0 => State::Up,
            1 => State::Draining,
            _ => State::Down,
        }
    }

    /// Changes the state, at once for all threads; true when it was another one before.
    pub fn set_state(&self, state: State) -> bool {
        let changed = self.gate.set_state(state as u8) != state as u8;
        if changed {
            if state == State::Up {
                self.over.store(false, Ordering::Relaxed);
                self.latency.forget(); // it may be another process
                self.errors.forget();
                self.conduct.forget();
                self.row.end();
            }
            self.changed();
            self.alert();
        }
        changed
    }

    /// Says whether it is down and nobody starts it; true when that is new.
    pub fn set_absent(&self, absent: bool) -> bool {
        self.absent.swap(absent, Ordering::Relaxed) != absent
    }

    /// Whether it is down and nobody starts it.
    pub fn is_absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    /// Says that its time to drain is up: WebSockets and event streams, which would go on for ever,
    /// are to end. Until it is up again.
    pub fn end_conversations(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether they are to end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Which life of the server this is: pooled connections of an older one are stale.
    pub fn incarnation(&self) -> u32 {
        self.gate.incarnation()
    }

    /// Whether a connection to it may carry one request after another: whether it keeps to its turn.
    pub fn may_reuse(&self, now: Instant) -> bool {
        self.conduct.is_good(now)
    }

    /// Says that it sent what nobody asked for; for how long [`Self::may_reuse`] is false now, if it
    /// was not already.
    pub fn spoke_out_of_turn(&self, now: Instant) -> Option<Duration> {
        self.conduct.spoke_out_of_turn(now)
    }

    /// Requests in flight, over all threads.
    pub fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    /// Requests begun, over all threads.
    pub fn requests(&self) -> u64 {
        self.counts().requests
    }

    /// Requests that this server failed, over all threads.
    pub fn failures(&self) -> u64 {
        self.counters.iter().map(|t| t.failures.load(Ordering::Relaxed)).sum()
    }

    /// Everything that is counted.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            trials_passed: self.trials[0].load(Ordering::Acquire),
            trials_failed: self.trials[1].load(Ordering::Acquire),
            in_rows: self.in_rows.load(Ordering::Acquire),
            ..Counts::default()
        };
        for thread in &self.counters {
            counts.requests += thread.requests.load(Ordering::Relaxed);
            counts.answered += thread.answered.load(Ordering::Relaxed);
            counts.errors += thread.errors.load(Ordering::Relaxed);
            counts.failures += thread.failures.load(Ordering::Relaxed);
            counts.blamed += thread.blamed.load(Ordering::Relaxed);
        }
        counts
    }

    /// What the health sources together make of it.
    ///
    /// The state that was set counts at once, the rest as the monitor (`health::run`) saw it last.
    pub fn health(&self) -> Verdict {
        let verdict = Verdict::unpack(self.verdict.load(Ordering::Acquire));
        match (self.state(), verdict.status) {
            (State::Draining, _) => Verdict { status: Status::Draining, ..verdict },
            (State::Down, _) => Verdict { status: Status::Down, ..verdict },
            // The monitor has not seen yet that it is back.
            (State::Up, Status::Draining) => Verdict::default(),
            (State::Up, Status::Down) => self.first_verdict(),
            (State::Up, _) => verdict,
        }
    }

    fn first_verdict(&self) -> Verdict {
        let starts_down = self.starts_down.load(Ordering::Relaxed);
        let status = if starts_down { Status::Starting } else { Status::Up };
        Verdict { status, ..Verdict::default() }
    }

    /// Publishes what the health sources make of it; only the monitor does that. True when it was
    /// something else before.
    pub fn set_health(&self, verdict: Verdict) -> bool {
        let before = self.verdict.swap(verdict.pack(), Ordering::AcqRel);
        if before == verdict.pack() {
            return false;
        }
        self.changed();
        true
    }

    /// Counts a change of its health; only the monitor does that.
    pub fn count_transition(&self, to: Status, reason: HealthReason) {
        self.transitions[to as usize][reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it became what for which reason; only what happened at all.
    pub fn transitions(&self) -> impl Iterator<Item = (Status, HealthReason, u64)> {
        Status::ALL
            .into_iter()
            .flat_map(|status| HealthReason::ALL.map(|reason| (status, reason)))
            .map(|(status, reason)| {
                let counter = &self.transitions[status as usize][reason as usize];
                (status, reason, counter.load(Ordering::Relaxed))
            })
            .filter(|(_, _, count)| *count > 0)
    }

    /// Its weight now.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes its weight until the next reload that changes it in the files. An upstream that
    /// hashes needs [`super::Upstream::rebuild`] to see it.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.min(super::smooth::MAX_WEIGHT), Ordering::Relaxed);
        self.changed();
    }

    /// What the configuration says about it.
    pub fn options(&self) -> Arc<ServerOptions> {
        self.options.load_full()
    }

    /// Puts another configuration to work. What was changed at run time stays, unless the same
    /// thing was changed in the files.
    pub fn set_options(&self, options: &ServerOptions) {
        let before = self.options.swap(Arc::new(options.clone()));
        self.gate.set_limit(options.max_connections.unwrap_or(UNLIMITED));
        if options.weight != before.weight {
            self.set_weight(options.weight);
        }
        if options.down != before.down {
            self.set_state(if options.down { State::Down } else { State::Up });
        }
        self.changed();
    }

    /// What counts as a failure.
    pub(super) fn passive(&self) -> arc_swap::Guard<Arc<Passive>> {
        self.passive.load()
    }

    /// Makes it one of an upstream's servers.
    pub(super) fn join(&self, shared: &Arc<Shared>, balancing: &Balancing) {
        let starts_down = matches!(&balancing.active, Some(c) if c.start == StartState::Down);
        self.starts_down.store(starts_down, Ordering::Relaxed);
        if self.shared.set(Arc::clone(shared)).is_ok() {
            // It is new. One that stays keeps what is known of it.
            self.verdict.store(self.first_verdict().pack(), Ordering::Release);
        }
        if **self.passive.load() != balancing.passive {
            self.passive.store(Arc::new(balancing.passive.clone()));
        }
        let by_load =
            matches!(balancing.algorithm, Algorithm::LeastConnections | Algorithm::PeakEwma);
        self.measured.store(by_load, Ordering::Relaxed);
    }

    /// What it shares with the other servers of its upstream.
    pub(super) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.get()
    }

    /// Whether latency and errors are wanted.
    pub(super) fn is_measured(&self) -> bool {
        self.measured.load(Ordering::Relaxed)
    }

    /// Whether the front-wide number of requests in flight is wanted.
    pub(super) fn is_counted(&self) -> bool {
        self.is_measured() || self.gate.has_limit()
    }

    /// Tells the threads to look at it again.
    pub(super) fn changed(&self) {
        if let Some(shared) = self.shared.get() {
            shared.touch();
        }
    }

    /// Tells the monitor to look at it.
    pub(super) fn alert(&self) {
        if let Some(shared) = self.shared.get() {
            shared.alert();
        }
    }
}
