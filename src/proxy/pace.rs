//! How slowly a client may send or take a body: waiting for it uses up a credit of time, and each of
//! its bytes earns a little back. A byte now and then, which a time-out between two of them never
//! notices, is not enough.

use std::time::Duration;

/// What a client owes for the time in which it was waited for. Nobody else's time counts.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// In thousandths of a byte: what should have come in that time and has not.
    debt: u64,
    /// Bytes that came so far.
    bytes: u64,
    /// Since when it is waited for, in the thread's milliseconds.
    since: Option<u64>,
    /// Bytes a second that were asked for then.
    rate: u64,
    tight: bool,
}

impl Pace {
    /// The client is not waited for (any more).
    pub(crate) fn rest(&mut self, now: u64) {
        if let Some(since) = self.since.take() {
            self.debt = self.debt.saturating_add((now - since).saturating_mul(self.rate));
        }
    }

    /// From now on the client is waited for, of which `bytes` have come in all; how long its next
    /// ones may take. That is `most`, and less when it was below `rate` (bytes a second, 0 for any)
    /// for a while.
    pub(crate) fn wait(&mut self, now: u64, bytes: u64, rate: u64, most: Duration) -> Duration {
        self.rest(now);
        let earned = bytes.saturating_sub(self.bytes).saturating_mul(1000);
        self.debt = self.debt.saturating_sub(earned);
        self.bytes = bytes;
        self.since = Some(now);
        self.rate = rate;
        let most_owed = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).saturating_mul(rate);
        let left = most_owed.saturating_sub(self.debt).checked_div(rate);
        self.tight = self.debt > 0;
        left.map_or(most, |left| most.min(Duration::from_millis(left)))
    }

    /// Whether the last wait was shortened, because the ones before were long for what they brought.
    pub(crate) fn is_tight(&self) -> bool {
        self.tight
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: Duration = Duration::from_secs(30);
    const RATE: u64 = 240;

    /// A client that sends so many bytes after so many milliseconds, again and again, for at most
    /// an hour; how long it lived, and whether that was because of its rate.
    fn lives(bytes: u64, every: u64) -> Option<(u64, bool)> {
        let mut pace = Pace::default();
        let mut now = 0;
        let mut sent = 0;
        while now < 3_600_000 {
            let patience = pace.wait(now, sent, RATE, MOST).as_millis() as u64;
            if patience <= every {
                return Some((now + patience, pace.is_tight()));
            }
            now += every;
            sent += bytes;
        }
        None
    }

    #[test]
    fn a_byte_now_and_then_is_not_enough() {
        assert_eq!(lives(0, 60_000), Some((30_000, false)), "silence is a time-out");
        let (time, tight) = lives(1, 29_000).unwrap();
        assert!(tight && (30_000..=30_010).contains(&time), "{time}");
        let (time, tight) = lives(5, 100).unwrap();
        assert!(tight && (30_000..40_000).contains(&time), "{time}");
        assert_eq!(lives(1, 10).map(|(_, tight)| tight), Some(true), "100 bytes a second");
    }

    #[test]
    fn whoever_keeps_the_rate_may_take_any_time() {
        assert_eq!(lives(240, 1000), None);
        assert_eq!(lives(7000, 29_000), None, "in pieces, too");
        assert_eq!(lives(1, 4), None);
    }

    #[test]
    fn what_went_fast_earns_no_more_than_the_time_out() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(0, 0, RATE, MOST), MOST);
        assert_eq!(pace.wait(10, 1_000_000_000, RATE, MOST), MOST);
        assert_eq!(pace.wait(20_010, 1_000_000_001, RATE, MOST).as_millis(), 10_004);
        assert!(pace.is_tight());
    }

    #[test]
    fn time_in_which_somebody_else_is_waited_for_does_not_count() {
        let mut pace = Pace::default();
        pace.wait(0, 0, RATE, MOST);
        pace.rest(1000);
        pace.rest(3_000_000);
        assert_eq!(pace.wait(9_000_000, 0, RATE, MOST), Duration::from_secs(29));
    }

    #[test]
    fn no_rate_and_absurd_ones_are_taken_literally() {
        let mut pace = Pace::default();
        pace.wait(0, 0, 0, MOST);
        assert_eq!(pace.wait(29_999, 1, 0, MOST), MOST);
        assert!(!pace.is_tight());
        pace.wait(30_000, 1, u64::MAX, MOST);
        assert_eq!(pace.wait(30_001, 2, u64::MAX, MOST), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn it_is_never_more_patient_than_the_time_out(
            steps in proptest::collection::vec((0_u64..100_000, 0_u64..100_000, any::<bool>()), 0..50),
            rate in any::<u64>(),
        ) {
            let mut pace = Pace::default();
            let (mut now, mut bytes) = (0, 0);
            for (time, count, rests) in steps {
                now += time;
                bytes += count;
                if rests {
                    pace.rest(now);
                } else {
                    prop_assert!(pace.wait(now, bytes, rate, MOST) <= MOST);
                }
            }
        }
    }
}
