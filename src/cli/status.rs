//! `roundsman status`: apps, workers, threads at a glance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::timeout;

use super::send::AppOrWorker;
use super::stores::{self, Store};
use super::{AdminSocket, describe, manage};
use crate::admin::model;
use crate::base::paths;
use crate::base::unit;
use crate::base::unit::Instance;
use crate::config::Loaded;
use crate::deploy::sockets::{self, SocketFault};
use crate::systemd::dbus::{Systemd, SystemdError, UnitState};
use crate::worker::control::client;

/// How long systemd may take to answer.
const LONGEST: Duration = Duration::from_secs(5);

/// Show apps, workers and threads of the running front
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Status ===

impl Status {
    /// Asks the front and prints.
    pub(super) fn run(&self) -> ExitCode {
        self.admin.call::<(), model::Status>("GET", "/v1/status", None, |status| {
            let units = of_systemd(Units::ask());
            let loaded = manage::load();
            let files = pending(&status, &loaded);
            let background = units.background(&loaded);
            if self.json {
                let Units { unwell, stores, .. } = units;
                let all = All { status: &status, background, unwell, valkey: stores, files };
                manage::print_json(&all);
            } else {
                // A reason may be an app's word.
                let text = table(&status, &background, &units, &files);
                manage::print(&(text + &messages(&status, &background)));
            }
        })
    }
}

/// A line for each worker that has dropped messages.
fn messages(status: &model::Status, background: &[Background]) -> String {
    let mut out = String::new();
    let servers = status.upstreams.iter().flat_map(|upstream| &upstream.servers);
    let names = servers.map(|server| &server.name).chain(background.iter().map(|b| &b.worker));
    let worker = |name: &String| match name.parse() {
        Ok(AppOrWorker { app, number: Some(number) }) => Some((app, number)),
        _ => None,
    };
    let workers: Vec<_> = names.filter_map(worker).collect();
    let dropped = client::all_dropped(Path::new(paths::WORKERS), &workers);
    for ((app, number), dropped) in workers.iter().zip(dropped) {
        if let Some(dropped) = dropped.filter(|dropped| !dropped.is_none()) {
            let _ = writeln!(out, "{app}:{number}: {dropped}"); // which cannot fail
        }
    }
    out
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct All<'a> {
    #[serde(flatten)]
    status: &'a model::Status,
    background: Vec<Background>,
    unwell: Vec<Unwell>,
    valkey: Vec<Store>,
    files: Vec<Pending>,
}

/// A worker of a background app, of which the front knows nothing.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Background {
    worker: String,
    state: String,
}

/// A worker that does not serve, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Unwell {
    worker: String,
    reason: String,
}

/// What only systemd knows of the workers. Where it cannot be asked (no systemd, no bus), what the front
/// says is all.
#[derive(Debug, Default)]
struct Units {
    /// Of loaded units; a worker whose unit is not loaded is stopped.
    states: BTreeMap<String, UnitState>,
    unwell: Vec<Unwell>,
    stores: Vec<Store>,
    is_known: bool,
}

/// What is wrong with the sockets of workers that run, as far as systemd can be asked.
pub(super) fn socket_faults() -> Vec<(Instance, SocketFault)> {
    of_systemd(async { sockets::all_faults(&Systemd::connect().await?).await })
}

fn of_systemd<T: Default>(ask: impl Future<Output = Result<T, SystemdError>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return T::default() };
    let ask = async { timeout(LONGEST, ask).await.ok()?.ok() };
    runtime.block_on(ask).unwrap_or_default()
}

// === impl Units ===

impl Units {
    async fn ask() -> Result<Self, SystemdError> {
        let systemd = Systemd::connect().await?;
        let mut units = Self { is_known: true, ..Self::default() };
        for (name, state) in systemd.loaded(unit::ALL_SERVICES).await? {
            let Some(worker) = Instance::of_service(&name) else { continue };
            units.states.insert(worker.to_string(), state);
            if state == UnitState::Active {
                continue;
            }
            if let Some(reason) = describe::trouble(&systemd.unit(&name).await?) {
                units.unwell.push(Unwell { worker: worker.to_string(), reason });
            }
        }
        units.stores = stores::all(&systemd).await?;
        let lost = sockets::all_faults(&systemd).await?;
        units.unwell.extend(lost.into_iter().map(|(worker, fault)| Unwell {
            worker: worker.to_string(),
            reason: format!("{fault}: its next start would fail; roundsman apply mends it"),
        }));
        Ok(units)
    }

    /// A server's state in one word: of a worker that is down, what it is instead of up.
    fn state_of(&self, server: &model::Server) -> String {
        let is_worker = server.name.parse::<Instance>().is_ok();
        if server.state != "down" || !is_worker || !self.is_known {
            return server.state.clone();
        }
        match self.word(&server.name) {
            "up" | "stopping" => "down",
            word => word,
        }
        .to_owned()
    }

