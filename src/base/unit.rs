//! The names of units: made, and strictly parsed.
//!
//! Who is believed on the ground of a unit's name is believed on the ground of this file, so it
//! takes nothing for a worker's that the generator could not have made.

use std::fmt;
use std::str::FromStr;

/// The front.
pub(crate) const FRONT: &str = "roundsman.service";

/// All workers' services that are loaded, as a pattern.
pub(crate) const ALL_SERVICES: &str = "roundsman-worker@*:*.service";

/// All workers' sockets that are loaded, as a pattern.
pub(crate) const ALL_SOCKETS: &str = "roundsman-worker@*:*.socket";

/// All apps' Valkey servers that are loaded, as a pattern.
pub(crate) const ALL_VALKEY: &str = "roundsman-valkey@*.service";

/// How the names of all units of workers begin.
pub(crate) const WORKER: &str = "roundsman-worker@";

/// A worker of an app: `shop:1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instance {
    /// The app's name.
    pub app: String,
    /// The worker's number, from 1.
    pub number: u16,
}

/// Why a text names no worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the app's name, a colon and a number from 1, as in shop:1")]
pub(crate) struct NoInstance;

/// What is wrong with the name of an app or upstream; `None` when nothing is.
pub(crate) fn name_fault(name: &str) -> Option<&'static str> {
    let allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if name.is_empty() {
        Some("a name has at least one character")
    } else if name.len() > 64 {
        Some("a name has at most 64 characters")
    } else if name.starts_with('-') {
        Some("a name does not start with '-'")
    } else if name.bytes().any(|c| c.is_ascii_uppercase()) {
        Some("a name has no capital letters")
    } else if !name.bytes().all(allowed) {
        Some("a name is made of a-z, 0-9, '-' and '_'")
    } else {
        None
    }
}

/// A worker's number as we write it: no sign, no zero before it, not zero.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// `roundsman-app@shop.target`: all workers of the app.
pub(crate) fn target(app: &str) -> String {
    format!("roundsman-app@{app}.target")
}

/// `roundsman-worker@shop:1.service`.
pub(crate) fn service(app: &str, number: u16) -> String {
    format!("{WORKER}{app}:{number}.service")
}

/// `roundsman-worker@shop:1.socket`.
pub(crate) fn socket(app: &str, number: u16) -> String {
    format!("{WORKER}{app}:{number}.socket")
}

/// `roundsman-restart@shop.service`: what that starts.
pub(crate) fn restart(app: &str) -> String {
    format!("roundsman-restart@{app}.service")
}

/// All loaded workers' services of an app, as a pattern.
pub(crate) fn services(app: &str) -> String {
    format!("{WORKER}{app}:*.service")
}

/// All loaded units of an app's workers, services and sockets, as a pattern.
pub(crate) fn all_of_workers(app: &str) -> String {
    format!("{WORKER}{app}:*")
}

/// `roundsman-watch@shop.service`: looks after the app's workers.
pub(crate) fn watch(app: &str) -> String {
    format!("roundsman-watch@{app}.service")
}

/// `roundsman-valkey@shop.service`: the app's own Valkey server.
pub(crate) fn valkey(app: &str) -> String {
    format!("roundsman-valkey@{app}.service")
}

/// The app whose Valkey server a unit is.
pub(crate) fn app_of_valkey(unit: &str) -> Option<&str> {
    let app = unit.strip_prefix("roundsman-valkey@")?.strip_suffix(".service")?;
    name_fault(app).is_none().then_some(app)
}

/// `roundsman-restart@shop.timer`: replaces the app's workers at certain times.
pub(crate) fn restart_timer(app: &str) -> String {
    format!("roundsman-restart@{app}.timer")
}

// === impl Instance ===

impl Instance {
    /// The worker whose service has this name.
    pub(crate) fn of_service(unit: &str) -> Option<Self> {
        unit.strip_prefix(WORKER)?.strip_suffix(".service")?.parse().ok()
    }

    /// The worker as which a process in this service counts: of an app's own Valkey server, which reads what the
    /// app's user may write, the app's first.
    pub(crate) fn of_apps_service(unit: &str) -> Option<Self> {
        let of_valkey = || format!("{}:1", app_of_valkey(unit)?).parse().ok();
        Self::of_service(unit).or_else(of_valkey)
    }

    /// The worker whose socket has this name.
    pub(crate) fn of_socket(unit: &str) -> Option<Self> {
        unit.strip_prefix(WORKER)?.strip_suffix(".socket")?.parse().ok()
    }
}

impl FromStr for Instance {
    type Err = NoInstance;

    fn from_str(text: &str) -> Result<Self, NoInstance> {
        let (app, of_app) = text.rsplit_once(':').ok_or(NoInstance)?;
        if name_fault(app).is_some() {
            return Err(NoInstance);
        }
        Ok(Self { app: app.to_owned(), number: number(of_app).ok_or(NoInstance)? })
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.app, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_apps() {
        let longest = "a".repeat(64);
        for good in ["a", "my-app_2", "0", "_x", &longest] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "-a", "A", "a.b", "a:1", "ä", "a b", "a\n", &long] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn what_is_made_is_read() {
        let shop = Instance { app: "shop".into(), number: 12 };
        assert_eq!(shop.to_string(), "shop:12");
        let shop = Some(shop);
        assert_eq!(Instance::of_service(&service("shop", 12)), shop);
        assert_eq!(Instance::of_service(&socket("shop", 12)), None);
        assert_eq!(Instance::of_socket(&socket("shop", 12)), shop);
        assert_eq!(Instance::of_socket(&service("shop", 12)), None);
    }

    #[test]
    fn an_apps_other_units_are_named_after_it() {
        for (made, name) in [
            (target("shop"), "roundsman-app@shop.target"),
            (restart("shop"), "roundsman-restart@shop.service"),
            (restart_timer("shop"), "roundsman-restart@shop.timer"),
            (watch("shop"), "roundsman-watch@shop.service"),
            (services("shop"), "roundsman-worker@shop:*.service"),
            (all_of_workers("shop"), "roundsman-worker@shop:*"),
        ] {
            assert_eq!(made, name);
        }
    }

    #[test]
    fn nothing_else_is_a_worker() {
        for other in [
            "roundsman-worker@shop.service",
            "roundsman-worker@shop:.service",
            "roundsman-worker@shop:x.service",
            "roundsman-worker@shop:0.service",
            "roundsman-worker@shop:01.service",
            "roundsman-worker@shop:+1.service",
            "roundsman-worker@shop:65536.service",
            "roundsman-worker@shop:1:1.service",
            "roundsman-worker@SHOP:1.service",
            "roundsman-worker@../x:1.service",
            "roundsman-worker@:1.service",
            "roundsman-worker@shop:1.scope",
            "roundsman-worker@shop:1.service.d",
            "xroundsman-worker@shop:1.service",
            "shop:1",
            "",
        ] {
            assert_eq!(Instance::of_service(other), None, "{other}");
        }
    }
}
