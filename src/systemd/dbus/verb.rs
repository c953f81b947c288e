//! What is done to a unit.

use super::unit::UnitState;

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Start it, or do nothing when it runs.
    Start,
    /// Stop it.
    Stop,
    /// Stop it if it runs, then start it.
    Restart,
}

// === impl Verb ===

impl Verb {
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
        }
    }

    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    /// What ends a job of this kind that does not end by itself.
    pub(super) fn way_out(self, unit: &str) -> String {
        match self {
            Self::Start => format!("To give it up: systemctl stop '{unit}'"),
            Self::Stop | Self::Restart => {
                format!("To end its processes at once: systemctl kill --signal=KILL '{unit}'")
            }
        }
    }

    /// Whether a unit in this state is what the verb makes of it.
    pub(super) fn makes(self, state: UnitState) -> bool {
        match self {
            Self::Start | Self::Restart => state == UnitState::Active,
            Self::Stop => matches!(state, UnitState::Inactive | UnitState::Failed),
        }
    }
}
