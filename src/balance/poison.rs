//! Requests that servers have died of, kept in mind for a while: who asks the same again costs the server
//! that takes it, and no second one.
//!
//! Looked at only when a server has taken a request and ended its connection without an answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long such a request is kept in mind.
const KEPT: Duration = Duration::from_mins(1);

/// So many are: each has its place by its mark, and the newest of a place stays.
const PLACES: usize = 64;

/// The marks of such requests; for all threads, without a lock.
#[derive(Debug)]
pub(crate) struct Poisons {
    start: Instant,
    places: [Place; PLACES],
}

#[derive(Debug, Default)]
struct Place {
    mark: AtomicU64,
    /// In milliseconds since the start; 0 when there is none.
    until: AtomicU64,
}

// === impl Poisons ===

impl Poisons {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), places: std::array::from_fn(|_| Place::default()) }
    }

    /// A second server has died of it.
    pub(crate) fn remember(&self, mark: u64, now: Instant) {
        let place = self.place(mark);
        place.mark.store(mark, Ordering::Relaxed);
        place.until.store(self.millis(now + KEPT), Ordering::Relaxed);
    }

    /// Whether that is known of it. Two threads that write to one place at once may mix them up, which
    /// costs somebody a retry, or one server more.
    pub(crate) fn knows(&self, mark: u64, now: Instant) -> bool {
        let place = self.place(mark);
        place.mark.load(Ordering::Relaxed) == mark
            && place.until.load(Ordering::Relaxed) > self.millis(now)
    }

    fn place(&self, mark: u64) -> &Place {
        &self.places[mark as usize % PLACES]
    }

    fn millis(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.start).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_known_for_a_while() {
        let poisons = Poisons::new();
        let now = Instant::now();
        assert!(!poisons.knows(0, now) && !poisons.knows(7, now));
        poisons.remember(7, now);
        assert!(poisons.knows(7, now + KEPT - Duration::from_secs(1)));
        assert!(!poisons.knows(7, now + KEPT + Duration::from_secs(1)));
        assert!(!poisons.knows(8, now), "another one");
        let same_place = 7 + PLACES as u64;
        assert!(!poisons.knows(same_place, now));
        poisons.remember(same_place, now);
        assert!(poisons.knows(same_place, now) && !poisons.knows(7, now), "the newest stays");
    }
}
