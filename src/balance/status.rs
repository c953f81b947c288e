//! What is made of everything that is known about a server's health.

use std::fmt;

/// What a server is, all sources taken together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// It gets its full share.
    #[default]
    Up = 0,
    /// It came back a while ago; its share is still rising.
    SlowStart = 1,
    /// It was ejected long enough: one request at a time tries it.
    Suspect = 2,
    /// It gets nothing, because it failed requests or checks.
    Ejected = 3,
    /// It gets nothing, until its first check has passed.
    Starting = 4,
    /// It gets nothing new; what is in flight finishes.
    Draining = 5,
    /// It gets nothing: its unit is not running, or somebody said so.
    Down = 6,
}

/// A [`Status`] as the request path reads it, with the share that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The status.
    pub status: Status,
    /// How much of its full share the server gets, in thousandths; at least 1.
    pub share: u16,
}

/// The full share, in the unit of [`Verdict::share`].
pub const FULL: u16 = 1000;

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Up,
        Self::SlowStart,
        Self::Suspect,
        Self::Ejected,
        Self::Starting,
        Self::Draining,
        Self::Down,
    ];

    /// Whether nothing is held against it.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Up | Self::SlowStart)
    }

    /// Its name in logs, metrics and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SlowStart => "slow-start",
            Self::Suspect => "suspect",
            Self::Ejected => "ejected",
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self { status: Status::Up, share: FULL }
    }
}

impl Verdict {
    /// As one number, for an atomic.
    pub(crate) fn pack(self) -> u32 {
        let [low, high] = self.share.to_le_bytes();
        u32::from_le_bytes([self.status as u8, low, high, 0])
    }

    /// The reverse of [`Self::pack`].
    pub(crate) fn unpack(number: u32) -> Self {
        let [status, low, high, _] = number.to_le_bytes();
        let status = Status::ALL.get(usize::from(status)).copied().unwrap_or_default();
        Self { status, share: u16::from_le_bytes([low, high]) }
    }
}

/// Why a server became something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HealthReason {
    /// Systemd or the administrator said so.
    Stated,
    /// `max-fails` within `fail-window`.
    Failures,
    /// An error rate above `error-rate`.
    ErrorRate,
    /// It answered the request that tried it.
    TrialPassed,
    /// It failed the request that tried it.
    TrialFailed,
    /// It passed `passes` checks in a row.
    ChecksPassed,
    /// It failed `fails` checks in a row.
    ChecksFailed,
    /// `fail-timeout` is over, or slow start is.
    TimePassed,
}

impl HealthReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Stated,
        Self::Failures,
        Self::ErrorRate,
        Self::TrialPassed,
        Self::TrialFailed,
        Self::ChecksPassed,
        Self::ChecksFailed,
        Self::TimePassed,
    ];

    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::Failures => "failures",
            Self::ErrorRate => "error-rate",
            Self::TrialPassed => "trial-passed",
            Self::TrialFailed => "trial-failed",
            Self::ChecksPassed => "checks-passed",
            Self::ChecksFailed => "checks-failed",
            Self::TimePassed => "time-passed",
        }
    }
}

impl fmt::Display for HealthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_the_same_after_it_was_one_number() {
        for status in Status::ALL {
            for share in [1, 255, 256, FULL, u16::MAX] {
                let verdict = Verdict { status, share };
                assert_eq!(Verdict::unpack(verdict.pack()), verdict);
            }
        }
    }

    #[test]
    fn states_and_reasons_have_names() {
        let names = "up slow-start suspect ejected starting draining down";
        assert_eq!(Status::ALL.map(|status| status.to_string()).join(" "), names);
        let names = "stated failures error-rate trial-passed trial-failed checks-passed \
                     checks-failed time-passed";
        assert_eq!(HealthReason::ALL.map(|reason| reason.to_string()).join(" "), names);
    }
}
