//! The process that looks after one app: see the module above.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::debounce::Debounce;
use super::error::{LeftOut, WatchError};
use super::files::Files;
use super::memory;
use super::replace::{Limits, Replacements, Sample};
use crate::base::exit;
use crate::base::paths;
use crate::base::rights::Rights;
use crate::base::text::escaped;
use crate::base::unit;
use crate::base::user::User;
use crate::config::settings::App;
use crate::supervise::life::{self, Life};
use crate::systemd::message::{REPLACE_FAILED, WORKERS_REPLACED};
use crate::systemd::notify;

/// How often workers are looked at: a leak of 100 MiB/s fills the room up to the kernel's limit
/// for a worker of 512 MiB in 2.5 s.
const LOOK: Duration = Duration::from_secs(2);

/// When somebody else changes the app, and when a directory is not there.
const AGAIN: Duration = Duration::from_secs(2);

/// What its line in `systemctl status` says while it runs a deploy.
pub(crate) const REPLACES: &str = "replacing workers now";

/// The agent of one app.
pub(crate) struct Agent<L> {
    name: String,
    /// The app's settings as its files are now; `None` while they have errors.
    load: L,
    /// This program.
    program: PathBuf,
    app: App,
    files: Option<Files>,
    /// Why files are not watched that should be, and when that is tried again.
    trouble: Option<(String, Instant)>,
    debounce: Debounce,
    replacements: Replacements,
    task: Option<(Task, Child)>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// All workers, for changed files.
    All,
    /// One worker.
    One,
}

impl<L> std::fmt::Debug for Agent<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The rights that the app's files are looked at with: its user's, or what everybody may see, as a
/// user of the app's own sees it too.
fn rights(app: &App) -> io::Result<Rights> {
    let Some(name) = &app.user else { return Ok(Rights::of_nobody()) };
    match User::named(name)? {
        Some(user) => Rights::of(&user),
        None => Err(io::Error::other(format!("there is no user {name}"))),
    }
}

fn limits(app: &App) -> Limits {
    Limits { memory: app.max_memory, age: app.supervision.max_age }
}

// === impl Agent ===

impl<L: Fn() -> Option<App>> Agent<L> {
    /// For this app.
    pub(crate) fn new(app: App, program: PathBuf, load: L) -> Self {
        Self {
            name: app.name.clone(),
            load,
            program,
            replacements: Replacements::new(limits(&app)),
            app,
            files: None,
            trouble: None,
            debounce: Debounce::default(),
            task: None,
        }
    }

