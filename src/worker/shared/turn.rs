//! Which of two claims is the older one.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// When a claim began, by the clock that all processes of the machine have, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::worker) struct Turn(u64, u16);

impl Turn {
    pub(super) fn now(number: u16) -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let part = |value: i64| u64::try_from(value).unwrap_or_default();
        Self(part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec), number)
    }

    /// The worker whose claim it is.
    pub(super) fn number(self) -> u16 {
        self.1
    }

    #[cfg(test)]
    pub(super) fn at(nanoseconds: u64, number: u16) -> Self {
        Self(nanoseconds, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_equal_and_the_earlier_is_the_older() {
        assert!(Turn::at(1, 9) < Turn::at(2, 1));
        assert!(Turn::at(1, 1) < Turn::at(1, 2));
        let first = Turn::now(2);
        assert!(first < Turn::now(2));
    }
}
