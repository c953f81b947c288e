//! Outliers: servers that err far more often than their peers.
//!
//! A rate alone says little: an app with a bug errs on all its servers, and taking half of them
//! away helps nobody. So a server is an outlier only if its rate is high *and* the others' taken
//! together is less than half of it.

use std::time::Duration;

use tokio::time::Instant;

/// Parts of a window; old requests are forgotten a part at a time.
const PARTS: usize = 10;

/// What a server did over the last while.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    span: Duration,
    parts: [Tally; PARTS],
    /// The part that is being counted in, and when it began.
    current: usize,
    since: Instant,
}

/// Requests that were finished, and how many of them badly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// All of them.
    pub finished: u64,
    /// Failures and 5xx responses.
    pub bad: u64,
}

// === impl Window ===

impl Window {
    /// An empty window of this length.
    pub(crate) fn new(span: Duration, now: Instant) -> Self {
        Self { span, parts: [Tally::default(); PARTS], current: 0, since: now }
    }

    /// Counts requests that were finished just now.
    pub(crate) fn add(&mut self, tally: Tally, now: Instant) {
        self.slide(now);
        self.parts[self.current] += tally;
    }

    /// What was counted within the window.
    pub(crate) fn total(&mut self, now: Instant) -> Tally {
        self.slide(now);
        let mut total = Tally::default();
        self.parts.iter().for_each(|&part| total += part);
        total
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.parts = [Tally::default(); PARTS];
    }

    fn slide(&mut self, now: Instant) {
        let part = (self.span / PARTS as u32).max(Duration::from_millis(1));
        let steps = now.saturating_duration_since(self.since).as_nanos() / part.as_nanos();
        for _ in 0..steps.min(PARTS as u128) {
            self.current = (self.current + 1) % PARTS;
            self.parts[self.current] = Tally::default();
        }
        if steps > 0 {
            self.since = now;
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.finished += other.finished;
        self.bad += other.bad;
    }
}

/// Whether `one` is an outlier among servers that together (with it) did `all`.
pub(crate) fn is_outlier(one: Tally, all: Tally, error_rate: u32, min_requests: u32) -> bool {
    let others = Tally { finished: all.finished - one.finished, bad: all.bad - one.bad };
    error_rate > 0
        && one.finished >= u64::from(min_requests)
        && others.finished >= u64::from(min_requests)
        && one.bad * 100 >= one.finished * u64::from(error_rate)
        && others.bad * one.finished * 2 < one.bad * others.finished
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(finished: u64, bad: u64) -> Tally {
        Tally { finished, bad }
    }

    #[test]
    fn who_errs_alone_is_an_outlier() {
        assert!(is_outlier(tally(100, 60), tally(300, 62), 50, 50));
        assert!(!is_outlier(tally(100, 40), tally(300, 42), 50, 50), "below the rate");
        assert!(!is_outlier(tally(40, 40), tally(300, 42), 50, 50), "too few of its own");
        assert!(!is_outlier(tally(100, 60), tally(120, 60), 50, 50), "too few to compare with");
        assert!(!is_outlier(tally(100, 100), tally(300, 100), 0, 50), "switched off");
    }

    #[test]
    fn a_bug_of_all_is_nobodys_fault() {
        assert!(!is_outlier(tally(100, 60), tally(300, 170), 50, 50));
        assert!(!is_outlier(tally(100, 100), tally(300, 300), 50, 50));
        assert!(!is_outlier(tally(100, 60), tally(300, 120), 50, 50), "just twice the others'");
        assert!(is_outlier(tally(100, 60), tally(300, 119), 50, 50));
    }

    #[test]
    fn the_window_forgets() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(Duration::from_secs(10), start);
        window.add(tally(5, 1), start);
        window.add(tally(5, 0), at(5));
        assert_eq!(window.total(at(9)), tally(10, 1));
        assert_eq!(window.total(at(12)), tally(5, 0));
        assert_eq!(window.total(at(60)), tally(0, 0));
        window.add(tally(5, 5), at(60));
        window.clear();
        assert_eq!(window.total(at(60)), tally(0, 0));
    }

    #[test]
    fn the_window_forgets_however_often_it_is_asked() {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(10), start);
        window.add(tally(5, 1), start);
        let last = (1..60).map(|n| window.total(start + Duration::from_millis(300) * n)).last();
        assert_eq!(last, Some(tally(0, 0)));
    }
}