    /// What a worker does, by its unit.
    fn word(&self, worker: &str) -> &'static str {
        let reason = self.unwell.iter().find(|unwell| unwell.worker == worker);
        let crashes = reason.is_some_and(|unwell| !describe::is_of_start(&unwell.reason));
        match self.states.get(worker).copied().unwrap_or_default() {
            UnitState::Activating if crashes => "crashing",
            UnitState::Activating => "starting",
            UnitState::Failed => "failed",
            UnitState::Inactive => "stopped",
            UnitState::Active => "up",
            UnitState::Deactivating => "stopping",
        }
    }

    /// The workers of all background apps.
    fn background(&self, loaded: &Loaded) -> Vec<Background> {
        let apps = loaded.settings.apps.values().filter(|app| app.is_background());
        let workers = apps.flat_map(|app| (1..=app.workers).map(|number| app.instance(number)));
        let state = |worker: &str| if self.is_known { self.word(worker) } else { "unknown" };
        workers.map(|worker| Background { state: state(&worker).to_owned(), worker }).collect()
    }
}

/// An app whose file is not what the front has at work.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Pending {
    app: String,
    what: String,
}

/// Apps of which the front does not know yet, or whose files it cannot read.
fn pending(status: &model::Status, loaded: &Loaded) -> Vec<Pending> {
    let at_work = |app: &str| {
        let name = format!("app:{app}");
        status.upstreams.iter().any(|upstream| upstream.name == name)
    };
    let mut pending = Vec::new();
    for app in &loaded.app_names {
        let what = match loaded.settings.apps.get(app) {
            None => "its file has errors (roundsman check), so it stays as it was",
            Some(settings) if settings.has_address() && !at_work(app) => {
                "the front has not read its file yet: roundsman apply"
            }
            Some(_) => continue,
        };
        pending.push(Pending { app: app.clone(), what: what.to_owned() });
    }
    pending
}

fn table(
    status: &model::Status,
    background: &[Background],
    units: &Units,
    files: &[Pending],
) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "roundsman {}, process {}, up for {}",
        status.version,
        status.pid,
        duration(status.uptime_seconds)
    );
    for listener in &status.listeners {
        let _ = writeln!(out, "listening on {} ({})", listener.address, listener.name);
    }
    if status.last_good {
        let _ = writeln!(
            out,
            "THE CONFIGURATION HAS ERRORS: this is the last good one; see roundsman check"
        );
    }
    if !status.bus {
        let _ = writeln!(out, "The system bus is out of reach: workers' states may be old.");
    }
    let _ = writeln!(out);
    let mut rows = vec![
        ["SERVER", "STATE", "IN FLIGHT", "REQUESTS", "FAILED", "ADDRESS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for upstream in &status.upstreams {
        if upstream.servers.is_empty() {
            let state = "unresolved".to_owned(); // its names have not been looked up yet
            rows.push([vec![upstream.name.clone(), state], vec!["-".to_owned(); 4]].concat());
        }
        for server in &upstream.servers {
            rows.push(vec![
                server.name.clone(),
                units.state_of(server),
                server.in_flight.to_string(),
                server.requests.to_string(),
                server.failures.to_string(),
                server.address.clone(),
            ]);
        }
    }
    for Background { worker, state } in background {
        let none = [vec!["-".to_owned(); 3], vec!["none".to_owned()]].concat();
        rows.push([vec![worker.clone(), state.clone()], none].concat());
    }
    if rows.len() == 1 {
        let _ = writeln!(
            out,
            "No app yet. Start one: roundsman start /srv/hello/server.js\n\
             (a file, a folder, or after -- a command; roundsman start --help). What PM2 runs: \
             roundsman import pm2 ecosystem.config.js"
        );
    } else {
        align(&mut out, &rows);
    }
    let waiting: u64 = status.upstreams.iter().map(|upstream| upstream.waiting).sum();
    if waiting > 0 {
        let _ = writeln!(out, "\n{waiting} requests wait for a server.");
    }
    if !units.unwell.is_empty() || !files.is_empty() || !units.stores.is_empty() {
        let _ = writeln!(out);
    }
    for store in &units.stores {
        let _ = writeln!(out, "{store}");
    }
    for Unwell { worker, reason } in &units.unwell {
        let _ = writeln!(out, "{worker}: {reason}");
    }
    for Pending { app, what } in files {
        let _ = writeln!(out, "{app}: {what}");
    }
    let _ = writeln!(out);
    let mut rows =
        vec![["THREAD", "CORE", "CONNECTIONS", "OPEN", "REQUESTS"].map(str::to_owned).to_vec()];
    for (number, thread) in status.threads.iter().enumerate() {
        rows.push(vec![
            number.to_string(),
            thread.core.to_string(),
            thread.accepted.to_string(),
            thread.open.to_string(),
            thread.requests.to_string(),
        ]);
    }
    align(&mut out, &rows);
    out
}

