//! What systemd last said of each worker's unit, and the worker of its app.

use std::collections::{HashMap, HashSet};

use crate::systemd::dbus::UnitState;

/// So many units of workers that the configuration does not know are kept in mind: a reload may
/// come after their start. More are a mistake, or somebody's malice.
const UNKNOWN: usize = 4096;

/// States by worker (`shop:1`), of those whose unit is loaded and not just inactive.
#[derive(Debug, Default)]
pub(super) struct WorkerUnits {
    states: HashMap<String, UnitState>,
    /// Those that run and say that their app does not answer.
    stuck: HashSet<String>,
}

// === impl WorkerUnits ===

impl WorkerUnits {
    /// All that there are.
    pub(super) fn of(
        states: HashMap<String, UnitState>,
        is_configured: impl Fn(&str) -> bool,
    ) -> Self {
        let mut units = Self::default();
        for (worker, state) in states {
            let known = is_configured(&worker);
            units.set(worker, state, known);
        }
        units
    }

    /// The same after these, of which it is known what they said last.
    pub(super) fn after(mut self, before: &Self) -> Self {
        let runs = |worker: &&String| self.get(worker) == UnitState::Active;
        self.stuck = before.stuck.iter().filter(runs).cloned().collect();
        self
    }

    /// One says whether its app answers; true when that is new.
    pub(super) fn answers(&mut self, worker: &str, answers: bool) -> bool {
        if answers {
            self.stuck.remove(worker)
        } else {
            self.get(worker) == UnitState::Active && self.stuck.insert(worker.to_owned())
        }
    }

    /// Whether it runs and its app does not answer.
    pub(super) fn is_stuck(&self, worker: &str) -> bool {
        self.stuck.contains(worker)
    }

    /// One has another state now.
    pub(super) fn set(&mut self, worker: String, state: UnitState, is_configured: bool) {
        if state != UnitState::Active {
            self.stuck.remove(&worker); // the next run has said nothing yet
        }
        if state == UnitState::Inactive {
            self.states.remove(&worker);
        } else if is_configured || self.states.len() < UNKNOWN || self.states.contains_key(&worker)
        {
            self.states.insert(worker, state);
        }
    }

    /// The state of one.
    pub(super) fn get(&self, worker: &str) -> UnitState {
        self.states.get(worker).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_is_not_loaded_is_inactive() {
        let mut units = WorkerUnits::default();
        assert_eq!(units.get("shop:1"), UnitState::Inactive);
        units.set("shop:1".to_owned(), UnitState::Active, true);
        assert_eq!(units.get("shop:1"), UnitState::Active);
        units.set("shop:1".to_owned(), UnitState::Inactive, true);
        assert_eq!(units.get("shop:1"), UnitState::Inactive);
        assert!(units.states.is_empty());
    }

    #[test]
    fn who_does_not_answer_is_stuck_until_it_does_or_ends() {
        let all = || WorkerUnits::of([("shop:1".to_owned(), UnitState::Active)].into(), |_| true);
        let mut units = all();
        assert!(units.answers("shop:1", false) && units.is_stuck("shop:1"));
        assert!(!units.answers("shop:1", false), "that is known");
        let mut units = all().after(&units);
        assert!(units.is_stuck("shop:1"), "nobody has said otherwise");
        assert!(units.answers("shop:1", true) && !units.is_stuck("shop:1"));
        units.answers("shop:1", false);
        units.set("shop:1".to_owned(), UnitState::Deactivating, true);
        assert!(!units.is_stuck("shop:1"));
        assert!(!units.answers("shop:1", false), "it ends");
    }

    #[test]
    fn units_that_nobody_configured_take_bounded_memory() {
        let mut units = WorkerUnits::default();
        for n in 0..2 * UNKNOWN {
            units.set(format!("other:{n}"), UnitState::Failed, false);
        }
        assert_eq!(units.states.len(), UNKNOWN);
        units.set("shop:1".to_owned(), UnitState::Active, true);
        assert_eq!(units.get("shop:1"), UnitState::Active, "what is configured always has room");
        units.set("other:0".to_owned(), UnitState::Active, false);
        assert_eq!(units.get("other:0"), UnitState::Active, "what is known is kept up to date");
        let all = (0..2 * UNKNOWN).map(|n| (format!("other:{n}"), UnitState::Failed)).collect();
        assert_eq!(WorkerUnits::of(all, |_| false).states.len(), UNKNOWN);
    }

    #[test]
    fn what_starts_before_it_is_configured_is_known_then() {
        let all = [("new:1".to_owned(), UnitState::Active)].into();
        assert_eq!(WorkerUnits::of(all, |_| false).get("new:1"), UnitState::Active);
    }
}
