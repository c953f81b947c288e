//! One server's health: what systemd, its requests and its checks say about it, taken together.
//!
//! Pure: events and the time go in, transitions come out. Three parts each have their own say, and
//! the worst of them is what the server is:
//! - the state that systemd and the administrator gave it (down, draining),
//! - its checks (starting, ejected), in which only runs of equal results count,
//! - the breaker that its requests drive: closed → open (ejected) → half open (suspect) → closed.
//!
//! A server that comes back from being out does so through slow start, if one is configured.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::HealthReason;
use crate::balance::State;
use crate::balance::{FULL, Status, Verdict};
use crate::config::settings::{ActiveCheck, Passive, StartState};

/// One server's health.
#[derive(Debug, Clone)]
pub struct Machine {
    options: Options,
    state: State,
    checks: Checks,
    breaker: Breaker,
    /// When the latest failures happened, at most `max_fails` of them.
    failures: VecDeque<Instant>,
    /// When slow start began, while it lasts.
    slow_start: Option<Instant>,
    status: Status,
}

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Failures within `fail_window` that eject; 0 for never.
    pub max_fails: u32,
    /// See `max_fails`.
    pub fail_window: Duration,
    /// From the ejection to the first trial.
    pub fail_timeout: Duration,
    /// Failed checks in a row that eject, and passed ones that bring back.
    pub checks: Option<CheckOptions>,
    /// From coming back to the full share.
    pub slow_start: Duration,
}

/// See [`Options::checks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Failed checks in a row that eject.
    pub fails: u32,
    /// Passed checks in a row that bring back.
    pub passes: u32,
    /// Before the first check.
    pub start: StartState,
}

/// What the checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    /// There are none, or it passes them; so many failed in a row just now.
    Passing { failed: u32 },
    /// It fails them; so many passed in a row just now.
    Failing { passed: u32 },
    /// There has been none yet.
    Awaited,
}

/// What the requests say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Systemd or the administrator gave it this state.
    State(State),
    /// It failed so many requests that were no trials.
    Failures(u32),
    /// Its error rate is far above the others'.
    Outlier,
    /// It answered the request that tried it.
    TrialPassed,
    /// It failed the request that tried it.
    TrialFailed,
    /// It passed a check.
    CheckPassed,
    /// It failed a check.
    CheckFailed,
    /// Nothing but time passed.
    Tick,
}

/// One change of what a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: Status,
    /// What it is now.
    pub to: Status,
    /// Why.
    pub reason: HealthReason,
}

// === impl Machine ===

impl Machine {
    /// A server in this state, of which nothing else is known.
    pub fn new(options: Options, state: State) -> Self {
        let mut machine = Self {
            checks: Checks::first(&options),
            options,
            state,
            breaker: Breaker::Closed,
            failures: VecDeque::new(),
            slow_start: None, // everybody starts at once: there is nobody to be gentle for
            status: Status::Up,
        };
        machine.status = machine.derive();
        machine
    }

    /// Takes in an event; a [`Event::Tick`] goes before what comes after a pause. With `may_eject` false, requests cannot eject it: too many are out.
    pub fn on(&mut self, event: Event, now: Instant, may_eject: bool) -> Option<Transition> {
        let reason = match event {
            Event::State(state) => self.stated(state),
            Event::Failures(count) => self.failed(count, now, may_eject),
            Event::Outlier => self.open(now, may_eject, HealthReason::ErrorRate),
            Event::TrialPassed => self.tried(true, now),
            Event::TrialFailed => self.tried(false, now),
            Event::CheckPassed => self.checked(true),
            Event::CheckFailed => self.checked(false),
            Event::Tick => self.pass_time(now),
        };
        let from = self.status;
        let mut to = self.derive();
        if to == Status::Up && came_back(from) && !self.options.slow_start.is_zero() {
            self.slow_start = Some(now);
            to = Status::SlowStart;
        } else if !matches!(to, Status::Up | Status::SlowStart) {
            self.slow_start = None;
        }
        self.status = to;
        (from != to).then_some(Transition { from, to, reason })
    }

    /// What it is.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What it is and how much of its share it gets.
    pub fn verdict(&self, now: Instant) -> Verdict {
        let share = self.slow_start.map_or(FULL, |since| {
            let passed = now.saturating_duration_since(since).as_millis();
            let part = passed * u128::from(FULL) / self.options.slow_start.as_millis().max(1);
            part.clamp(1, FULL.into()) as u16
        });
        Verdict { status: self.status, share }
    }

    /// Whether its requests ejected it (and it has not come back from that).
    pub fn is_ejected_by_requests(&self) -> bool {
        self.breaker != Breaker::Closed
    }

