//! The monitor: looks at every server, lets the groups decide, publishes and logs what they say.
//!
//! It lives on the control thread. The request threads only count, and wake it when something
//! failed; what it publishes reaches them as atomics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::active::{Checker, Outcome};
use super::group::{Group, Sight};
use super::machine::{Options, Transition};
use crate::balance::HealthReason;
use crate::balance::Status;
use crate::balance::access::{self, Member};
use crate::balance::{Server, State, Upstream};
use crate::front::{Front, Snapshot};
use crate::systemd::message;

/// How often everything is looked at when nothing calls for it; error rates move by it.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while no server is asked for anything.
const AT_REST: Duration = Duration::from_secs(10);
/// How often shares are raised during slow start.
const SLOW_START_STEP: Duration = Duration::from_millis(100);
/// After a look the next one waits this long, so that a storm of failures does not keep the
/// control thread busy. An ejection is late by no more than this.
const PAUSE: Duration = Duration::from_millis(2);

/// Watches over the servers of a front, until it is dropped.
pub async fn run(front: Arc<Front>) {
    Monitor::new(front).run().await;
}

struct Monitor {
    front: Arc<Front>,
    snapshot: Option<Arc<Snapshot>>,
    /// By the upstream's name.
    watched: BTreeMap<String, Watched>,
    alert: Arc<Notify>,
    outcomes: mpsc::Receiver<Outcome>,
    to_outcomes: mpsc::Sender<Outcome>,
    /// Requests that all servers had begun at the last look, and whether that were no more than before.
    requests: u64,
    rests: bool,
}

struct Watched {
    upstream: Arc<Upstream>,
    group: Group,
    /// By the server's id.
    checkers: HashMap<u32, Checker>,
    panic: bool,
}

impl Monitor {
    fn new(front: Arc<Front>) -> Self {
        let (to_outcomes, outcomes) = mpsc::channel(1024);
        Self {
            front,
            snapshot: None,
            watched: BTreeMap::new(),
            alert: Arc::new(Notify::new()),
            outcomes,
            to_outcomes,
            requests: 0,
            rests: false,
        }
    }

    async fn run(mut self) {
        let mut changes = self.front.changes();
        loop {
            changes.mark_unchanged();
            self.follow_configuration();
            if self.look() {
                self.front.health_changed();
                changes.mark_unchanged(); // that was ourselves
            }
            sleep(PAUSE).await;
            let next_look = self.next_look();
            // Most checks find what the one before found, and that is no reason to look at all the
            // others: with hundreds of them it would cost more than the checks.
            let mut calls_for_a_look = false;
            while !calls_for_a_look {
                calls_for_a_look = tokio::select! {
                    () = self.alert.notified() => true,
                    changed = changes.changed() => if changed.is_err() { return } else { true },
                    Some(outcome) = self.outcomes.recv() => self.take_outcomes(&outcome),
                    () = sleep_until(next_look) => true,
                }
            }
        }
    }

    /// Begins to watch what a reload brought, keeps what stays.
    fn follow_configuration(&mut self) {
        let snapshot = self.front.snapshot();
        if self.snapshot.as_ref().is_some_and(|known| Arc::ptr_eq(known, &snapshot)) {
            return;
        }
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.watched);
        for (name, upstream) in &snapshot.upstreams {
            upstream.monitored_by(&self.alert);
            let mut watched = before.remove(name).unwrap_or_else(|| Watched {
                upstream: Arc::clone(upstream),
                group: Group::new(upstream.balancing.passive.clone()),
                checkers: HashMap::new(),
                panic: false,
            });
            watched.follow(upstream, &self.to_outcomes, now);
            self.watched.insert(name.clone(), watched);
        }
        self.snapshot = Some(snapshot);
    }

    /// Looks at every server; true when a request that waits may have somewhere to go now.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        let servers = self.watched.values().flat_map(|watched| &watched.upstream.servers);
        let requests = servers.map(|server| server.requests()).sum();
        self.rests = std::mem::replace(&mut self.requests, requests) == requests;
        self.watched.values_mut().fold(false, |changed, watched| watched.look(now) | changed)
    }

    /// True when one of them changed what a server is.
    fn take_outcomes(&mut self, first: &Outcome) -> bool {
        let mut changed = self.take_outcome(first);
        while let Ok(outcome) = self.outcomes.try_recv() {
            changed |= self.take_outcome(&outcome);
        }
        changed
    }

    fn take_outcome(&mut self, outcome: &Outcome) -> bool {
        let now = Instant::now();
        let mut changed = false;
        for watched in self.watched.values_mut() {
            let upstream = &watched.upstream;
            let passed = outcome.result.is_ok();
            watched.group.check(outcome.server, passed, now, |i, transition| {
                let detail = format!("health check: {outcome}");
                log(upstream, &upstream.servers[i], transition, &detail);
                changed = true;
            });
        }
        changed
    }

    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let slow = self.watched.values().any(|watched| watched.group.is_slow_starting());
        let at_work = if self.rests { AT_REST } else { INTERVAL };
        let regular = if slow { SLOW_START_STEP } else { at_work };
        let regular = now + regular;
        let deadlines = self.watched.values().filter_map(|watched| watched.group.deadline());
        deadlines.fold(regular, Instant::min)
    }
}