/// Writes rows with their columns under each other.
fn align(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> model::Status {
        model::Status {
            version: "1.2.3".to_owned(),
            pid: 7,
            uptime_seconds: 3720,
            last_good: false,
            configuration: None,
            bus: true,
            threads: vec![model::Thread { core: 0, accepted: 5, open: 1, requests: 9 }],
            listeners: vec![model::Listener {
                name: "http".to_owned(),
                address: "[::]:80".to_owned(),
            }],
            upstreams: Vec::new(),
        }
    }

    #[test]
    fn says_how_to_add_an_app_while_there_is_none() {
        let text = table(&status(), &[], &Units::default(), &[]);
        assert!(text.contains("up for 1 h 2 min"), "{text}");
        assert!(text.contains("roundsman start "), "{text}");
    }

    fn with_shop() -> model::Status {
        let server = |name: &str, state: &str| model::Server {
            name: name.to_owned(),
            address: "127.64.0.1:7080".to_owned(),
            state: state.to_owned(),
            in_flight: 3,
            requests: 100,
            failures: 1,
            transitions: BTreeMap::new(),
        };
        let names = ["shop:1", "shop:2", "shop:3", "shop:4", "shop:5"];
        let mut servers = vec![server(names[0], "up")];
        servers.extend(names[1..].iter().map(|name| server(name, "down")));
        let shop = model::Upstream { name: "app:shop".to_owned(), waiting: 0, servers };
        model::Status { upstreams: vec![shop], ..status() }
    }

    fn units() -> Units {
        let reason = "given up after 16 crashes in a row".to_owned();
        let crash = "it exited with status 1".to_owned();
        let state = |name: &str, state| (name.to_owned(), state);
        Units {
            states: BTreeMap::from([
                state("shop:1", UnitState::Active),
                state("shop:2", UnitState::Failed),
                state("shop:3", UnitState::Activating),
                state("shop:4", UnitState::Activating),
            ]),
            unwell: vec![
                Unwell { worker: "shop:2".to_owned(), reason },
                Unwell { worker: "shop:3".to_owned(), reason: crash },
            ],
            stores: Vec::new(),
            is_known: true,
        }
    }

    #[test]
    fn lists_servers_in_columns() {
        let text = table(&with_shop(), &[], &units(), &[]);
        assert!(text.contains("\nshop:2: given up after 16 crashes in a row\n"), "{text}");
        assert!(
            text.contains("SERVER  STATE     IN FLIGHT  REQUESTS  FAILED  ADDRESS\n"),
            "{text}"
        );
        assert!(text.contains("shop:1  up        3          100       1       127."), "{text}");
    }

    #[test]
    fn a_worker_that_is_down_says_what_it_is_instead() {
        let words = |units: &Units| -> Vec<String> {
            with_shop().upstreams[0].servers.iter().map(|server| units.state_of(server)).collect()
        };
        assert_eq!(words(&units()), ["up", "failed", "crashing", "starting", "stopped"]);
        assert_eq!(words(&Units::default()), ["up", "down", "down", "down", "down"], "no systemd");
    }

    /// The front knows nothing of them, and is not to.
    #[test]
    fn workers_that_serve_nobody_are_listed_by_their_units() {
        let loaded = crate::config::sample::loaded(
            "command = [\"/bin/true\"]\nworkers = 5\nlisten = \"none\"\n",
        );
        let background = units().background(&loaded);
        let words: Vec<_> = background.iter().map(|worker| &*worker.state).collect();
        assert_eq!(words, ["up", "failed", "crashing", "starting", "stopped"]);
        assert_eq!(Units::default().background(&loaded)[0].state, "unknown", "no systemd");
        let text = table(&status(), &background, &units(), &pending(&status(), &loaded));
        assert!(text.contains("\nshop:3  crashing  -          -         -       none\n"), "{text}");
        assert!(!text.contains("No app yet") && !text.contains("has not read its file"), "{text}");
    }

    #[test]
    fn files_that_are_not_at_work_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let apps = directory.path().join("apps");
        std::fs::create_dir(&apps).unwrap();
        std::fs::write(apps.join("shop.toml"), "command = [\"/bin/true\"]").unwrap();
        std::fs::write(
            apps.join("blog.toml"),
            "command = [\"/bin/true\"]\nroute = [{ host = \"b\" }]",
        )
        .unwrap();
        std::fs::write(apps.join("bad.toml"), "command = 1").unwrap();
        let loaded = crate::config::load(&crate::config::Sources::directory(directory.path()));
        let pending = pending(&with_shop(), &loaded);
        let said: Vec<_> = pending.iter().map(|file| (&*file.app, &*file.what)).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].0 == "bad" && said[0].1.contains("roundsman check"), "{said:?}");
        assert!(said[1].0 == "blog" && said[1].1.contains("roundsman apply"), "{said:?}");
        assert!(
            table(&with_shop(), &[], &Units::default(), &pending).contains("\nblog: the front has")
        );
    }
}
