//! What all threads learn together about one server: how fast it answers, how often it errs.
//!
//! Each is one number in one atomic, updated without waiting: of two threads that update at the
//! same moment one may lose its sample, which an average survives.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long a latency is remembered: a sample weighs a third after this long.
const MEMORY: Duration = Duration::from_secs(10);

/// Moving average of the latency that follows a rise at once and a fall slowly.
///
/// After "peak EWMA" as known from Finagle: a server that suddenly stalls must be avoided from its
/// first slow answer on, one that recovers has to prove it.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Upper half: seconds as an `f32`; lower half: milliseconds from `origin` to the sample.
    cell: AtomicU64,
    origin: OnceLock<Instant>,
}

/// Moving average of the share of requests that failed, in sixteenths.
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// 0 to [`ONE`].
    cell: AtomicU32,
}

/// The unit of [`Errors`].
const ONE: u32 = 1 << 16;

// === impl Latency ===

impl Latency {
    /// Learns that a request took this long.
    pub(super) fn learn(&self, took: Duration, now: Instant) {
        let at = self.millis(now);
        let took = took.as_secs_f32();
        let before = self.cell.load(Ordering::Relaxed);
        let estimate = if before == 0 {
            took
        } else {
            let (estimate, since) = unpack(before);
            took + (estimate - took).max(0.0) * decay(at.saturating_sub(since))
        };
        let _ = self.cell.compare_exchange(
            before,
            pack(estimate, at),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The latency to expect in seconds, or `None` before the first answer. Without new samples it
    /// falls with time, so that a server that was slow once gets another chance.
    pub(super) fn expect(&self, now: Instant) -> Option<f32> {
        let cell = self.cell.load(Ordering::Relaxed);
        if cell == 0 {
            return None;
        }
        let (estimate, since) = unpack(cell);
        Some(estimate * decay(self.millis(now).saturating_sub(since)))
    }

    /// Forgets everything, as for a server that starts anew.
    pub(super) fn forget(&self) {
        self.cell.store(0, Ordering::Relaxed);
    }

    /// Milliseconds since the first use, from 1: a packed sample is never 0. They wrap after seven
    /// weeks, when one estimate is for once too young or too old.
    fn millis(&self, now: Instant) -> u32 {
        let origin = *self.origin.get_or_init(|| now);
        (now.saturating_duration_since(origin).as_millis() as u32).max(1)
    }
}

fn pack(seconds: f32, at: u32) -> u64 {
    u64::from(seconds.to_bits()) << 32 | u64::from(at)
}

fn unpack(cell: u64) -> (f32, u32) {
    (f32::from_bits((cell >> 32) as u32), cell as u32)
}

fn decay(millis: u32) -> f32 {
    (-(millis as f32) / (MEMORY.as_millis() as f32)).exp()
}

// === impl Errors ===

impl Errors {
    /// The weight of one request in the average.
    const SHARE: u32 = 16;

    /// Learns how one request went; true when [`Self::sixteenths`] changed by it.
    pub(super) fn learn(&self, failed: bool) -> bool {
        let before = self.cell.load(Ordering::Relaxed);
        if before == 0 && !failed {
            return false; // the usual case writes nothing
        }
        let after = if failed {
            before + (ONE - before).div_ceil(Self::SHARE)
        } else {
            before - before.div_ceil(Self::SHARE)
        };
        let _ = self.cell.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed);
        sixteenths(before) != sixteenths(after)
    }

    /// The share of failed requests, 0 to 16 sixteenths.
    pub(super) fn sixteenths(&self) -> u32 {
        sixteenths(self.cell.load(Ordering::Relaxed))
    }

    /// Forgets everything, as for a server that starts anew.
    pub(super) fn forget(&self) {
        self.cell.store(0, Ordering::Relaxed);
    }
}

fn sixteenths(share: u32) -> u32 {
    share * 16 / ONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_rises_at_once_and_falls_slowly() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let latency = Latency::default();
        assert_eq!(latency.expect(start), None);
        latency.learn(Duration::from_millis(10), start);
        latency.learn(Duration::from_secs(1), at(1));
        assert!(latency.expect(at(1)).is_some_and(|s| s > 0.99));
        latency.learn(Duration::from_millis(10), at(2));
        let after_one_fast_answer = latency.expect(at(2)).expect("known");
        assert!((0.905..0.91).contains(&after_one_fast_answer), "{after_one_fast_answer}");
        let much_later = latency.expect(at(62)).expect("known");
        assert!(much_later < 0.01, "{much_later}");
        latency.forget();
        assert_eq!(latency.expect(at(62)), None);
    }

    #[test]
    fn errors_cost_nothing_until_there_is_one() {
        let errors = Errors::default();
        assert!(!errors.learn(false));
        assert!(errors.learn(true));
        assert_eq!(errors.sixteenths(), 1);
        for _ in 0..200 {
            errors.learn(true);
        }
        assert_eq!(errors.sixteenths(), 16);
        assert!(errors.learn(false), "one good answer in sixteen");
        assert_eq!(errors.sixteenths(), 15);
        for _ in 0..200 {
            errors.learn(false);
        }
        assert_eq!(errors.sixteenths(), 0);
        assert!(!errors.learn(false));
        errors.learn(true);
        errors.forget();
        assert_eq!(errors.sixteenths(), 0);
    }
}
