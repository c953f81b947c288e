//! Which files the generator makes for which apps: a pure function.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::service::service;
use super::text::{self, head, line};
use super::valkey_unit;
use crate::base::paths;
use crate::base::unit;
use crate::config::fingerprint;
use crate::config::settings::{Address, App, Transport};
use crate::config::valkey::Limits;

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

/// An app that gets units.
#[derive(Debug)]
pub struct Unit<'a> {
    /// Its settings.
    pub app: &'a App,
    /// The file that it is from.
    pub source: Option<&'a Path>,
    /// Whether it still has one: otherwise nothing of it is to start.
    pub has_file: bool,
    /// Its workers that run: what they have, they keep, whatever the file says by now.
    pub running: Vec<u16>,
    /// Its own Valkey server's limits, if it has one.
    pub valkey: Option<Limits>,
}

/// The units of all workers. `session` is where the session store listens beside its socket,
/// `is_roots` tells which files root may read for an app.
pub fn tree(units: &[Unit<'_>], session: Option<&str>, is_roots: impl Fn(&Path) -> bool) -> Tree {
    let mut tree = Tree::new();
    if let Some(address) = session {
        // systemd opens it: the service itself may not, and stays without any network.
        let text = format!(
            "# Made by roundsman-generator from [session] of roundsman.toml. Change that one, then:\n\
             # systemctl daemon-reload && systemctl restart roundsman-session.socket\n\n\
             [Socket]\nListenStream={address}\n"
        );
        tree.insert("roundsman-session.socket.d/50-roundsman.conf".into(), Item::File(text));
    }
    for Unit { app, source, has_file, running, valkey } in units {
        if let Some(limits) = valkey {
            let path = format!("{}.d/50-roundsman.conf", unit::valkey(&app.name));
            tree.insert(path.into(), Item::File(valkey_unit::service(app, *source, limits)));
        }
        let wanted = if *has_file { app.workers } else { 0 };
        let surplus = running.iter().copied().filter(|number| *number > wanted);
        for number in (1..=wanted).chain(surplus) {
            worker(app, number, number <= wanted, *source, &is_roots, &mut tree);
        }
        if *has_file {
            companions(app, *source, &mut tree);
        }
    }
    tree
}

/// The name of the unit that a file of the tree is, or belongs to as a drop-in.
pub(super) fn unit_of(path: &Path) -> &OsStr {
    let directory = path.parent().filter(|parent| parent.extension() == Some(OsStr::new("d")));
    let of_drop_in = directory.and_then(Path::file_stem);
    of_drop_in.or(path.file_name()).unwrap_or_default()
}

fn worker(
    app: &App,
    number: u16,
    is_wanted: bool,
    source: Option<&Path>,
    is_roots: &dyn Fn(&Path) -> bool,
    tree: &mut Tree,
) {
    let wants = format!("{}.wants", unit::target(&app.name));
    let mut unit = |kind: &str, drop_in: String| {
        let name = format!("roundsman-worker@{}.{kind}", app.instance(number));
        let link = Path::new(paths::UNITS).join(format!("roundsman-worker@.{kind}"));
        if is_wanted {
            tree.insert(Path::new(&wants).join(&name), Item::Link(link));
        }
        let path = Path::new(&format!("{name}.d")).join("50-roundsman.conf");
        tree.insert(path, Item::File(drop_in));
    };
    unit("service", service(app, number, source, is_roots));
    if app.has_socket() {
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
        out.push_str(&way_back(app));
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
        line!(out, "After=roundsman-app@{name}.target");
        line!(out, "\n[Timer]");
        for event in &app.supervision.restart_at {
            line!(out, "OnCalendar={event}");
        }
        line!(out, "AccuracySec=1s");
        tree.insert(wants.join(&unit), Item::Link(Path::new("..").join(&unit)));
        tree.insert(unit.into(), Item::File(out));
        let mut out = head(&format!("{name}, its workers are replaced"), source);
        line!(out, "\n[Service]");
        line!(out, "# All workers there and back, and another deploy that it has to wait for.");
        line!(out, "TimeoutStartSec={}", text::seconds(longest_deploy(app) * 3));
        out.push_str(&way_back(app));
        let path = format!("{}.d/50-roundsman.conf", unit::restart(name));
        tree.insert(path.into(), Item::File(out));
    }
}

/// How long it takes to replace all workers, if each takes as long as it may.
fn longest_deploy(app: &App) -> Duration {
    const MORE: Duration = Duration::from_mins(1);
    (app.start_timeout + app.drain_timeout + app.stop_timeout + MORE) * u32::from(app.workers + 1)
}

/// Where a deploy writes that undoes itself: beside the link to the release, and nowhere else of what
/// is not Roundsman's own.
fn way_back(app: &App) -> String {
    let folder = app.directory.as_deref().and_then(Path::parent);
    let Some(folder) = folder.filter(|folder| app.rollback && *folder != Path::new("/")) else {
        return String::new();
    };
    let mut out = String::from("# rollback = true points the link in it back.\n");
    line!(out, "ReadWritePaths=-{}", text::quoted(folder));
    out
}

fn socket(app: &App, number: u16, source: Option<&Path>) -> String {
    let (name, workers) = (&app.name, app.workers);
    let mut out = head(&format!("{name}, listener of worker {number} of {workers}"), source);
    // Stops with the app, but unlike with PartOf= it is not restarted with it: connections wait.
    line!(out, "StopPropagatedFrom=roundsman-app@{name}.target");
    line!(out, "After=roundsman-app@{name}.target");
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
            // A dynamic user is not there yet. Like this the socket is as open as a TCP one.
            None => line!(out, "SocketMode=0666"),
        }
    }
    out
}
