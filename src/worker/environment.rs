//! What an app finds in its environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::config::settings::{Address, App, Listen, SESSION_URL, SessionStore};

/// Variables by name.
pub type Environment = BTreeMap<OsString, OsString>;

/// What systemd says to this process alone, and what would make the app believe that somebody else
/// is its parent on Node's channel.
const NOT_THE_APPS: [&str; 10] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
];

/// The environment of the app, from that of the shim, the app's settings, and what its files say
/// (which wins). The channel's and the listener's variables are added where those are made.
pub(super) fn of_app(
    ours: &Environment,
    files: &Environment,
    app: &App,
    number: u16,
    address: &Address,
) -> Environment {
    let mut theirs = ours.clone();
    let url = match &app.session {
        Some(SessionStore::Embedded) => Some(SESSION_URL),
        Some(SessionStore::Url(url)) => Some(url.as_str()),
        // The shim has it among its own, since a secret is in it.
        Some(SessionStore::Valkey | SessionStore::ValkeyOf(_)) | None => None,
    };
    if let Some(url) = url {
        theirs.insert("SESSION_URL".into(), url.into());
        if !url.starts_with("mongodb") {
            theirs.insert("REDIS_URL".into(), url.into());
        }
    }
    theirs.extend(app.environment.iter().map(|(name, value)| (name.into(), value.into())));
    theirs.extend(files.iter().map(|(name, value)| (name.clone(), value.clone())));
    for name in NOT_THE_APPS {
        theirs.remove(OsStr::new(name));
    }
    let mut set = |name: &str, value: String| theirs.insert(name.into(), value.into());
    set("ROUNDSMAN_APP", app.name.clone());
    set("ROUNDSMAN_WORKER", app.instance(number));
    match (app.listen, address) {
        (Listen::Port, Address::Tcp(address)) => {
            set("PORT", address.port().to_string());
            set("HOST", address.ip().to_string());
            // `Deno.serve()` knows no other way.
            let deno = format!("tcp:{}:{}", address.ip(), address.port());
            theirs.entry("DENO_SERVE_ADDRESS".into()).or_insert_with(|| deno.into());
        }
        (Listen::Unix, Address::Unix(path)) => {
            set("SOCKET", path.display().to_string());
        }
        _ => {}
    }
    // A user that exists only while the app runs has no home, and many programs keep a cache there. What is
    // in its /tmp is its own, and goes with it.
    let home = theirs.get(OsStr::new("HOME"));
    if app.user.is_none() && home.is_none_or(|home| home == "/" || home.is_empty()) {
        theirs.insert("HOME".into(), "/tmp".into());
    }
    // PM2 numbers from 0, and apps compare with that: `if (process.env.NODE_APP_INSTANCE === "0")`.
    let instance = (number.saturating_sub(1)).to_string();
    theirs.entry("NODE_APP_INSTANCE".into()).or_insert_with(|| instance.into());
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::app;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn get<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
        environment.get(OsStr::new(name)).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn what_systemd_says_to_the_shim_is_not_the_apps() {
        let ours = of(&[
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("WATCHDOG_USEC", "1"),
            ("LISTEN_FDS", "1"),
            ("NODE_CHANNEL_FD", "3"),
            ("PATH", "/bin"),
        ]);
        let app = app(Listen::Cluster, &["node", "a.js"]);
        let theirs = of_app(&ours, &of(&[]), &app, 2, &app.worker_address(2));
        let names: Vec<_> = theirs.keys().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["HOME", "NODE_APP_INSTANCE", "PATH", "ROUNDSMAN_APP", "ROUNDSMAN_WORKER"]
        );
        assert_eq!(get(&theirs, "NODE_APP_INSTANCE"), Some("1"));
        assert_eq!(get(&theirs, "ROUNDSMAN_WORKER"), Some("test:2"));
    }

    #[test]
    fn files_win_over_settings_and_those_over_the_unit() {
        let mut app = app(Listen::Cluster, &["node", "a.js"]);
        app.session = Some(SessionStore::Url("redis://localhost".into()));
        app.environment = [("A".into(), "settings".into()), ("B".into(), "settings".into())].into();
        let files = of(&[("A", "file"), ("LISTEN_FDS", "7")]);
        let unit = of(&[("A", "unit"), ("B", "unit"), ("C", "unit")]);
        let theirs = of_app(&unit, &files, &app, 1, &app.worker_address(1));
        let found = ["A", "B", "C", "LISTEN_FDS"].map(|name| get(&theirs, name));
        assert_eq!(found, [Some("file"), Some("settings"), Some("unit"), None]);
        assert_eq!(get(&theirs, "SESSION_URL"), Some("redis://localhost"));
        assert_eq!(get(&theirs, "REDIS_URL"), Some("redis://localhost"));
        app.session = Some(SessionStore::Url("mongodb://localhost".into()));
        let theirs = of_app(&unit, &of(&[]), &app, 1, &app.worker_address(1));
        assert_eq!(get(&theirs, "SESSION_URL"), Some("mongodb://localhost"));
        assert_eq!(get(&theirs, "REDIS_URL"), None);
    }

    #[test]
    fn a_user_without_a_home_has_one_that_can_be_written() {
        let home = |ours: &[(&str, &str)], user: Option<&str>| {
            let app = App { user: user.map(str::to_owned), ..app(Listen::Cluster, &["deno"]) };
            let theirs = of_app(&of(ours), &of(&[]), &app, 1, &app.worker_address(1));
            get(&theirs, "HOME").map(str::to_owned)
        };
        assert_eq!(home(&[], None).as_deref(), Some("/tmp"));
        assert_eq!(home(&[("HOME", "/")], None).as_deref(), Some("/tmp"));
        assert_eq!(home(&[("HOME", "/srv/x")], None).as_deref(), Some("/srv/x"));
        assert_eq!(home(&[("HOME", "/")], Some("daemon")).as_deref(), Some("/"), "as it is");
    }

    #[test]
    fn an_app_that_binds_learns_where() {
        let mut port = app(Listen::Port, &["x"]);
        port.port = Some(4000);
        let theirs = of_app(&of(&[("PORT", "1")]), &of(&[]), &port, 3, &port.worker_address(3));
        assert_eq!((get(&theirs, "PORT"), get(&theirs, "HOST")), (Some("4002"), Some("127.0.0.1")));
        assert_eq!(get(&theirs, "DENO_SERVE_ADDRESS"), Some("tcp:127.0.0.1:4002"));
        let unix = app(Listen::Unix, &["x"]);
        let theirs = of_app(&of(&[]), &of(&[]), &unix, 1, &unix.worker_address(1));
        assert_eq!(get(&theirs, "SOCKET"), Some("/run/roundsman-workers/test:1/http.sock"));
    }
}
