//! What systemd knows about a unit.

use std::collections::HashMap;
use std::time::Duration;

use zbus::OwnedVariant;

/// What systemd says a unit is doing, as far as it matters here (`ActiveState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum UnitState {
    /// `active` (or `reloading`): started and ready.
    Active,
    /// `activating`: being started, or waiting for its restart.
    Activating,
    /// `deactivating`: being stopped; what it has in flight may finish.
    Deactivating,
    /// `inactive`: stopped, or not there at all.
    #[default]
    Inactive,
    /// `failed`: given up.
    Failed,
}

/// What systemd knows about a unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unit {
    pub(super) properties: HashMap<String, OwnedVariant>,
}

// === impl UnitState ===

impl UnitState {
    pub(super) fn parse(active_state: &str) -> Option<Self> {
        Some(match active_state {
            "active" | "reloading" | "refreshing" => Self::Active,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "inactive" | "maintenance" => Self::Inactive,
            "failed" => Self::Failed,
            _ => return None,
        })
    }

    /// systemd's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
        }
    }
}

// === impl Unit ===

impl Unit {
    /// Its state.
    pub(crate) fn state(&self) -> UnitState {
        UnitState::parse(self.text("ActiveState")).unwrap_or_default()
    }

    /// A string property; empty when it has none.
    pub(crate) fn text(&self, property: &str) -> &str {
        self.properties.get(property).and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default()
    }

    /// A property that is a list of strings; empty when it has none.
    pub(crate) fn texts(&self, property: &str) -> Vec<String> {
        let value = self.properties.get(property).and_then(|value| value.try_clone().ok());
        value.and_then(|value| Vec::<String>::try_from(value).ok()).unwrap_or_default()
    }

    /// The addresses and paths that a socket's unit listens on.
    pub(crate) fn listens_on(&self) -> Vec<String> {
        let value = self.properties.get("Listen").and_then(|value| value.try_clone().ok());
        let listen = value.and_then(|value| Vec::<(String, String)>::try_from(value).ok());
        listen.unwrap_or_default().into_iter().map(|(_, address)| address).collect()
    }

    /// A property that holds or not; `false` when there is none of that name.
    pub(crate) fn flag(&self, property: &str) -> bool {
        self.properties.get(property).is_some_and(|v| matches!(bool::try_from(v), Ok(true)))
    }

    /// A numeric property. systemd's "not set", the largest number, is `None`.
    pub(crate) fn number(&self, property: &str) -> Option<u64> {
        let value = self.properties.get(property)?;
        u64::try_from(value)
            .or_else(|_| u32::try_from(value).map(u64::from))
            .ok()
            .filter(|number| *number != u64::MAX)
    }

    /// The main process, when there is one.
    pub(crate) fn main_pid(&self) -> Option<u32> {
        self.number("MainPID").and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
    }

    /// What tells one run of the unit from the next.
    pub(crate) fn invocation(&self) -> Vec<u8> {
        self.properties
            .get("InvocationID")
            .and_then(|value| value.try_clone().ok())
            .and_then(|value| Vec::<u8>::try_from(value).ok())
            .unwrap_or_default()
    }

    /// How long the unit has been as it is.
    pub(crate) fn since(&self) -> Option<Duration> {
        let entered = self.number("StateChangeTimestampMonotonic")?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now =
            u64::try_from(now.tv_sec).ok()? * 1_000_000 + u64::try_from(now.tv_nsec).ok()? / 1000;
        Some(Duration::from_micros(now.saturating_sub(entered)))
    }
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    fn unit(properties: &[(&str, Variant<'_>)]) -> Unit {
        let owned = |(name, value): &(&str, Variant<'_>)| {
            ((*name).to_owned(), value.try_to_owned().expect("no descriptors"))
        };
        Unit { properties: properties.iter().map(owned).collect() }
    }

    #[test]
    fn reads_states_numbers_and_flags() {
        let unit = unit(&[
            ("ActiveState", "reloading".into()),
            ("NeedDaemonReload", true.into()),
            ("MainPID", 7u32.into()),
            ("MemoryCurrent", u64::MAX.into()),
            ("CPUUsageNSec", 9u64.into()),
        ]);
        assert_eq!(unit.state(), UnitState::Active);
        assert!(unit.flag("NeedDaemonReload"));
        assert!(!unit.flag("ActiveState"), "it is no flag");
        assert_eq!(unit.main_pid(), Some(7));
        assert_eq!(unit.number("MemoryCurrent"), None, "it is not counted");
        assert_eq!(unit.number("CPUUsageNSec"), Some(9));
        assert_eq!(unit.number("ActiveState"), None);
        assert_eq!(unit.text("MainPID"), "");
        let none = Unit::default();
        assert_eq!((none.state(), none.main_pid()), (UnitState::Inactive, None));
    }

    #[test]
    fn knows_every_state_of_systemd() {
        for (text, state) in [
            ("active", Some(UnitState::Active)),
            ("reloading", Some(UnitState::Active)),
            ("refreshing", Some(UnitState::Active)),
            ("activating", Some(UnitState::Activating)),
            ("deactivating", Some(UnitState::Deactivating)),
            ("inactive", Some(UnitState::Inactive)),
            ("maintenance", Some(UnitState::Inactive)),
            ("failed", Some(UnitState::Failed)),
            ("", None),
        ] {
            assert_eq!(UnitState::parse(text), state, "{text}");
        }
    }
}
