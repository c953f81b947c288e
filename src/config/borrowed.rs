//! Apps that use the Valkey server of another one (`session = "valkey:NAME"`).

use super::diagnostic::{Place, Problem, Problems};
use super::settings::{App, SessionStore};

/// Who uses another app's server must be let in there, and know that it is.
pub(super) fn conflicts(apps: &[(App, Place)], problems: &mut Problems) {
    for (app, place) in apps {
        let Some(SessionStore::ValkeyOf(name)) = &app.session else { continue };
        let other = apps.iter().map(|(other, _)| other).find(|other| other.name == *name);
        let help = if other.is_none_or(|other| !other.has_valkey()) {
            format!(
                "write `session = \"valkey\"` into the file of {name}, or the name of an app that has it"
            )
        } else if app.user.is_none() || other.is_some_and(|other| other.user != app.user) {
            format!("give both the same `user`: nobody else reaches the server of {name}")
        } else {
            continue;
        };
        let title = format!("{} cannot use the Valkey server of {name}", app.name);
        problems.push(Problem::error(place, title, "").help(help));
    }
}
