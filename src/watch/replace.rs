//! Which worker is replaced next for its memory or its age: a pure decision.
//!
//! What holds, whatever the workers do:
//! - one at a time, and some time apart;
//! - where replacing does not help (a worker is too large again at once, the new one does not start),
//!   the time between two attempts grows.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// Between two replacements at least.
const APART: Duration = Duration::from_secs(10);

/// A worker that must be replaced when it is younger than this has not been helped by it.
const YOUNG: Duration = Duration::from_mins(1);

/// Between two replacements at most, where they do not help.
const LONGEST: Duration = Duration::from_mins(10);

/// After a failed one; it doubles.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// The longest time after failed ones.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_hours(1);

/// What is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one worker.
    pub memory: Option<u64>,
    /// Time since a worker became ready.
    pub age: Option<Duration>,
}

/// A worker that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Its number.
    pub worker: u16,
    /// Its memory, if it is known.
    pub memory: Option<u64>,
    /// Since when it has been ready.
    pub age: Duration,
}

/// Why a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has so many bytes, and may have so many.
    Memory(u64, u64),
    /// It is so old, and may be so old.
    Age(Duration, Duration),
}

/// What was decided, and how it went.
#[derive(Debug)]
pub(crate) struct Replacements {
    limits: Limits,
    not_before: Option<Instant>,
    /// In a row that did not help.
    vain: u32,
    /// In a row that failed.
    failed: u32,
}

