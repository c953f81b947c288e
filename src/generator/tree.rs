//! Which files the generator makes for which apps: a pure function.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::text;
use crate::base::paths;
use crate::base::unit;
use crate::config::Settings;
use crate::config::fingerprint;
use crate::config::settings::{Address, App, Listen, SESSION_URL, Transport};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A file with this text.
    File(String),
    /// A symbolic link to this.
    Link(PathBuf),
}

/// Paths below the generator's output directory.
pub type Tree = BTreeMap<PathBuf, Item>;

/// What systemd waits longer than the worker's main process, which keeps the same limits itself:
/// it can say why, systemd only that.
const MARGIN: Duration = Duration::from_secs(10);

/// One line of a drop-in. Writing to a string cannot fail.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {{ let _ = writeln!($text, $($arg)*); }};
}

/// The units of all workers; `source` names the file that an app is from.
pub fn tree(settings: &Settings, source: impl Fn(&str) -> Option<PathBuf>) -> Tree {
    let mut tree = Tree::new();
    if let Some(address) = settings.front.session.listen {
        // systemd opens it: the service itself may not, and stays without any network.
        let text = format!(
            "# Made by roundsman-generator from [session] of roundsman.toml. Change that one, then:\n\
             # systemctl daemon-reload && systemctl restart roundsman-session.socket\n\n\
             [Socket]\nListenStream={address}\n"
        );
        tree.insert("roundsman-session.socket.d/50-roundsman.conf".into(), Item::File(text));
    }
    for app in settings.apps.values() {
        let source = source(&app.name);
        for number in 1..=app.workers {
            worker(app, number, source.as_deref(), &mut tree);
        }
        companions(app, source.as_deref(), &mut tree);
    }
    tree
}

fn worker(app: &App, number: u16, source: Option<&Path>, tree: &mut Tree) {
    let wants = format!("{}.wants", unit::target(&app.name));
    let mut unit = |kind: &str, drop_in: String| {
        let name = format!("roundsman-worker@{}.{kind}", app.instance(number));
        let link = Path::new(paths::UNITS).join(format!("roundsman-worker@.{kind}"));
        tree.insert(Path::new(&wants).join(&name), Item::Link(link));
        let path = Path::new(&format!("{name}.d")).join("50-roundsman.conf");
        tree.insert(path, Item::File(drop_in));
    };
    unit("service", service(app, number, source));
    if has_socket(app) {
        unit("socket", socket(app, number, source));
    }
}

/// What looks after the workers.
fn companions(app: &App, source: Option<&Path>, tree: &mut Tree) {
    let name = &app.name;
    let wants = PathBuf::from(format!("{}.wants", unit::target(name)));
    if app.is_watched() {
        let unit = unit::watch(name);
        let mut out = head(&format!("{name}, watch over its workers"), source);
        line!(out, "\n[Service]");
        line!(out, "Environment={}={}", fingerprint::VARIABLE, fingerprint::of_watch(app));
        let link = Path::new(paths::UNITS).join("roundsman-watch@.service");
        tree.insert(wants.join(&unit), Item::Link(link));
        let path = Path::new(&format!("{unit}.d")).join("50-roundsman.conf");
        tree.insert(path, Item::File(out));
    }
    if !app.supervision.restart_at.is_empty() {
        let unit = unit::restart_timer(name);
        let mut out = head(&format!("{name}, time to replace its workers"), source);
        line!(out, "Documentation=man:roundsman.toml(5)");
        line!(out, "PartOf=roundsman-app@{name}.target");
        line!(out, "\n[Timer]");
        for event in &app.supervision.restart_at {
            line!(out, "OnCalendar={event}");
        }
        line!(out, "AccuracySec=1s");
        tree.insert(wants.join(&unit), Item::Link(Path::new("..").join(&unit)));
        tree.insert(unit.into(), Item::File(out));
    }
}

/// Whether systemd holds the worker's listener; otherwise the app makes its own.
fn has_socket(app: &App) -> bool {
    app.handoff.is_none() && matches!(app.listen, Listen::Cluster | Listen::Fd)
}

