//! The rolling deploy as a state machine without I/O: which worker is next, when it counts as
//! proven, what a failure or an interrupt leads to.
//!
//! What holds, whatever the workers do (the property tests say the same):
//! - as many workers as the app has serve at any time, as long as `batch` is not above `surge`,
//!   and until one fails;
//! - after the first failure, or an interrupt, no further worker is touched;
//! - a worker is taken back into the rotation only when it is proven: ready, and still the same
//!   process `settle` later;
//! - when the roll is over, no worker is left half-way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// What is to be rolled, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The app's workers, by number.
    pub workers: BTreeSet<u16>,
    /// Those, extra ones too, that run what they are to run already: they are left alone.
    pub done: BTreeSet<u16>,
    /// The extra workers that are started first and stopped last, by number.
    pub surge: BTreeSet<u16>,
    /// How many workers are replaced at a time, from 1.
    pub batch: usize,
    /// How long a worker must stay ready before it is believed.
    pub settle: Duration,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker has nothing in flight any more, or its time for that is up.
    Drained(u16),
    /// A worker was started (again) and is ready.
    Ready(u16),
    /// A worker did not get ready, or did not stay it, for this reason.
    Failed(u16, String),
    /// A worker is back in the rotation.
    Undrained(u16),
    /// A worker has stopped.
    Stopped(u16),
    /// Whoever started the roll wants it to end.
    Interrupted,
}

/// What is to be done. Each is answered by an event, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start an extra worker: [`Event::Ready`] or [`Event::Failed`].
    Start(u16),
    /// Take a worker out of the rotation and wait for its requests: [`Event::Drained`].
    Drain(u16),
    /// Restart a worker: [`Event::Ready`] or [`Event::Failed`]. Until it is proven,
    /// [`Event::Failed`] may follow an [`Event::Ready`].
    Restart(u16),
    /// Put a worker back into the rotation: [`Event::Undrained`].
    Undrain(u16),
    /// Stop a worker, draining it first: [`Event::Stopped`].
    Stop(u16),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every worker runs the new code.
    Done,
    /// One did not; those not yet touched still run the old code.
    Failed {
        /// Which one.
        worker: u16,
        /// Why.
        reason: String,
    },
    /// It was ended early; every worker serves, some with the old code.
    Interrupted,
}

/// Where a worker is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not touched yet (an extra worker: not started yet).
    Old,
    Draining,
    /// Nothing is in flight any more: it can be restarted.
    Drained,
    Starting,
    /// Ready, and watched until then.
    Proving(Instant),
    Undraining,
    /// Serves with the new code.
    New,
    Stopping,
    /// Stopped: an extra worker that is not needed any more, or one that failed.
    Gone,
    /// Failed, and left to systemd because there is no other worker.
    Left,
}

/// A rolling deploy.
#[derive(Debug)]
pub struct Roll {
    plan: Plan,
    phases: BTreeMap<u16, Phase>,
    interrupted: bool,
    /// The first worker that failed, and why.
    failed: Option<(u16, String)>,
    /// Failed workers that `poll` has yet to stop.
    stop: Vec<u16>,
}

// === impl Phase ===

impl Phase {
    /// Whether something is under way that the roll must wait for.
    fn is_under_way(self) -> bool {
        !matches!(self, Self::Old | Self::New | Self::Gone | Self::Left)
    }
}

// === impl Roll ===

impl Roll {
    /// A roll that has not begun. `poll` says what to do.
    pub fn new(plan: Plan) -> Self {
        let phases = plan.workers.iter().chain(&plan.surge).map(|worker| {
            let done = plan.done.contains(worker);
            (*worker, if done { Phase::New } else { Phase::Old })
        });
        let phases = phases.collect();
        Self { plan, phases, interrupted: false, failed: None, stop: Vec::new() }
    }