    /// When time alone will change it.
    pub fn deadline(&self) -> Option<Instant> {
        let reopening = match self.breaker {
            Breaker::Open { until } => Some(until),
            _ => None,
        };
        let started = self.slow_start.map(|since| since + self.options.slow_start);
        reopening.into_iter().chain(started).min()
    }

    /// Puts another configuration to work; what is known stays.
    pub fn set_options(&mut self, options: Options) {
        if options.checks.is_none() || self.options.checks.is_none() {
            self.checks = Checks::Passing { failed: 0 }; // its requests are known by now
        }
        self.failures.truncate(options.max_fails as usize);
        self.options = options;
    }

    fn stated(&mut self, state: State) -> HealthReason {
        if self.state == State::Down && state != State::Down {
            // Another process, or another try: what was held against the last one is void.
            self.breaker = Breaker::Closed;
            self.failures.clear();
            self.checks = Checks::first(&self.options);
        }
        self.state = state;
        HealthReason::Stated
    }

    fn failed(&mut self, count: u32, now: Instant, may_eject: bool) -> HealthReason {
        let max = self.options.max_fails;
        for _ in 0..count.min(max) {
            if self.failures.len() >= max as usize {
                self.failures.pop_front();
            }
            self.failures.push_back(now);
        }
        let window = self.options.fail_window;
        self.failures.retain(|&at| now.saturating_duration_since(at) <= window);
        if max > 0 && self.failures.len() >= max as usize {
            self.open(now, may_eject, HealthReason::Failures);
        }
        HealthReason::Failures
    }

    fn open(&mut self, now: Instant, may_eject: bool, reason: HealthReason) -> HealthReason {
        if may_eject && self.breaker == Breaker::Closed {
            self.breaker = Breaker::Open { until: now + self.options.fail_timeout };
        }
        reason
    }

    fn tried(&mut self, passed: bool, now: Instant) -> HealthReason {
        if self.breaker == Breaker::HalfOpen {
            self.failures.clear();
            self.breaker = if passed {
                Breaker::Closed
            } else {
                Breaker::Open { until: now + self.options.fail_timeout }
            };
        }
        if passed { HealthReason::TrialPassed } else { HealthReason::TrialFailed }
    }

    fn checked(&mut self, passed: bool) -> HealthReason {
        if let Some(limits) = self.options.checks {
            self.checks = match self.checks {
                Checks::Passing { .. } if passed => Checks::Passing { failed: 0 },
                Checks::Passing { failed } if failed + 1 < limits.fails => {
                    Checks::Passing { failed: failed + 1 }
                }
                Checks::Failing { passed: before } if passed && before + 1 < limits.passes => {
                    Checks::Failing { passed: before + 1 }
                }
                Checks::Failing { .. } | Checks::Awaited if passed => Checks::Passing { failed: 0 },
                Checks::Passing { .. } | Checks::Failing { .. } => Checks::Failing { passed: 0 },
                Checks::Awaited => Checks::Awaited,
            };
        }
        if passed { HealthReason::ChecksPassed } else { HealthReason::ChecksFailed }
    }

    fn pass_time(&mut self, now: Instant) -> HealthReason {
        if let Breaker::Open { until } = self.breaker
            && until <= now
        {
            self.breaker = Breaker::HalfOpen;
        }
        if self.slow_start.is_some_and(|since| since + self.options.slow_start <= now) {
            self.slow_start = None;
        }
        HealthReason::TimePassed
    }

    fn derive(&self) -> Status {
        match (self.state, self.checks, self.breaker) {
            (State::Down, ..) => Status::Down,
            (State::Draining, ..) => Status::Draining,
            (_, Checks::Awaited, _) => Status::Starting,
            (_, Checks::Failing { .. }, _) | (.., Breaker::Open { .. }) => Status::Ejected,
            (.., Breaker::HalfOpen) => Status::Suspect,
            _ if self.slow_start.is_some() => Status::SlowStart,
            _ => Status::Up,
        }
    }
}

/// Whether a server that was this has to warm up.
fn came_back(from: Status) -> bool {
    matches!(from, Status::Down | Status::Starting | Status::Ejected | Status::Suspect)
}

// === impl Options ===

impl Options {
    /// The options that these settings stand for.
    pub fn new(passive: &Passive, active: Option<&ActiveCheck>, slow_start: Duration) -> Self {
        Self {
            max_fails: passive.max_fails,
            fail_window: passive.fail_window,
            fail_timeout: passive.fail_timeout,
            checks: active.map(|check| CheckOptions {
                fails: check.fails,
                passes: check.passes,
                start: check.start,
            }),
            slow_start,
        }
    }
}

// === impl Checks ===

impl Checks {
    fn first(options: &Options) -> Self {
        match options.checks.map(|checks| checks.start) {
            Some(StartState::Down) => Self::Awaited,
            Some(StartState::Up) | None => Self::Passing { failed: 0 },
        }
    }
}

// === impl HealthReason ===
