//! Doing what a [`Roll`] says: over D-Bus and the front's admin socket.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

use super::front::Front;
use super::progress::Progress;
use super::{Action, Event, Outcome, Plan, Roll, drift, release, sockets, surge};
use crate::admin::client::AdminError;
use crate::base::interrupts::Interrupts;
use crate::base::paths;
use crate::base::unit;
use crate::config::settings::{self, App};
use crate::supervise::crashes;
use crate::systemd::dbus::{Systemd, SystemdError, UnitState, Verb};

/// How often it is checked that workers which count as ready are still the same processes.
const LOOK: Duration = Duration::from_millis(200);

/// Why a worker was not started anew: nothing is wrong with it.
pub(crate) const STOPPED: &str = "the app is being stopped";

/// Everything that a deploy acts on.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    /// The service manager.
    pub systemd: Rc<Systemd>,
    /// The front.
    pub front: Front,
    /// Where the file system is: `/`, but for tests.
    pub root: PathBuf,
    /// Where progress is kept.
    pub directory: PathBuf,
    /// The app as its files say now.
    pub app: App,
}

/// Why a deploy could not even begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    /// systemd.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The front.
    #[error(transparent)]
    Front(#[from] AdminError),
    /// A file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Somebody insisted.
    #[error(
        "left at once, in the middle of a step; roundsman reload {0} --resume goes on from there"
    )]
    Left(String),
}

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It begins to do this.
    Begins(Action),
    /// This has happened.
    Happened(Event),
    /// It was told to end, and finishes what it has begun.
    Finishing,
}

/// A worker that counts as ready, by its run.
type Ready = BTreeMap<u16, Vec<u8>>;

// === impl Executor ===

impl Executor {
    /// Rolls until the end, telling `show` what happens.
    ///
    /// # Errors
    /// When it cannot begin, or is left in the middle.
    pub(crate) async fn run(
        &self,
        plan: Plan,
        mut progress: Progress,
        mut show: impl FnMut(&Step),
    ) -> Result<(Outcome, Roll), DeployError> {
        let mut interrupts = Interrupts::new()?;
        progress.surge.clone_from(&plan.surge);
        tokio::select! {
            prepared = self.prepare(&plan) => prepared?,
            () = interrupts.recv() => {
                // No worker was touched, and the extra ones of the plan are for who resumes it.
                progress.save(&self.directory, &self.app.name)?;
                return Err(DeployError::Left(self.app.name.clone()));
            }
        }
        progress.save(&self.directory, &self.app.name)?;
        let mut roll = Roll::new(plan);
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut looks = interval(LOOK);
        let mut ready = Ready::new();
        let mut interrupted = false;
        let mut moved = false;
        let outcome = loop {
            if !moved && self.moved_to(progress.release.as_deref()).is_some() {
                // What would start now is another release: one deploy makes one of them run.
                moved = true;
                roll.handle(Event::Interrupted, Instant::now());
            }
            for action in roll.poll(Instant::now()) {
                show(&Step::Begins(action));
                if let Action::Stop(worker) = action {
                    ready.remove(&worker);
                }
                let (executor, sender) = (self.clone(), sender.clone());
                tokio::task::spawn_local(async move {
                    // The roll may have been left meanwhile.
                    let _ = sender.send(executor.act(action).await);
                });
            }
            if let Some(outcome) = roll.outcome() {
                break outcome;
            }
            let next = roll.next_poll();
            let event = tokio::select! {
                Some((event, run)) = events.recv() => {
                    if let (Event::Ready(worker), Some(run)) = (&event, run) {
                        ready.insert(*worker, run);
                    }
                    event
                }
                () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => continue,
                gone = async { looks.tick().await; self.gone(&ready).await } => match gone {
                    Some((worker, reason)) => {
                        ready.remove(&worker);
                        Event::Failed(worker, reason)
                    }
                    None => continue,
                },
                () = interrupts.recv() => {
                    if std::mem::replace(&mut interrupted, true) {
                        return Err(DeployError::Left(self.app.name.clone()));
                    }
                    show(&Step::Finishing);
                    Event::Interrupted
                }
            };
            show(&Step::Happened(event.clone()));
            roll.handle(event, Instant::now());
            progress.done = roll.done();
            // What cannot be kept only makes a resumed deploy do more.
            let _ = progress.save(&self.directory, &self.app.name);
        };
        {
            let mut finish = pin!(self.finish(&outcome, &roll, progress));
            loop {
                tokio::select! {
                    finished = &mut finish => break finished?,
                    () = interrupts.recv() => {
                        if std::mem::replace(&mut interrupted, true) {
                            return Err(DeployError::Left(self.app.name.clone()));
                        }
                        show(&Step::Finishing);
                    }
                }
            }
        }
        Ok((outcome, roll))
    }

    /// Where the app's link leads by now, if no longer to the release that is being deployed.
    pub(crate) fn moved_to(&self, deployed: Option<&Path>) -> Option<PathBuf> {
        let deployed = deployed?;
        release::current(&self.app).filter(|now| now != deployed)
    }

