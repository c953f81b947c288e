//! What the commands that change the machine have in common: how they end, the configuration,
//! systemd, and how starting workers is shown.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::task::{JoinSet, LocalSet};

use super::failure::{Done, Failure};
use crate::base::exit;
use crate::base::interrupts;
use crate::base::paths;
use crate::base::text;
use crate::base::unit;
use crate::base::unit::Instance;
use crate::config::settings::App;
use crate::config::{self, Loaded, Settings, Sources};
use crate::deploy::front::Front;
use crate::deploy::progress::Lock;
use crate::deploy::sockets::{self, Held};
use crate::deploy::surge;
use crate::supervise::crashes;
use crate::systemd::dbus::{Systemd, SystemdError, UnitState, Verb};
use crate::worker::LISTENS_ELSEWHERE;

/// How often is looked what workers say that are waited for.
const LOOK: Duration = Duration::from_secs(1);

/// The machine that is managed.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) systemd: Rc<Systemd>,
    pub(super) front: Front,
    held: OnceCell<Rc<Held>>,
}

/// Runs a command to its end; prints why it did not do it.
pub(super) fn run(command: impl Future<Output = Done>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                biased;
                done = command => done,
                () = interrupts::unheard() => {
                    Err(Failure::with(exit::INTERRUPTED, "interrupted"))
                }
            }
        }),
        Err(error) => Err(error.into()),
    };
    end(result)
}

/// The exit status of what a command came to; prints why it did not do it.
pub(super) fn end(result: Done) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                say(&format!("error: {message}"));
            }
            ExitCode::from(code)
        }
    }
}

/// Prints a line for people. What is in it may be another user's word, as in all that follows. A terminal that is gone is no reason to stop in the middle.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", text::lines(line));
}

/// Prints that a command has done what it was asked to: for people, or as an object with `result`,
/// `app` and these further fields.
pub(super) fn done(as_json: bool, text: &str, result: &str, app: &str, more: &serde_json::Value) {
    if !as_json {
        return print(text);
    }
    let mut object = serde_json::json!({ "result": result, "app": app });
    if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
    print_json(&object);
}

/// Prints a result for programs.
pub(super) fn print_json(result: &impl Serialize) {
    print(&text::json(&serde_json::to_string_pretty(result).unwrap_or_default()));
}

/// Prints a result.
pub(super) fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{}", text::lines(text.trim_end_matches('\n')));
}

// === the configuration ===

/// The app with this name, from files without an error in what concerns it.
pub(super) fn app(loaded: &Loaded, name: &str) -> Done<App> {
    if let Some(app) = loaded.settings.apps.get(name) {
        return Ok(app.clone());
    }
    if loaded.app_files.contains_key(name) {
        return Err(Failure::config(format!(
            "the file of {name} has errors:\n{}",
            loaded.problems.render(false)
        )));
    }
    let known = names(&loaded.settings);
    let known = if known.is_empty() { "there are none yet".to_owned() } else { known };
    Err(Failure::new(format!("there is no app \"{name}\"; apps: {known}")))
}

