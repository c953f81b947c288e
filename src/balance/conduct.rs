//! Whether a server keeps to its turn: whether what it sends on a connection is the answer to what it
//! was asked there, and nothing else.
//!
//! HTTP/1.1 numbers nothing. What comes after a request is taken for its answer, and so a server that
//! once sends more than an answer has hands it to whoever asks next. Who was seen doing that is given
//! one request a connection for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long that is the first time; twice as long each further time.
const PENALTY: Duration = Duration::from_mins(1);
/// How often it doubles: to an hour and four minutes.
const DOUBLINGS: u32 = 6;

/// What is known of a server.
#[derive(Debug)]
pub(super) struct Conduct {
    start: Instant,
    /// Until when its connections are not used again, in milliseconds since `start`; 0 for never.
    until: AtomicU64,
    times: AtomicU32,
}

impl Conduct {
    /// Of whom nothing is known.
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), until: AtomicU64::new(0), times: AtomicU32::new(0) }
    }

    /// Whether its connections may be used again.
    pub(super) fn is_good(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until == 0 || self.at(now) >= until
    }

    /// It sent what nobody asked for; how long its connections are not used again, if that is news.
    pub(super) fn spoke_out_of_turn(&self, now: Instant) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        let now = self.at(now);
        if now < until {
            return None;
        }
        let doublings = self.times.load(Ordering::Relaxed).min(DOUBLINGS);
        let penalty = PENALTY * (1 << doublings);
        let next = now + penalty.as_millis() as u64;
        let first =
            self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        first.then(|| {
            self.times.fetch_add(1, Ordering::Relaxed);
            penalty
        })
    }

    /// It is another process now.
    pub(super) fn forget(&self) {
        self.until.store(0, Ordering::Relaxed);
        self.times.store(0, Ordering::Relaxed);
    }

    fn at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_out_of_turn_again_is_trusted_less_and_less() {
        let conduct = Conduct::new();
        let mut now = conduct.start + Duration::from_millis(1);
        let mut expected = PENALTY;
        for _ in 0..10 {
            assert!(conduct.is_good(now));
            assert_eq!(conduct.spoke_out_of_turn(now), Some(expected));
            assert_eq!(conduct.spoke_out_of_turn(now), None, "that is no news");
            assert!(!conduct.is_good(now + expected - Duration::from_millis(1)));
            now += expected;
            expected = (expected * 2).min(PENALTY * 64);
        }
        assert_eq!(conduct.spoke_out_of_turn(now), Some(PENALTY * 64));
        conduct.forget();
        assert!(conduct.is_good(now), "another process");
    }
}
