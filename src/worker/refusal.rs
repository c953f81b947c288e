//! Whether a process may be this worker of this app: whatever a unit says, and whoever started it, an
//! app never runs as anybody else than its file says.

use crate::config::account::{self, DYNAMIC, OURS};
use crate::config::settings::App;

/// Who the process is.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The effective user.
    pub user: u32,
    /// The effective group.
    pub group: u32,
    /// The user's name, as systemd says it (`$USER`).
    pub name: Option<String>,
}

/// Why it may not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody asked for root.
    #[error(
        "app {app:?} would run as root, which its file does not say: start the worker by its unit, \
         roundsman-worker@{app}:{number}.service, after `systemctl daemon-reload`"
    )]
    Root {
        /// The app.
        app: String,
        /// The worker.
        number: u16,
    },
    /// A user of Roundsman's own, by its number or another name.
    #[error(
        "app {app:?} would run as {ours}, a user of Roundsman's own: change `user` in its file, then \
         `systemctl daemon-reload`"
    )]
    Ours {
        /// The app.
        app: String,
        /// Whose user it is.
        ours: &'static str,
    },
    /// A group of Roundsman's own, by its number.
    #[error(
        "app {app:?} would run in {ours}, a group of Roundsman's own: change `group` in its file, then \
         `systemctl daemon-reload`"
    )]
    OurGroup {
        /// The app.
        app: String,
        /// Whose group it is.
        ours: &'static str,
    },
    /// Another user.
    #[error(
        "app {app:?} is to run as {wanted}, and this is user {user}: start the worker by its unit after \
         `systemctl daemon-reload`"
    )]
    OtherUser {
        /// The app.
        app: String,
        /// Who it should be.
        wanted: String,
        /// Who it is.
        user: u32,
    },
    /// No file asks for it.
    #[error(
        "{app}:{number} is more than the workers = {workers} of its file: `roundsman scale {app} {number}`"
    )]
    Surplus {
        /// The app.
        app: String,
        /// The worker.
        number: u16,
        /// How many there are to be.
        workers: u16,
    },
}

/// Decides. `known` gives the number of a user of the machine, and `known_group` of a group.
///
/// # Errors
/// When the process may not be this worker.
pub(crate) fn check(
    app: &App,
    number: u16,
    caller: &Caller,
    known: impl Fn(&str) -> Option<u32>,
    known_group: impl Fn(&str) -> Option<u32>,
) -> Result<(), Refusal> {
    let name = || app.name.clone();
    if number > app.workers {
        return Err(Refusal::Surplus { app: name(), number, workers: app.workers });
    }
    if caller.user == 0 && !account::is_root(app) {
        return Err(Refusal::Root { app: name(), number });
    }
    // A file can name it by its number, which says whose it is on this machine only.
    if let Some(ours) = OURS.into_iter().find(|ours| known(ours) == Some(caller.user)) {
        return Err(Refusal::Ours { app: name(), ours });
    }
    if let Some(ours) = OURS.into_iter().find(|ours| known_group(ours) == Some(caller.group)) {
        return Err(Refusal::OurGroup { app: name(), ours });
    }
    let wanted = account::user(app);
    let has_name = caller.name.as_ref() == Some(&wanted);
    let is_wanted = match (&app.user, wanted.parse::<u32>()) {
        (None, _) => has_name && DYNAMIC.contains(&caller.user),
        (Some(_), Ok(number)) => caller.user == number,
        // One that only a directory service knows has a name all the same.
        (Some(_), Err(_)) => known(&wanted).map_or(has_name, |user| user == caller.user),
    };
    if is_wanted {
        Ok(())
    } else {
        Err(Refusal::OtherUser { app: name(), wanted, user: caller.user })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Listen;

    fn check(user: Option<&str>, number: u16, caller: (u32, &str)) -> Result<(), String> {
        check_in(1000, user, number, caller)
    }

    fn check_in(
        group: u32,
        user: Option<&str>,
        number: u16,
        caller: (u32, &str),
    ) -> Result<(), String> {
        let mut app = crate::worker::tests::app(Listen::Fd, &["x"]);
        app.user = user.map(str::to_owned);
        let caller = Caller { user: caller.0, group, name: Some(caller.1.to_owned()) };
        let known = |name: &str| match name {
            "alice" => Some(1000),
            "root" | "toor" => Some(0),
            "roundsman" => Some(998),
            "roundsman-session" => Some(997),
            _ => None,
        };
        let known_group = |name: &str| known(name).map(|user| user - 10);
        super::check(&app, number, &caller, known, known_group)
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn who_it_should_be_may() {
        assert_eq!(check(Some("alice"), 1, (1000, "alice")), Ok(()));
        assert_eq!(check(Some("1000"), 1, (1000, "alice")), Ok(()));
        assert_eq!(check(Some("from-ldap"), 1, (70_000, "from-ldap")), Ok(()));
        assert_eq!(check(None, 4, (61_500, "rmw-test")), Ok(()));
        assert_eq!(check(Some("root"), 1, (0, "root")), Ok(()));
        assert_eq!(check(Some("0"), 1, (0, "root")), Ok(()));
    }

    #[test]
    fn nobody_else_may() {
        for (user, caller) in [
            (None, (0, "root")),
            (None, (0, "rmw-test")),
            (Some("alice"), (0, "alice")),
            (Some("toor"), (0, "toor")),
        ] {
            assert!(check(user, 1, caller).unwrap_err().contains("as root"), "{user:?} {caller:?}");
        }
        for (user, caller) in [
            (None, (61_500, "roundsman-worker")),
            (None, (1000, "rmw-test")),
            (Some("alice"), (1001, "alice")),
            (Some("1000"), (1001, "bob")),
            (Some("root"), (1000, "root")),
            (Some("from-ldap"), (70_000, "other")),
        ] {
            let error = check(user, 1, caller).unwrap_err();
            assert!(error.contains("is to run as"), "{user:?} {caller:?}: {error}");
        }
    }

    #[test]
    fn nobody_is_a_user_of_our_own() {
        for (user, caller) in [("998", 998), ("997", 997), ("alias", 998)] {
            let error = check(Some(user), 1, (caller, user)).unwrap_err();
            assert!(error.contains("a user of Roundsman's own"), "{error}");
        }
        for group in [988, 987] {
            let error = check_in(group, Some("alice"), 1, (1000, "alice")).unwrap_err();
            assert!(error.contains("a group of Roundsman's own"), "{error}");
        }
    }

    #[test]
    fn a_worker_that_no_file_asks_for_may_not_be() {
        let error = check(Some("alice"), 5, (1000, "alice")).unwrap_err();
        assert!(error.contains("test:5 is more than the workers = 4"), "{error}");
    }
}