/// The names of all apps.
fn names(settings: &Settings) -> String {
    settings.apps.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The files as they are now, but for the extra workers of a deploy.
pub(super) fn sources() -> Sources {
    let drop_ins = surge::drop_ins(Path::new("/"));
    drop_ins.into_iter().fold(Sources::system(), |sources, path| sources.with_file(path, None))
}

/// What they say.
pub(super) fn load() -> Loaded {
    config::load(&sources())
}

/// The right to change an app.
pub(super) fn lock(app: &str, wait: bool) -> Done<Lock> {
    Lock::take(Path::new(paths::DEPLOYS), app, wait).map_err(Failure::from)
}

// === impl Machine ===

impl Machine {
    /// This machine.
    pub(super) async fn connect(admin: &Path) -> Done<Self> {
        let systemd = Rc::new(Systemd::connect().await?);
        Ok(Self { systemd, front: Front::new(admin), held: OnceCell::new() })
    }

    /// The listeners that systemd held when this was first asked: for looking at many workers.
    pub(super) async fn held(&self) -> &Held {
        self.held.get_or_init(async || Rc::new(Held::now(&self.systemd).await)).await
    }

    /// Puts the files to work: units by the generator, then the front.
    pub(super) async fn apply_files(&self) -> Done {
        self.systemd.daemon_reload().await?;
        Ok(self.front.reload().await?)
    }

    /// Starts workers at once and waits until all are ready, or says which is not and why.
    pub(super) async fn start_workers(&self, app: &App, numbers: &[u16]) -> Done {
        let mut jobs = JoinSet::new();
        for number in numbers.iter().copied() {
            let systemd = Rc::clone(&self.systemd);
            let all = app.units_of(number);
            crashes::forget(&app.instance(number));
            let (service, app) = (unit::service(&app.name, number), app.clone());
            jobs.spawn_local(async move {
                // It has its full number of attempts again.
                let _ = systemd.reset_failed(&service).await;
                let started = match sockets::mend(&systemd, &app, number).await {
                    Ok(()) => systemd.jobs(Verb::Start, &all).await,
                    Err(error) => Err(error),
                };
                (number, started)
            });
        }
        let (mut ready, mut failed) = (0, None);
        let total = numbers.len();
        let mut told = BTreeSet::new();
        loop {
            let joined = tokio::select! {
                joined = jobs.join_next() => joined,
                () = tokio::time::sleep(LOOK) => {
                    self.tell_hints(app, numbers, &mut told).await;
                    continue;
                }
            };
            let Some(joined) = joined else { break };
            let Ok((number, result)) = joined else { continue };
            let instance = app.instance(number);
            match result {
                Ok(()) => {
                    ready += 1;
                    say(&format!("{instance} is ready ({ready} of {total})"));
                }
                Err(error) => {
                    say(&format!("{instance} FAILED"));
                    failed.get_or_insert((number, error));
                }
            }
        }
        match failed {
            None => Ok(()),
            Some((number, error @ SystemdError::Job { .. })) => {
                Err(self.why(app, number, &error.to_string()).await)
            }
            Some((_, error)) => Err(error.into()),
        }
    }

    /// Says, once each, where workers that are waited for listen instead of where they should.
    async fn tell_hints(&self, app: &App, numbers: &[u16], told: &mut BTreeSet<String>) {
        for number in numbers {
            let Ok(unit) = self.systemd.unit(&unit::service(&app.name, *number)).await else {
                continue;
            };
            let status = unit.text("StatusText");
            if status.starts_with(LISTENS_ELSEWHERE) && told.insert(status.to_owned()) {
                say(&format!("{}: {}", app.instance(*number), text::one_line(status)));
            }
        }
    }

    /// Why a worker is not well, with its last lines.
    pub(super) async fn why(&self, app: &App, number: u16, otherwise: &str) -> Failure {
        let unit = unit::service(&app.name, number);
        let trouble = self.systemd.unit(&unit).await.ok().and_then(|unit| unit.trouble());
        let reason = trouble.unwrap_or_else(|| otherwise.to_owned());
        Failure::new(format!("{}: {reason}{}", app.instance(number), last_lines(&unit)))
    }

    /// Stops workers, draining them first, and waits until they have ended.
    pub(super) async fn stop_workers(&self, app: &App, numbers: &[u16]) -> Done {
        let all: Vec<String> = numbers.iter().flat_map(|number| app.units_of(*number)).collect();
        let stopped = self.systemd.jobs(Verb::Stop, &all).await;
        for unit in &all {
            self.systemd.reset_failed(unit).await?;
        }
        Ok(stopped?)
    }

    /// The workers of an app that systemd knows, also such that its file does not have any more,
    /// and whether each runs or is about to.
    pub(super) async fn workers(&self, app: &str) -> Done<Vec<(u16, bool)>> {
        let loaded = self.systemd.loaded(&unit::services(app)).await?;
        let mut workers: Vec<(u16, bool)> = loaded
            .into_iter()
            .filter_map(|(unit, state)| {
                let runs = !matches!(state, UnitState::Inactive | UnitState::Failed);
                let worker = Instance::of_service(&unit).filter(|worker| worker.app == app)?;
                Some((worker.number, runs))
            })
            .collect();
        workers.sort_unstable();
        Ok(workers)
    }

    /// The workers that run.
    pub(super) async fn running(&self, app: &str) -> Done<Vec<u16>> {
        let workers = self.workers(app).await?;
        Ok(workers.into_iter().filter_map(|(number, runs)| runs.then_some(number)).collect())
    }
}

/// A worker's last journal entries, as a paragraph; empty when there are none to be had.
pub(super) fn last_lines(unit: &str) -> String {
    let output = Command::new("journalctl")
        .args(["--no-pager", "--quiet", "--lines=20", "--output=short-iso", "--unit", unit])
        .output();
    let text = match &output {
        Ok(output) => String::from_utf8_lossy(&output.stdout),
        Err(_) => return String::new(),
    };
    if text.trim().is_empty() {
        return String::new();
    }
    let mut out = format!("\nThe last lines of {unit}:\n");
    for line in text.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "    {line}");
    }
    let _ = write!(out, "More: journalctl -u '{unit}'");
    out
}
