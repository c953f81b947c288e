//! The Valkey servers of apps, as `roundsman status` shows them. Only systemd is asked: the server's socket is
//! in a directory of the app's.

use std::fmt;

use serde::Serialize;

use crate::base::unit;
use crate::systemd::dbus::{Systemd, SystemdError, UnitState};

/// One that is loaded.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Store {
    app: String,
    state: &'static str,
    memory_bytes: Option<u64>,
    /// What its unit says of itself, where it does not run.
    reason: Option<String>,
}

/// All of them.
pub(super) async fn all(systemd: &Systemd) -> Result<Vec<Store>, SystemdError> {
    let mut stores = Vec::new();
    for (name, state) in systemd.loaded(unit::ALL_VALKEY).await? {
        let Some(app) = unit::app_of_valkey(&name) else { continue };
        let unit = systemd.unit(&name).await?;
        let runs = state == UnitState::Active;
        let reason =
            Some(unit.text("StatusText").to_owned()).filter(|text| !runs && !text.is_empty());
        stores.push(Store {
            app: app.to_owned(),
            state: word(state),
            memory_bytes: unit.number("MemoryCurrent").filter(|_| runs),
            reason,
        });
    }
    stores.sort_by(|a, b| a.app.cmp(&b.app));
    Ok(stores)
}

fn word(state: UnitState) -> &'static str {
    match state {
        UnitState::Active => "up",
        UnitState::Activating => "starting",
        UnitState::Deactivating => "stopping",
        UnitState::Failed => "failed",
        UnitState::Inactive => "stopped",
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, state, memory_bytes, reason } = self;
        write!(f, "{app}: its Valkey server is {state}")?;
        if let Some(bytes) = memory_bytes {
            write!(f, ", {} MiB", bytes.div_ceil(1024 * 1024))?;
        }
        match reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_it_is() {
        let store = |state, memory_bytes, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            Store { app: "shop".to_owned(), state, memory_bytes, reason }.to_string()
        };
        assert_eq!(store("up", Some(1), None), "shop: its Valkey server is up, 1 MiB");
        let failed = store("failed", None, Some("apt install valkey-server"));
        assert_eq!(failed, "shop: its Valkey server is failed: apt install valkey-server");
    }
}