    /// Runs until there is something on `stop`, or the app needs nobody any more.
    ///
    /// # Errors
    /// When files cannot be watched and there is nothing else to do.
    pub(crate) async fn run(mut self, mut stop: mpsc::Receiver<()>) -> Result<(), WatchError> {
        self.open(true)?;
        notify::ready(&self.status());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.app.is_watched() {
            let idle = self.trouble.is_none() && limits(&self.app) == Limits::default();
            let due = self.debounce.due().filter(|_| self.task.is_none());
            tokio::select! {
                _ = stop.recv() => {
                    self.finish().await;
                    return Ok(());
                }
                code = ended(&mut self.task) => self.task_ended(code),
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    self.debounce.begins();
                    self.begin(Task::All, &["--surge", &self.surge()].map(OsStr::new));
                }
                (known, changed) = changed(&mut self.files) => {
                    self.changed(changed);
                    self.say_what_is_left_out(known);
                }
                _ = looks.tick(), if !idle => self.look(),
            }
        }
        Ok(())
    }

    /// How many extra workers keep up what an app serves meanwhile.
    fn surge(&self) -> String {
        self.app.surge.unwrap_or(u16::from(!self.app.is_background())).to_string()
    }

    /// Waits for what is under way, which is asked to end.
    async fn finish(mut self) {
        notify::stopping("finishing what has begun");
        if let Some((_, child)) = &self.task
            && let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
        {
            let _ = kill_process(pid, Signal::TERM); // it has just ended
        }
        if self.task.is_some() {
            let _ = ended(&mut self.task).await;
        }
    }

    /// Begins to watch files, if the app wants it.
    fn open(&mut self, first: bool) -> Result<(), WatchError> {
        let (files, trouble) = (self.files.take(), self.trouble.take());
        let supervision = &self.app.supervision;
        let (Some(directory), Some(watch)) = (&self.app.directory, &supervision.watch) else {
            return Ok(());
        };
        drop(files);
        let files = rights(&self.app)
            .map_err(|source| WatchError::Io { path: directory.clone(), source })
            .and_then(|rights| Files::new(directory, watch, &rights));
        match files {
            Ok(files) => {
                // What changed while nobody watched is not lost either.
                let started = (1..=self.app.workers).filter_map(|worker| self.started(worker));
                if started.min().is_some_and(|oldest| files.changed_since(oldest)) {
                    tracing::info!(
                        roundsman_app = self.name,
                        "files changed before the watch began"
                    );
                    self.debounce.changed(Instant::now());
                }
                self.files = Some(files);
                self.say_what_is_left_out(false);
            }
            Err(error) => {
                let nothing_else = limits(&self.app) == Limits::default();
                // A directory that is missing may be about to be put there.
                if first && nothing_else && !matches!(error, WatchError::Io { .. }) {
                    return Err(error);
                }
                self.fails(&error, trouble.is_none());
            }
        }
        Ok(())
    }

    fn fails(&mut self, error: &WatchError, tell: bool) {
        if tell {
            tracing::error!(roundsman_app = self.name, "files are not watched: {error}");
        }
        self.files = None;
        self.trouble = Some((error.to_string(), Instant::now() + AGAIN));
        notify::status(&self.status());
    }

    /// Once, unless it was known before.
    fn say_what_is_left_out(&self, known: bool) {
        if let Some(left_out) = self.left_out().filter(|_| !known) {
            tracing::warn!(roundsman_app = self.name, "{left_out}");
            notify::status(&self.status());
        }
    }

    fn left_out(&self) -> Option<&LeftOut> {
        self.files.as_ref()?.left_out()
    }

    fn changed(&mut self, changed: Result<Vec<PathBuf>, WatchError>) {
        match changed {
            Ok(paths) => {
                let Some(first) = paths.first() else { return };
                if self.debounce.due().is_none() {
                    let more = paths.iter().filter(|path| *path != first).count();
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    let first = escaped(first);
                    tracing::info!(roundsman_app = self.name, "{first}{more} changed");
                }
                self.debounce.changed(Instant::now());
            }
            Err(error) => self.fails(&error, true),
        }
    }

    /// Looks at the workers, and for a directory that was not there.
    fn look(&mut self) {
        let now = Instant::now();
        if self.trouble.as_ref().is_some_and(|(_, again)| *again <= now) {
            let _ = self.open(false); // an error is noted by it
            if self.files.is_some() {
                tracing::info!(roundsman_app = self.name, "files are watched again");
                self.debounce.changed(now);
                notify::status(&self.status());
            }
        }
        if self.task.is_some() || limits(&self.app) == Limits::default() {
            return;
        }
        let samples: Vec<Sample> =
            (1..=self.app.workers).filter_map(|worker| self.sample(worker)).collect();
        if let Some((worker, reason)) = self.replacements.next(now, &samples) {
            let instance = self.app.instance(worker);
            tracing::info!(
                roundsman_app = self.name,
                roundsman_worker = instance,
                message_id = WORKERS_REPLACED,
                "{instance} {reason}: it is replaced"
            );
            let number = worker.to_string();
            let surge = self.surge();
            let arguments = ["--surge", &surge, "--worker", &number].map(OsStr::new);
            self.begin(Task::One, &arguments);
        }
    }

    fn life(&self, worker: u16) -> Option<Life> {
        Life::read(&Path::new(paths::WORKERS).join(self.app.instance(worker)))
    }

    /// When a worker's app was started.
    fn started(&self, worker: u16) -> Option<SystemTime> {
        let ago = life::now().saturating_sub(self.life(worker)?.started?);
        SystemTime::now().checked_sub(Duration::from_millis(ago))
    }

    fn sample(&self, worker: u16) -> Option<Sample> {
        let life = self.life(worker)?;
        let age = life.age(life::now()).filter(|_| !life.stopping)?;
        let unit = unit::service(&self.name, worker);
        let memory = self.app.max_memory.and_then(|_| memory::of_unit(&unit, life.pid));
        Some(Sample { worker, memory, age })
    }

    fn begin(&mut self, task: Task, arguments: &[&OsStr]) {
        if task == Task::All {
            tracing::info!(
                roundsman_app = self.name,
                message_id = WORKERS_REPLACED,
                "files have changed: the workers are replaced"
            );
        }
        let started = Command::new(&self.program)
            .args(["reload", &self.name, "--by-watch"])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn();
        match started {
            Ok(child) => self.task = Some((task, child)),
            Err(error) => {
                tracing::error!(roundsman_app = self.name, "cannot run roundsman: {error}");
                self.note(task, false);
            }
        }
        notify::status(&self.status());
    }

    fn task_ended(&mut self, code: io::Result<Option<i32>>) {
        let Some((task, _)) = self.task.take() else { return };
        match code {
            Ok(Some(code)) if code == i32::from(exit::OK) => self.note(task, true),
            Ok(Some(code)) if code == i32::from(exit::BUSY) => match task {
                // What has changed is not in what the other command does, for all that is known.
                Task::All => self.debounce.refused(Instant::now(), AGAIN),
                Task::One => {} // the other command may have replaced it; else it is seen again
            },
            other => {
                let code = other.ok().flatten().map_or("a signal".to_owned(), |c| c.to_string());
                let then = match task {
                    Task::All => "the next change tries again",
                    Task::One => "it is tried again later",
                };
                tracing::error!(
                    roundsman_app = self.name,
                    message_id = REPLACE_FAILED,
                    "roundsman reload {} failed (exit status {code}), see above: {then}",
                    self.name
                );
                self.note(task, false);
            }
        }
        self.read_settings();
        notify::status(&self.status());
    }

    fn note(&mut self, task: Task, done: bool) {
        let now = Instant::now();
        match task {
            Task::One => self.replacements.ended(now, done),
            Task::All => {
                if let Some(pause) = self.debounce.ended(now) {
                    tracing::warn!(
                        roundsman_app = self.name,
                        "files change each time that the workers are replaced: if the app writes them \
                         itself, name them in .gitignore; the next time is in {} s",
                        pause.as_secs()
                    );
                }
            }
        }
    }

    /// The files may say something else by now.
    fn read_settings(&mut self) {
        let Some(app) = (self.load)() else { return };
        let before = std::mem::replace(&mut self.app, app);
        self.replacements.set_limits(limits(&self.app));
        let watched = |app: &App| (app.directory.clone(), app.supervision.watch.clone());
        if watched(&before) != watched(&self.app) {
            let _ = self.open(false); // an error is noted by it
        }
    }

    fn status(&self) -> String {
        let mut parts = Vec::new();
        match (&self.files, &self.trouble) {
            (Some(files), _) => {
                let count = files.directories();
                let noun = if count == 1 { "directory" } else { "directories" };
                parts.push(format!("watches {count} {noun}"));
                parts.extend(files.left_out().map(|left_out| format!("NOT ALL: {left_out}")));
            }
            (None, Some((trouble, _))) => parts.push(format!("FILES ARE NOT WATCHED: {trouble}")),
            (None, None) => {}
        }
        if let Some(bytes) = self.app.max_memory {
            parts.push(format!("replaces workers above {} MiB", bytes / (1024 * 1024)));
        }
        if let Some(age) = self.app.supervision.max_age {
            parts.push(format!("replaces workers after {} s", age.as_secs()));
        }
        if self.task.is_some() {
            parts.push(REPLACES.to_owned());
        }
        parts.join("; ")
    }
}

/// Waits for the task to end; for ever when there is none.
async fn ended(task: &mut Option<(Task, Child)>) -> io::Result<Option<i32>> {
    match task {
        Some((_, child)) => child.wait().await.map(|status| status.code()),
        None => std::future::pending().await,
    }
}

/// Waits for changes; for ever when nothing is watched. Also whether something was left out before.
async fn changed(files: &mut Option<Files>) -> (bool, Result<Vec<PathBuf>, WatchError>) {
    match files {
        Some(files) => (files.left_out().is_some(), files.changed().await),
        None => std::future::pending().await,
    }
}