fn head(description: &str, source: Option<&Path>) -> String {
    let mut out = String::from(
        "# Made by roundsman-generator from the app's file. Change that one, then:\n\
         # systemctl daemon-reload\n\n[Unit]\n",
    );
    line!(out, "Description={description}");
    if let Some(source) = source {
        // Lets systemctl say that the file has changed since the last daemon-reload.
        line!(out, "SourcePath={}", text::path(source));
    }
    out
}

fn service(app: &App, number: u16, source: Option<&Path>) -> String {
    let (name, workers) = (&app.name, app.workers);
    let mut out = head(&format!("{name}, worker {number} of {workers}"), source);
    line!(out, "PartOf=roundsman-app@{name}.target");
    if has_socket(app) {
        // The main process inherits its listener, so there is no starting without it.
        line!(out, "Requires=roundsman-worker@%i.socket");
        line!(out, "After=roundsman-worker@%i.socket");
    }
    if app.session.as_deref() == Some(SESSION_URL) {
        line!(out, "Wants=roundsman-session.socket");
        line!(out, "After=roundsman-session.socket");
    }

    line!(out, "\n[Service]");
    match &app.user {
        Some(user) => line!(out, "User={user}"),
        None => line!(out, "DynamicUser=yes"),
    }
    if let Some(group) = &app.group {
        line!(out, "Group={group}");
    }
    if let Some(directory) = &app.directory {
        line!(out, "WorkingDirectory={}", text::path(directory));
    }
    // So that it can be seen of a running worker whether its settings have changed since.
    line!(out, "Environment={}={}", fingerprint::VARIABLE, fingerprint::of_worker(app));
    if let Some(url) = &app.session {
        // Before the app's own variables, which win.
        line!(out, "Environment={}", text::environment("SESSION_URL", url));
        if !url.starts_with("mongodb") {
            line!(out, "Environment={}", text::environment("REDIS_URL", url));
        }
        if url == SESSION_URL {
            line!(out, "# Whose members may open the socket of the session store.");
            line!(out, "SupplementaryGroups=roundsman-session");
        }
    }
    for (name, value) in &app.environment {
        line!(out, "Environment={}", text::environment(name, value));
    }
    for file in &app.environment_files {
        line!(out, "EnvironmentFile={}", text::path(file));
    }
    for (name, path) in &app.supervision.credentials {
        line!(out, "LoadCredential={name}:{}", text::path(path));
    }

    let start = app.start_timeout + MARGIN;
    line!(out, "# start-timeout, and what the main process needs to say that it is over.");
    line!(out, "TimeoutStartSec={}", text::seconds(start));
    // systemd waits this long for ExecStop= (the drain), and then again for the processes to end.
    let stop = app.drain_timeout.max(app.stop_timeout) + MARGIN;
    line!(out, "# For each of the two steps of a stop: drain-timeout, then stop-timeout.");
    line!(out, "TimeoutStopSec={}", text::seconds(stop));
    line!(out, "WatchdogSec={}", text::seconds(app.watchdog));
    if let Some(max) = app.max_memory {
        line!(out, "# Above max-memory it is replaced in peace; these are for when it cannot be.");
        line!(out, "MemoryHigh={}", max + max / 4);
        line!(out, "MemoryMax={}", max + max / 2);
    }
    line!(out, "LogExtraFields=ROUNDSMAN_APP={name}");
    out
}

fn socket(app: &App, number: u16, source: Option<&Path>) -> String {
    let (name, workers) = (&app.name, app.workers);
    let mut out = head(&format!("{name}, listener of worker {number} of {workers}"), source);
    // Stops with the app, but unlike with PartOf= it is not restarted with it: connections wait.
    line!(out, "StopPropagatedFrom=roundsman-app@{name}.target");
    if let (Transport::Tcp, Address::Tcp(address)) = (app.transport, app.worker_address(number)) {
        line!(out, "\n[Socket]");
        line!(out, "ListenStream=");
        line!(out, "ListenStream={address}");
        line!(out, "NoDelay=yes");
        // A loopback address is there, even when its interface is not up yet.
        line!(out, "FreeBind=yes");
    } else {
        // The worker's main process connects too, as the app's user, to see whether the app answers.
        line!(out, "\n[Socket]");
        match &app.user {
            Some(user) => line!(out, "SocketUser={user}"),
            // A dynamic user has no name yet. Like this the socket is as open as a TCP one.
            None => line!(out, "SocketMode=0666"),
        }
    }
    out
}