    /// Units and front as the files say, extra workers included.
    async fn prepare(&self, plan: &Plan) -> Result<(), DeployError> {
        let name = &self.app.name;
        let raised = match plan.surge.last() {
            Some(last) => surge::raise(&self.root, name, *last)?,
            None => false,
        };
        let mut stale = raised || !drift::is_generated(&self.root, &self.app);
        for worker in &plan.workers {
            if stale {
                break;
            }
            let unit = self.systemd.unit(&unit::service(name, *worker)).await?;
            stale = unit.flag("NeedDaemonReload");
        }
        if stale {
            self.systemd.daemon_reload().await?;
        }
        self.front.reload_for(name, !self.app.is_background()).await?;
        Ok(())
    }

    async fn finish(
        &self,
        outcome: &Outcome,
        roll: &Roll,
        progress: Progress,
    ) -> Result<(), DeployError> {
        let name = &self.app.name;
        if roll.surging().is_empty() && surge::lower(&self.root, name)? {
            self.systemd.daemon_reload().await?;
            self.front.reload_for(name, !self.app.is_background()).await?;
        }
        match outcome {
            Outcome::Done => Progress::clear(&self.directory, name),
            Outcome::Failed { .. } | Outcome::Interrupted => {
                let progress = Progress { done: roll.done(), surge: roll.surging(), ..progress };
                progress.save(&self.directory, name)?;
            }
        }
        Ok(())
    }

    /// Does one thing; what has become of it, and for a worker that is ready, which run it is.
    async fn act(&self, action: Action) -> (Event, Option<Vec<u8>>) {
        let event = match action {
            Action::Drain(worker) => {
                // Without a front that answers nothing is routed, and the unit drains by itself.
                let _ = self.hold(worker).await;
                Event::Drained(worker)
            }
            Action::Start(worker) => {
                let _ = self.hold(worker).await;
                return self.restart(worker).await;
            }
            Action::Restart(worker) => return self.restart(worker).await,
            Action::Undrain(worker) => {
                // A front that is gone has forgotten who was drained.
                let _ = self.front.undrain(&self.app.instance(worker)).await;
                Event::Undrained(worker)
            }
            Action::Stop(worker) => {
                // Whatever the job says, the worker is no part of the roll any more.
                let _ = self.systemd.jobs(Verb::Stop, &self.app.units_of(worker)).await;
                if worker > self.app.workers {
                    // Else systemd would show an extra worker as failed for ever.
                    let unit = unit::service(&self.app.name, worker);
                    let _ = self.systemd.reset_failed(&unit).await;
                }
                let _ = self.front.undrain(&self.app.instance(worker)).await;
                Event::Stopped(worker)
            }
        };
        (event, None)
    }

    async fn hold(&self, worker: u16) -> Result<(), AdminError> {
        if self.app.is_background() {
            return Ok(()); // nobody sends it anything
        }
        self.front.drain(&self.app.instance(worker), self.app.drain_timeout).await
    }

    async fn restart(&self, worker: u16) -> (Event, Option<Vec<u8>>) {
        // A start would wait until the app has been stopped, which may wait for this deploy.
        if self.systemd.has_job(&unit::target(&self.app.name)).await.unwrap_or(false) {
            return (Event::Failed(worker, STOPPED.to_owned()), None);
        }
        let unit = unit::service(&self.app.name, worker);
        // However often it failed before, it has its full number of attempts from here on.
        let _ = self.systemd.reset_failed(&unit).await;
        crashes::forget(&self.app.instance(worker));
        let result = match sockets::mend(&self.systemd, &self.app, worker).await {
            Ok(()) => self.systemd.job(Verb::Restart, &unit).await,
            Err(error) => Err(error),
        };
        let after = self.systemd.unit(&unit).await;
        match (result, after) {
            (Ok(()), Ok(unit)) if unit.state() == UnitState::Active => {
                (Event::Ready(worker), Some(unit.invocation()))
            }
            (Ok(()), Ok(unit)) => {
                let reason = unit.trouble().unwrap_or_else(|| "it ended at once".to_owned());
                (Event::Failed(worker, reason), None)
            }
            (Err(SystemdError::Job { .. }), Ok(unit)) if unit.trouble().is_some() => {
                (Event::Failed(worker, unit.trouble().unwrap_or_default()), None)
            }
            (Err(error), _) | (Ok(()), Err(error)) => {
                (Event::Failed(worker, error.to_string()), None)
            }
        }
    }

    /// The first worker that counted as ready and is not what it was, and why; if there is one.
    async fn gone(&self, ready: &Ready) -> Option<(u16, String)> {
        for (worker, run) in ready {
            // A bus that does not answer says nothing about the worker.
            let Ok(unit) = self.systemd.unit(&unit::service(&self.app.name, *worker)).await else {
                continue;
            };
            if unit.state() != UnitState::Active || unit.invocation() != *run {
                let why = unit.trouble().unwrap_or_else(|| "it ended".to_owned());
                return Some((*worker, format!("it was ready, but then {why}")));
            }
        }
        None
    }
}

/// How long a worker must stay ready before it is believed: as long as two health checks take, and
/// without a health check as long as most crashes at the first requests do not. One that had to stay up
/// to be ready has shown it.
pub(crate) fn settle(app: &App) -> Duration {
    if app.ready == settings::Ready::Running {
        return Duration::ZERO;
    }
    app.health.as_ref().map_or(Duration::from_secs(2), |health| health.interval * 2)
}

/// The file system and the directory that a real deploy works on.
pub(crate) fn system() -> (PathBuf, PathBuf) {
    (PathBuf::from("/"), Path::new(paths::DEPLOYS).to_owned())
}