impl Watched {
    fn follow(&mut self, upstream: &Arc<Upstream>, outcomes: &mpsc::Sender<Outcome>, now: Instant) {
        self.upstream = Arc::clone(upstream);
        let balancing = &upstream.balancing;
        let members = upstream.servers.iter().map(|server| {
            let slow_start = server.options().slow_start;
            let options = Options::new(&balancing.passive, balancing.active.as_ref(), slow_start);
            (server.id, options, sight(server))
        });
        self.group.set_members(&balancing.passive, members, now);
        let mut before = std::mem::take(&mut self.checkers);
        let Some(check) = &balancing.active else { return };
        for server in &upstream.servers {
            let stays = before.remove(&server.id).filter(|checker| checker.check == *check);
            let checker = stays.unwrap_or_else(|| {
                Checker::start(Arc::clone(server), check.clone(), outcomes.clone())
            });
            self.checkers.insert(server.id, checker);
        }
    }

    fn look(&mut self, now: Instant) -> bool {
        let upstream = &self.upstream;
        let sights: Vec<_> = upstream.servers.iter().map(|server| sight(server)).collect();
        self.group.look(&sights, self.panic, now, |i, transition| {
            let server = &upstream.servers[i];
            let counts = sights[i].counts;
            let detail = format!(
                "{} of {} requests failed so far",
                counts.failures,
                counts.answered + counts.failures
            );
            log(upstream, server, transition, &detail);
        });
        let mut changed = false;
        for (server, verdict) in upstream.servers.iter().zip(self.group.verdicts(now)) {
            changed |= server.set_health(verdict);
        }
        if changed {
            self.look_for_panic();
        }
        changed
    }

    fn look_for_panic(&mut self) {
        let upstream = &self.upstream;
        let members: Vec<_> = upstream
            .servers
            .iter()
            .map(|server| Member {
                status: server.health().status,
                backup: server.options().backup,
                weighs: server.weight() > 0,
            })
            .collect();
        let threshold = upstream.balancing.passive.panic_threshold;
        let panic = access::decide(&members, threshold, &mut Vec::new());
        if panic != self.panic {
            let healthy = members.iter().filter(|m| m.status == Status::Up).count();
            if panic {
                tracing::warn!(
                    message_id = message::PANIC,
                    roundsman_app = app(&upstream.name),
                    "{}: only {healthy} of {} servers look healthy, which is below \
                     panic-threshold = {threshold}: all are used",
                    upstream.name,
                    members.len()
                );
            } else {
                tracing::info!(
                    message_id = message::PANIC_OVER,
                    roundsman_app = app(&upstream.name),
                    "{}: enough servers look healthy again",
                    upstream.name
                );
            }
        }
        self.panic = panic;
    }
}

fn sight(server: &Server) -> Sight {
    Sight { state: server.state(), backup: server.options().backup, counts: server.counts() }
}

/// The app that an upstream is of, if it is.
fn app(upstream: &str) -> Option<&str> {
    upstream.strip_prefix("app:")
}

/// One count and one journal entry per transition. What systemd and the administrator say is logged by those who
/// pass it on.
fn log(upstream: &Upstream, server: &Server, transition: Transition, detail: &str) {
    let Transition { from, to, reason } = transition;
    server.count_transition(to, reason);
    if reason == HealthReason::Stated && server.state() != State::Up {
        return;
    }
    let (upstream, server) = (&upstream.name, &server.name);
    macro_rules! entry {
        ($level:ident, $id:expr) => {
            tracing::$level!(
                message_id = $id,
                roundsman_app = app(upstream),
                roundsman_server = %server,
                roundsman_reason = %reason,
                "{upstream}: {server} is {to}, was {from} ({reason}; {detail})"
            )
        };
    }
    match to {
        Status::Ejected => entry!(warn, message::SERVER_EJECTED),
        Status::Suspect => entry!(info, message::SERVER_SUSPECT),
        Status::Up | Status::SlowStart => entry!(info, message::SERVER_UP),
        Status::Starting | Status::Draining | Status::Down => {}
    }
}