impl Replacements {
    /// Nothing has been replaced yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, not_before: None, vain: 0, failed: 0 }
    }

    /// Other limits; what was learnt stays.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The worker that is to be replaced now, if there is one.
    pub(crate) fn next(&mut self, now: Instant, workers: &[Sample]) -> Option<(u16, Reason)> {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        let (sample, reason) = self.too_large(workers).or_else(|| self.too_old(workers))?;
        let memory = matches!(reason, Reason::Memory(..));
        self.vain = if memory && sample.age < YOUNG { self.vain + 1 } else { 0 };
        Some((sample.worker, reason))
    }

    /// The one that has most, since the kernel is about to kill it.
    fn too_large(&self, workers: &[Sample]) -> Option<(Sample, Reason)> {
        let limit = self.limits.memory?;
        let memory = |sample: &&Sample| sample.memory.unwrap_or_default();
        let largest = workers.iter().max_by_key(memory).filter(|sample| memory(sample) > limit)?;
        Some((*largest, Reason::Memory(memory(&largest), limit)))
    }

    fn too_old(&self, workers: &[Sample]) -> Option<(Sample, Reason)> {
        let limit = self.limits.age?;
        let oldest = workers.iter().max_by_key(|s| s.age).filter(|sample| sample.age >= limit)?;
        Some((*oldest, Reason::Age(oldest.age, limit)))
    }

    /// A worker was replaced, or could not be.
    pub(crate) fn ended(&mut self, now: Instant, replaced: bool) {
        let wait = |first: Duration, doublings: u32, longest: Duration| {
            first.saturating_mul(2_u32.saturating_pow(doublings)).min(longest)
        };
        self.failed = if replaced { 0 } else { self.failed + 1 };
        let wait = match self.failed.checked_sub(1) {
            Some(doublings) => wait(AFTER_FAILURE, doublings, LONGEST_AFTER_FAILURE),
            None => wait(APART, self.vain, LONGEST),
        };
        self.not_before = Some(now + wait);
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        match self {
            Self::Memory(has, may) => {
                write!(f, "has {} MiB of memory, max-memory is {} MiB", mib(*has), mib(*may))
            }
            Self::Age(has, may) => {
                write!(f, "has been ready for {} s, max-age is {} s", has.as_secs(), may.as_secs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn sample(worker: u16, mib: u64, seconds: u64) -> Sample {
        Sample { worker, memory: Some(mib * MIB), age: Duration::from_secs(seconds) }
    }

    fn replacements(mib: Option<u64>, seconds: Option<u64>) -> Replacements {
        let (memory, age) = (mib.map(|mib| mib * MIB), seconds.map(Duration::from_secs));
        Replacements::new(Limits { memory, age })
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_largest_goes_first_then_the_oldest() {
        let now = Instant::now();
        let workers = [sample(1, 110, 500), sample(2, 130, 100), sample(3, 90, 900)];
        let next = |mut r: Replacements| r.next(now, &workers).map(|(worker, _)| worker);
        assert_eq!(next(replacements(Some(100), Some(600))), Some(2));
        assert_eq!(next(replacements(Some(200), Some(600))), Some(3));
        assert_eq!(next(replacements(Some(130), Some(901))), None);
        assert_eq!(next(replacements(None, None)), None);
        assert_eq!(next(replacements(Some(100), None)), Some(2));
        assert_eq!(replacements(Some(1), None).next(now, &[]), None);
    }

    #[test]
    fn it_is_said_why_and_other_limits_count_at_once() {
        let now = Instant::now();
        let mut replacements = replacements(None, None);
        for (memory, age, why) in [
            (Some(100), None, "has 110 MiB of memory, max-memory is 100 MiB"),
            (None, Some(60), "has been ready for 500 s, max-age is 60 s"),
        ] {
            let (memory, age) = (memory.map(|mib| mib * MIB), age.map(Duration::from_secs));
            replacements.set_limits(Limits { memory, age });
            let (_, reason) = replacements.next(now, &[sample(1, 110, 500)]).unwrap();
            assert_eq!(reason.to_string(), why);
        }
    }

    #[test]
    fn one_that_was_well_for_just_long_enough_was_not_replaced_in_vain() {
        let mut now = Instant::now();
        let mut replacements = replacements(Some(100), None);
        for _ in 0..3 {
            let sample = Sample { age: YOUNG, ..sample(1, 150, 0) };
            assert!(replacements.next(now, &[sample]).is_some());
            replacements.ended(now, true);
            now += APART;
        }
    }

    #[test]
    fn what_is_not_known_is_not_too_much() {
        let unknown = Sample { memory: None, ..sample(1, 0, 500) };
        assert_eq!(replacements(Some(100), None).next(Instant::now(), &[unknown]), None);
    }

    /// All workers started at once and are too old at once: they go one after the other.
    #[test]
    fn never_all_at_once() {
        let start = Instant::now();
        let mut replacements = replacements(None, Some(60));
        let mut ready = [0_u64; 4];
        let mut went = Vec::new();
        let mut busy_until = 0;
        for second in 60..200 {
            if second < busy_until {
                continue;
            }
            let workers: Vec<Sample> =
                (1..).zip(ready).map(|(n, since)| sample(n, 1, second - since)).collect();
            if let Some((worker, _)) = replacements.next(after(start, second), &workers) {
                went.push((second, worker));
                // A replacement takes five seconds.
                busy_until = second + 5;
                ready[usize::from(worker) - 1] = busy_until;
                replacements.ended(after(start, busy_until), true);
            }
        }
        let times: Vec<u64> = went.iter().map(|(second, _)| *second).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 15), "{went:?}");
        let first: std::collections::BTreeSet<u16> = went[..4].iter().map(|(_, w)| *w).collect();
        assert_eq!(first.len(), 4, "each had its turn: {went:?}");
    }

    #[test]
    fn where_it_does_not_help_it_is_done_less_and_less_often() {
        let start = Instant::now();
        let mut replacements = replacements(Some(100), None);
        let (mut second, mut times) = (0, Vec::new());
        while times.len() < 9 {
            if replacements.next(after(start, second), &[sample(1, 150, 5)]).is_some() {
                times.push(second);
                replacements.ended(after(start, second), true);
            }
            second += 1;
        }
        let apart: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(apart, [20, 40, 80, 160, 320, 600, 600, 600]);
        // One that was well for a while, and all is as at first.
        let now = after(start, second + 600);
        assert!(replacements.next(now, &[sample(1, 150, 500)]).is_some());
        replacements.ended(now, true);
        assert!(replacements.next(now + APART, &[sample(1, 150, 500)]).is_some());
    }

    #[test]
    fn a_failure_puts_the_next_one_off() {
        let start = Instant::now();
        let mut replacements = replacements(None, Some(60));
        let old = [sample(1, 1, 100)];
        let (mut second, mut times) = (0, Vec::new());
        while times.len() < 9 {
            if replacements.next(after(start, second), &old).is_some() {
                times.push(second);
                replacements.ended(after(start, second), false);
            }
            second += 1;
        }
        let apart: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(apart, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }
}
