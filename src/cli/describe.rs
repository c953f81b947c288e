//! `roundsman describe`: everything about one app.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use super::AdminSocket;
use super::failure::Done;
use super::manage::{self, Machine, print, print_json};
use super::names;
use crate::admin::{client, model};
use crate::base::paths;
use crate::base::text::{self, one_line};
use crate::base::unit;
use crate::config::addresses;
use crate::config::fingerprint;
use crate::config::settings::App;
use crate::deploy::progress::Progress;
use crate::deploy::{drift, release, sockets};
use crate::systemd::dbus::{Unit, UnitState};
use crate::worker::control::client::{Dropped, all_dropped};
use crate::worker::{HAS_ENDED, LISTENS_ELSEWHERE, WAITS};

/// Show all about an app: its file, its workers, which release each runs
#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The app
    #[arg(value_name = "APP", add = names::apps())]
    app: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

/// How a worker's status begins that waits before it starts again (`worker::backoff`).
const BACKS_OFF: &str = "crashed ";

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Description {
    app: String,
    file: Option<PathBuf>,
    command: Vec<String>,
    directory: Option<PathBuf>,
    /// Where the directory leads, when it is a link.
    release: Option<PathBuf>,
    user: Option<String>,
    /// Whether it serves no HTTP.
    background: bool,
    enabled: bool,
    workers: Vec<Worker>,
    /// What looks after the workers, and what it does.
    watch: Option<String>,
    /// When they are next replaced (`restart-at`), in seconds since 1970.
    next_restart: Option<u64>,
    /// Of an unfinished deploy.
    deploy: Option<Progress>,
}

/// One worker.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Worker {
    pub(super) number: u16,
    /// systemd's word.
    pub(super) state: &'static str,
    /// What the front says: `up`, `draining`, `down`; absent when it does not run.
    pub(super) front: Option<String>,
    pub(super) pid: Option<u32>,
    pub(super) seconds: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) restarts: u64,
    /// The directory that it runs in.
    pub(super) release: Option<PathBuf>,
    /// Why it does not run what it would run if it were started now.
    pub(super) stale: Option<String>,
    /// Why it is not well.
    pub(super) trouble: Option<String>,
    /// Messages that were dropped, where the worker was asked.
    pub(super) dropped: Option<Dropped>,
}

// === impl Describe ===

impl Describe {
    /// Describes.
    pub(super) fn run(&self) -> ExitCode {
        manage::run(async {
            let loaded = manage::load();
            let app = manage::app_as_it_is(&loaded, &self.app)?;
            let machine = Machine::connect(&self.admin.path).await?;
            let mut numbers: Vec<u16> = (1..=app.workers).collect();
            numbers.extend(machine.running(&app.name).await?);
            numbers.sort_unstable();
            numbers.dedup();
            let front = front(&machine, &self.admin.path, &app.name).await;
            let mut workers = Vec::new();
            for number in numbers {
                workers.push(worker(&machine, &app, number, front.as_ref()).await?);
            }
            let running = workers.iter_mut().filter(|worker| worker.pid.is_some());
            let running: Vec<&mut Worker> = running.collect();
            let names: Vec<_> = running.iter().map(|w| (app.name.clone(), w.number)).collect();
            let dropped = all_dropped(Path::new(paths::WORKERS), &names);
            for (worker, dropped) in running.into_iter().zip(dropped) {
                worker.dropped = dropped;
            }
            let watch = machine.systemd.unit(&unit::watch(&app.name)).await?;
            let timer = machine.systemd.unit(&unit::restart_timer(&app.name)).await?;
            let link = app.directory.as_deref().filter(|directory| directory.is_symlink());
            let description = Description {
                file: loaded.app_files.get(&app.name).cloned(),
                release: link.and_then(|_| release::current(&app)),
                enabled: machine.systemd.is_enabled(&unit::target(&app.name)).await?,
                deploy: Progress::load(Path::new(paths::DEPLOYS), &app.name),
                workers,
                watch: app.is_watched().then(|| match (watch.state(), watch.text("StatusText")) {
                    (UnitState::Active, text) if !text.is_empty() => text.to_owned(),
                    _ => format!("DOES NOT RUN: systemctl status {}", unit::watch(&app.name)),
                }),
                background: app.is_background(),
                next_restart: timer
                    .number("NextElapseUSecRealtime")
                    .map(|micros| micros / 1_000_000),
                app: app.name,
                command: app.command,
                directory: app.directory,
                user: app.user,
            };
            if self.json {
                print_json(&description);
            } else {
                print(&render(&description));
            }
            Ok(())
        })
    }
}