    /// Takes in what has happened. Events that fit no worker's phase are late and change nothing.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Interrupted => self.interrupted = true,
            Event::Drained(worker) => self.advance(worker, Phase::Draining, Phase::Drained),
            Event::Undrained(worker) => self.advance(worker, Phase::Undraining, Phase::New),
            Event::Stopped(worker) => self.advance(worker, Phase::Stopping, Phase::Gone),
            Event::Ready(worker) => {
                self.advance(worker, Phase::Starting, Phase::Proving(now + self.plan.settle));
            }
            Event::Failed(worker, reason) => self.fail(worker, reason),
        }
    }

    fn advance(&mut self, worker: u16, from: Phase, to: Phase) {
        if let Some(phase) = self.phases.get_mut(&worker).filter(|phase| **phase == from) {
            *phase = to;
        }
    }

    fn fail(&mut self, worker: u16, reason: String) {
        let alone = !self.plan.holds();
        let Some(phase) = self.phases.get_mut(&worker) else { return };
        match phase {
            // Nothing that crashes comes into the rotation, except where there is nothing else:
            // systemd then tries on, which may end well.
            Phase::Starting | Phase::Proving(_) => {
                self.stop.extend((!alone).then_some(worker));
                *phase = if alone { Phase::Left } else { Phase::Stopping };
            }
            // It was believed too early. systemd restarts it; no further worker is touched.
            Phase::Undraining => {}
            Phase::New if !self.plan.done.contains(&worker) => {}
            _ => return,
        }
        self.failed.get_or_insert((worker, reason));
    }

    /// What is to be done now; each action is given once, so the caller must do all of them.
    pub fn poll(&mut self, now: Instant) -> Vec<Action> {
        let mut actions: Vec<_> = self.stop.drain(..).map(Action::Stop).collect();
        let holds = self.plan.holds();
        for (worker, phase) in &mut self.phases {
            match phase {
                Phase::Drained => {
                    *phase = Phase::Starting;
                    actions.push(Action::Restart(*worker));
                }
                Phase::Proving(until) if *until <= now && holds => {
                    *phase = Phase::Undraining;
                    actions.push(Action::Undrain(*worker));
                }
                Phase::Proving(until) if *until <= now => *phase = Phase::New,
                _ => {}
            }
        }
        self.begin(&mut actions);
        self.retire(&mut actions);
        actions
    }

    /// Begins with further workers, where the plan allows it.
    fn begin(&mut self, actions: &mut Vec<Action>) {
        if self.interrupted || self.failed.is_some() || !self.wants_more() {
            return;
        }
        let surging: Vec<u16> = self.in_phase(&self.plan.surge, |phase| phase == Phase::Old);
        for worker in surging {
            self.phases.insert(worker, Phase::Starting);
            actions.push(Action::Start(worker));
        }
        if self.plan.surge.iter().any(|worker| self.phases[worker] != Phase::New) {
            return;
        }
        let under_way = self.in_phase(&self.plan.workers, Phase::is_under_way).len();
        let next = self.in_phase(&self.plan.workers, |phase| phase == Phase::Old);
        for worker in next.into_iter().take(self.plan.batch.max(1).saturating_sub(under_way)) {
            if self.plan.holds() {
                self.phases.insert(worker, Phase::Draining);
                actions.push(Action::Drain(worker));
            } else {
                // The unit drains as it stops; holding the only worker back would be an outage.
                self.phases.insert(worker, Phase::Starting);
                actions.push(Action::Restart(worker));
            }
        }
    }

    /// Stops the extra workers when they are not needed any more.
    fn retire(&mut self, actions: &mut Vec<Action>) {
        let busy = self.in_phase(&self.plan.workers, Phase::is_under_way);
        let ends = self.interrupted || self.failed.is_some() || !self.wants_more();
        let short = self.in_phase(&self.plan.workers, |phase| phase == Phase::Gone);
        if !ends || !busy.is_empty() || !short.is_empty() {
            return; // what a failed worker does not serve, the extra one does
        }
        for worker in self.in_phase(&self.plan.surge, |phase| phase == Phase::New) {
            self.phases.insert(worker, Phase::Stopping);
            actions.push(Action::Stop(worker));
        }
    }

    fn wants_more(&self) -> bool {
        !self.in_phase(&self.plan.workers, |phase| phase == Phase::Old).is_empty()
    }

    fn in_phase(&self, of: &BTreeSet<u16>, is: impl Fn(Phase) -> bool) -> Vec<u16> {
        of.iter().copied().filter(|worker| is(self.phases[worker])).collect()
    }

    /// When `poll` has something to do even if nothing happens.
    pub fn next_poll(&self) -> Option<Instant> {
        let until = |phase: &Phase| match phase {
            Phase::Proving(until) => Some(*until),
            _ => None,
        };
        self.phases.values().filter_map(until).min()
    }

    /// How it ended; `None` while something is to be done or waited for.
    pub fn outcome(&self) -> Option<Outcome> {
        if self.phases.values().any(|phase| phase.is_under_way()) {
            return None;
        }
        if let Some((worker, reason)) = &self.failed {
            return Some(Outcome::Failed { worker: *worker, reason: reason.clone() });
        }
        if self.wants_more() {
            return self.interrupted.then_some(Outcome::Interrupted);
        }
        Some(Outcome::Done)
    }

    /// The workers that serve with the new code; for a resumed roll.
    pub fn done(&self) -> BTreeSet<u16> {
        self.in_phase(&self.plan.workers, |phase| phase == Phase::New).into_iter().collect()
    }

    /// The extra workers that still run; for a resumed roll.
    pub fn surging(&self) -> BTreeSet<u16> {
        let runs = |phase| !matches!(phase, Phase::Old | Phase::Gone);
        self.in_phase(&self.plan.surge, runs).into_iter().collect()
    }
}

// === impl Plan ===

impl Plan {
    /// Whether workers are kept out of the rotation until they are proven: only where another one
    /// serves meanwhile.
    fn holds(&self) -> bool {
        self.workers.len() + self.surge.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_worker_that_there_is_is_not_held_back() {
        let plan = |workers: u16, surge: &[u16]| Plan {
            workers: (1..=workers).collect(),
            done: BTreeSet::new(),
            surge: surge.iter().copied().collect(),
            batch: 1,
            settle: Duration::ZERO,
        };
        assert!(!plan(1, &[]).holds());
        assert!(plan(1, &[2]).holds());
        assert!(plan(2, &[]).holds());
    }
}
