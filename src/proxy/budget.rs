//! How many retries a thread may still make: a share of its requests above a floor, so that a
//! failing upstream gets not three times the load.

/// Retries a second that are always allowed, over all threads.
const FLOOR: u64 = 10;
/// Millionths of a retry that make one.
const ONE: u64 = 1_000_000;
/// Retries that may be saved up, in seconds' worth of the floor.
const SAVED: u64 = 10;

/// A bucket of retries, filled by requests and by time.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In millionths of a retry.
    level: u64,
    per_millisecond: u64,
    most: u64,
    /// The thread's milliseconds at the last look.
    seen: u64,
}

impl Budget {
    /// A full bucket, of a front with this many threads.
    pub(crate) fn new(threads: usize) -> Self {
        let per_second = FLOOR * ONE / threads.max(1) as u64;
        let most = (per_second * SAVED).max(ONE);
        Self { level: most, per_millisecond: (per_second / 1000).max(1), most, seen: 0 }
    }

    /// A request came in, and with it this share of a retry.
    pub(crate) fn request(&mut self, percent: u32) {
        let share = u64::from(percent) * (ONE / 100);
        self.level = (self.level + share).min(self.most);
    }

    /// Takes one retry, if there is one.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.seen);
        self.seen = now;
        self.level = (self.level + passed.saturating_mul(self.per_millisecond)).min(self.most);
        match self.level.checked_sub(ONE) {
            Some(level) => {
                self.level = level;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(budget: &mut Budget, now: u64) -> u64 {
        (0..1000).take_while(|_| budget.take(now)).count() as u64
    }

    #[test]
    fn the_floor_comes_back_with_time() {
        let mut budget = Budget::new(2);
        assert_eq!(drain(&mut budget, 0), FLOOR * SAVED / 2);
        assert_eq!(drain(&mut budget, 1000), FLOOR / 2);
        assert_eq!(drain(&mut budget, 1_000_000), FLOOR * SAVED / 2, "no more than is saved up");
    }

    #[test]
    fn requests_add_their_share() {
        let mut budget = Budget::new(1);
        drain(&mut budget, 0);
        (0..50).for_each(|_| budget.request(20));
        assert_eq!(drain(&mut budget, 0), 10);
    }
}