/// What the front says; `None` when it does not run, where asking would start it. Its lock is for root to
/// look at, and this for everybody.
pub(super) async fn status(machine: &Machine, admin: &Path) -> Option<model::Status> {
    if machine.systemd.state(unit::FRONT).await.ok()? != UnitState::Active {
        return None;
    }
    let limit = Duration::from_secs(5);
    client::call_async::<(), model::Status>(admin, "GET", "/v1/status", None, limit).await.ok()
}

/// What the front says of the app's servers.
async fn front(machine: &Machine, admin: &Path, app: &str) -> Option<Vec<model::Server>> {
    let status = status(machine, admin).await?;
    let upstream = status.upstreams.into_iter().find(|u| u.name == format!("app:{app}"))?;
    Some(upstream.servers)
}

/// What there is to know about one worker.
pub(super) async fn worker(
    machine: &Machine,
    app: &App,
    number: u16,
    front: Option<&Vec<model::Server>>,
) -> Done<Worker> {
    let unit = machine.systemd.unit(&unit::service(&app.name, number)).await?;
    let pid = unit.main_pid();
    let runs = pid.and_then(release::of_process);
    let instance = app.instance(number);
    let stale = match pid {
        None => None,
        Some(_) => match stale(app, number, &unit, runs.as_deref()) {
            None => socket_fault(machine, app, number).await?,
            stale => stale,
        },
    };
    Ok(Worker {
        number,
        state: unit.state().word(),
        front: front
            .and_then(|servers| Some(servers.iter().find(|s| s.name == instance)?.state.clone())),
        pid,
        seconds: pid.and(unit.since()).map(|since| since.as_secs()),
        memory_bytes: pid.and_then(|_| unit.number("MemoryCurrent")),
        restarts: unit.number("NRestarts").unwrap_or_default(),
        stale,
        release: runs,
        trouble: trouble(&unit),
        dropped: None,
    })
}

/// What is wrong with the socket of a worker that runs.
async fn socket_fault(machine: &Machine, app: &App, number: u16) -> Done<Option<String>> {
    let fault = sockets::look(&machine.systemd, machine.held().await, app, number).await?;
    Ok(fault.map(|fault| format!("{fault}: its next start would fail")))
}

/// Why a worker is not well.
pub(super) fn trouble(unit: &Unit) -> Option<String> {
    let says = unit.text("StatusText");
    match unit.state() {
        // One that is being started says more than systemd knows.
        UnitState::Activating if says.starts_with(BACKS_OFF) || is_of_start(says) => {
            Some(says.to_owned())
        }
        _ => unit.trouble(),
    }
}

/// Whether a reason is that of a worker which is being started and has not failed.
pub(super) fn is_of_start(reason: &str) -> bool {
    [LISTENS_ELSEWHERE, HAS_ENDED, WAITS].iter().any(|begin| reason.starts_with(begin))
}

/// Why a process does not run what it would run if it were started now.
fn stale(app: &App, number: u16, unit: &Unit, runs: Option<&Path>) -> Option<String> {
    let now = release::current(app);
    if let (Some(runs), Some(now)) = (runs, now)
        && runs != now
    {
        return Some(format!("runs {}, not {}", text::path(runs), text::path(&now)));
    }
    let started = unit.number("ExecMainStartTimestamp");
    if let Some(file) = started.and_then(|started| drift::newer_file(app, started)) {
        return Some(format!("was started before {} changed", text::path(file)));
    }
    if let Some(from) = addresses::moves(Path::new(paths::ADDRESSES), app, number) {
        return Some(format!("will move from {from} to {}", app.worker_address(number)));
    }
    let settings = drift::of_worker(Path::new("/"), app, number)?;
    (settings != fingerprint::of_worker(app))
        .then(|| "was started with other settings than its file has now".to_owned())
}

fn render(description: &Description) -> String {
    let mut out = String::new();
    let none = || "none".to_owned();
    let path = |path: &Option<PathBuf>| path.as_ref().map_or_else(none, |p| text::path(p));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "app        {}", description.app);
    let _ = writeln!(out, "file       {}", path(&description.file));
    let _ = writeln!(out, "command    {}", one_line(&description.command.join(" ")));
    let _ = writeln!(out, "directory  {}", path(&description.directory));
    if description.release.is_some() {
        let _ = writeln!(out, "release    {}", path(&description.release));
    }
    let user = description.user.as_deref().unwrap_or("one of its own");
    let _ = writeln!(out, "user       {user}");
    if description.background {
        let _ = writeln!(out, "http       none (listen = \"none\")");
    }
    let _ = writeln!(
        out,
        "at boot    {}",
        if description.enabled { "starts" } else { "does not start" }
    );
    if let Some(watch) = &description.watch {
        let _ = writeln!(out, "watch      {}", one_line(watch));
    }
    if let Some(seconds) = description.next_restart {
        let time = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        let _ = writeln!(out, "restart    {time} (restart-at)");
    }
    if let Some(deploy) = &description.deploy {
        let _ = writeln!(
            out,
            "deploy     unfinished: {} of its workers are done; roundsman reload {} --resume goes on",
            deploy.done.len(),
            description.app
        );
    }
    for worker in &description.workers {
        let _ = write!(out, "\n{}:{}  {}", description.app, worker.number, worker.state);
        if let Some(front) = &worker.front {
            let _ = write!(out, ", {front} in the front");
        }
        if let Some(pid) = worker.pid {
            let _ = write!(out, ", process {pid}");
        }
        if let Some(seconds) = worker.seconds {
            let _ = write!(out, ", for {seconds} s");
        }
        if let Some(bytes) = worker.memory_bytes {
            let _ = write!(out, ", {} MiB", bytes / (1024 * 1024));
        }
        if worker.restarts > 0 {
            let _ = write!(out, ", restarted {} times", worker.restarts);
        }
        let _ = writeln!(out);
        for line in [&worker.trouble, &worker.stale].into_iter().flatten() {
            let _ = writeln!(out, "    {}", one_line(line));
        }
        if let Some(dropped) = worker.dropped.filter(|dropped| !dropped.is_none()) {
            let _ = writeln!(out, "    {dropped}");
        }
        if let Some(release) = &worker.release {
            let _ = writeln!(out, "    in {}", text::path(release));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_no_lines_and_no_commands_of_its_own() {
        let hostile = "/r/1\n\u{1b}[2J\u{202e}shop:9  active";
        let worker = Worker {
            number: 1,
            state: "active",
            front: None,
            pid: None,
            seconds: None,
            memory_bytes: None,
            restarts: 0,
            release: Some(hostile.into()),
            stale: Some(hostile.to_owned()),
            trouble: Some(hostile.to_owned()),
            dropped: None,
        };
        let path = || Some(PathBuf::from(hostile));
        let shown = render(&Description {
            app: "shop".to_owned(),
            file: None,
            command: vec![hostile.to_owned()],
            directory: path(),
            release: path(),
            user: None,
            background: false,
            enabled: true,
            workers: vec![worker],
            watch: Some(hostile.to_owned()),
            next_restart: None,
            deploy: None,
        });
        assert!(shown.chars().all(|c| c == '\n' || !text::is_command(c)), "{shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("shop:9")), "{shown}");
    }
}
