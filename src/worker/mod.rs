//! The shim: the main process of a worker unit.
//!
//! It starts the app's command, gives it what it listens on, tells systemd when it is ready and
//! that it lives, and asks it to end. It lives exactly as long as the app: an app that ends by
//! itself ends the unit, and systemd starts both again.
//!
//! What it needs from outside (the settings, the socket, the environment, the way to the service
//! manager, the wish to stop) is handed in as a [`Worker`]; `cli::worker` collects that from the
//! process.

pub(crate) mod backoff;
mod channel;
mod cluster;
mod command;
pub mod control;
pub mod environment;
pub(crate) mod environment_file;
mod identity;
mod notifier;
mod probe;
mod process;
mod ready;
pub(crate) mod refusal;
pub(crate) mod stage;
mod start;
mod stop;
mod watchdog;

use std::cell::RefCell;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::control::Hub;
use self::environment::Environment;
use self::identity::{Identity, report};
use self::notifier::AppNotifications;
pub use self::notifier::Notifier;
use self::probe::{ProbeTarget, Seconds};
use self::process::{Exit, Process};
use self::ready::Signs;
use self::stop::{Stop, Stopped};
use self::watchdog::{Question, Watchdog};
use crate::base::exit;
use crate::config::settings::{Address, App};
use crate::supervise::life::{self, Life};
use crate::systemd::activation::Socket;
use crate::systemd::message::{WORKER_DONE, WORKER_EXITED, WORKER_NOT_READY, WORKER_READY};

/// How long the rest of what the app wrote on its channel is awaited after it has ended: a process
/// that it left behind may hold the channel open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long an app that was not ready in time may take to end.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Everything that a shim is told.
#[derive(Debug)]
pub struct Worker {
    /// The app.
    pub app: App,
    /// Which worker of it, from 1.
    pub number: u16,
    /// Where the front reaches it.
    pub address: Address,
    /// The listener that systemd holds; apps that bind for themselves need none.
    pub listener: Option<Socket>,
    /// The shim's own environment.
    pub environment: Environment,
    /// The variables of the app's files.
    pub variables: Environment,
    /// The way to the service manager.
    pub notifier: Notifier,
    /// `WatchdogSec=`, if systemd watches.
    pub watchdog: Option<Duration>,
    /// A wish to stop, each time a signal says so.
    pub stop: mpsc::Receiver<()>,
    /// The program that runs the stage (see [`stage`]): this one.
    pub program: PathBuf,
    /// Below which the workers' control sockets are; without it there is none, and no messages.
    pub control: Option<PathBuf>,
}

/// Runs one worker to its end; returns the exit code of the shim.
pub async fn run(worker: Worker) -> u8 {
    let identity = Identity::new(&worker.app.name, worker.number);
    match start::start(worker, &identity).await {
        Ok(running) => running.run().await,
        Err(error) => {
            report!(error, identity, "{error}");
            error.code()
        }
    }
}

/// A started app with all that belongs to it.
struct Running {
    app: App,
    address: Address,
    port_variable: Option<String>,
    identity: Identity,
    notifier: Notifier,
    watchdog: Option<Duration>,
    stop: mpsc::Receiver<()>,
    process: Process,
    channel: Option<cluster::Handle>,
    /// With `listen = "fd"`, to see whether the app accepts.
    listener: Option<OwnedFd>,
    notifications: Option<AppNotifications>,
    target: ProbeTarget,
    hub: Hub,
    /// Ends when all that was to be written about the worker is written.
    writers: mpsc::Receiver<()>,
    control: Option<JoinHandle<()>>,
    ended: Option<(Exit, bool)>,
    /// The unit's runtime directory, where it is told how the worker is.
    directory: Option<PathBuf>,
}

/// How the time of a state ended.
enum End {
    Ready,
    Exited(std::io::Result<Exit>),
    Stop,
    NotInTime,
}

// === impl Running ===

impl Running {
    async fn run(mut self) -> u8 {
        self.tell(false, false);
        self.notifier.status("starting: waiting for the app").await;
        let end = match self.start_up().await {
            End::Ready => self.serve().await,
            other => other,
        };
        let code = match end {
            End::Exited(exit) => self.exited(exit),
            End::Stop => self.stop().await,
            End::Ready | End::NotInTime => {
                let (limit, asked) = (GIVE_UP.min(self.app.stop_timeout), false);
                self.ask_to_end(limit, asked).await;
                exit::FAILURE
            }
        };
        self.last_words().await;
        self.farewell().await;
        code
    }

    /// Tells whoever follows the worker how it ended.
    async fn farewell(self) {
        if let Some((exit, asked)) = self.ended {
            let mut details = exit.details();
            details["asked"] = asked.into();
            self.hub.life("exit", details);
        }
        if let Some(control) = self.control {
            control.abort();
            let _ = control.await; // takes the socket away: who comes back finds the next shim's
        }
        self.hub.finish(self.writers).await;
    }

    /// From the start of the process until the app is ready.
    async fn start_up(&mut self) -> End {
        let awaited = RefCell::new(String::new());
        let signs = Signs {
            app: &self.app,
            address: &self.address,
            port_variable: self.port_variable.as_deref(),
            channel: self.channel.as_ref(),
            listener: self.listener.as_ref(),
            notifications: self.notifications.as_ref(),
            target: &self.target,
        };
        let end = tokio::select! {
            biased; // an app that has ended is not ready
            exit = self.process.wait() => End::Exited(exit),
            _ = self.stop.recv() => End::Stop,
            () = signs.ready(&awaited) => End::Ready,
            () = sleep(self.app.start_timeout) => End::NotInTime,
        };
        if matches!(end, End::NotInTime) {
            report!(error, self.identity; WORKER_NOT_READY,
                "the app was not ready within start-timeout = {}; awaited was {}",
                Seconds(self.app.start_timeout), awaited.borrow());
        }
        end
    }

    /// From `READY=1` until the app ends or shall end.
    async fn serve(&mut self) -> End {
        if let Some(channel) = &self.channel {
            channel.accept();
        }
        let status = self.status();
        self.notifier.send(&[NotifyState::Ready, NotifyState::Status(&status)]).await;
        self.hub.life("ready", json!({ "seconds": self.process.uptime() }));
        self.tell(true, false);
        report!(info, self.identity; WORKER_READY,
            "ready after {:.1} s: {status}", self.process.uptime());
        let question = match (&self.app.health, &self.channel) {
            (Some(health), _) => Question::Health(self.target.clone(), health.clone()),
            (None, Some(channel)) if channel.is_cluster() => Question::EventLoop(channel.clone()),
            _ => Question::Process,
        };
        let (notifier, identity) = (self.notifier.clone(), self.identity.clone());
        let watchdog = async {
            match self.watchdog {
                Some(limit) => Watchdog { question, limit, notifier, identity }.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exit = self.process.wait() => End::Exited(exit),
            _ = self.stop.recv() => End::Stop,
            never = watchdog => match never {},
            never = follow(self.channel.as_ref(), &self.notifier, &self.identity, &status) => match never {},
        }
    }

    fn status(&self) -> String {
        let view = self.channel.as_ref().map(|channel| channel.view().borrow().clone());
        let believed = view.and_then(|view| view.front);
        match believed {
            Some(believed) => {
                format!(
                    "process {} serves {} (the app's {believed})",
                    self.process.id(),
                    self.address
                )
            }
            None => format!("process {} serves {}", self.process.id(), self.address),
        }
    }

    fn exited(&mut self, exit: std::io::Result<Exit>) -> u8 {
        match exit {
            Ok(exit) if self.is_done(exit) => {
                self.ended = Some((exit, false));
                report!(info, self.identity; WORKER_DONE,
                    "the app ended with {exit}, one of its stop-exit-codes: it is not started again");
                exit::WORKER_DONE
            }
            Ok(exit) => {
                self.ended = Some((exit, false));
                report!(error, self.identity; WORKER_EXITED,
                    "the app ended by itself after {:.1} s: {exit}", self.process.uptime());
                Self::code_of(exit)
            }
            Err(error) => {
                report!(error, self.identity; WORKER_EXITED, "cannot watch the app's process: {error}");
                exit::OS
            }
        }
    }

    /// Whether the app says that it has nothing more to do.
    fn is_done(&self, exit: Exit) -> bool {
        exit.code().is_some_and(|code| self.app.supervision.stop_exit_codes.contains(&code))
    }

    /// The shim's own exit code; what it means by its own codes must not be the app's word.
    fn code_of(exit: Exit) -> u8 {
        match exit.code_when_unexpected() {
            exit::WORKER_DONE | exit::WORKER_GIVEN_UP | exit::WORKER_REFUSED => exit::FAILURE,
            code => code,
        }
    }

    /// Notes for others whether the app is ready now, or is to end.
    fn tell(&self, ready: bool, stopping: bool) {
        let Some(directory) = &self.directory else { return };
        let now = life::now();
        let age = Duration::from_secs_f64(self.process.uptime()).as_millis();
        let started = now.saturating_sub(u64::try_from(age).unwrap_or_default());
        let pid = std::process::id();
        let life = Life { pid, started: Some(started), ready: ready.then_some(now), stopping };
        if let Err(error) = life.write(directory) {
            report!(warn, self.identity, "cannot write to {}: {error}", directory.display());
        }
    }

    async fn stop(&mut self) -> u8 {
        self.tell(false, true);
        let status = "stopping: waiting for the app to end";
        self.hub.life("stopping", json!({}));
        self.notifier.send(&[NotifyState::Stopping, NotifyState::Status(status)]).await;
        if self.ask_to_end(self.app.stop_timeout, true).await { exit::OK } else { exit::FAILURE }
    }

    /// Returns whether it ended without being killed.
    async fn ask_to_end(&mut self, limit: Duration, asked: bool) -> bool {
        let stop = Stop {
            process: &mut self.process,
            channel: self.channel.as_ref(),
            shutdown: self.app.shutdown,
            limit,
            hurry: &mut self.stop,
            identity: &self.identity,
        };
        let stopped = stop.run().await;
        if let Ok(Stopped::Ended(exit) | Stopped::Killed(exit)) = &stopped {
            self.ended = Some((*exit, asked));
        }
        match stopped {
            Ok(Stopped::Ended(exit)) if exit.is_orderly() => {
                report!(info, self.identity, "the app has ended: {exit}");
                true
            }
            // It did what it was asked to, in its own way: the unit has not failed.
            Ok(Stopped::Ended(exit)) => {
                report!(warn, self.identity, "the app was asked to end and ended with {exit}");
                true
            }
            Ok(Stopped::Killed(_)) => !asked,
            Err(error) => {
                report!(error, self.identity, "cannot watch the app's process: {error}");
                false
            }
        }
    }

    /// What the app wrote on its channel before it ended is still to be read.
    async fn last_words(&self) {
        if let Some(channel) = &self.channel {
            let mut view = channel.view();
            let _ = timeout(LAST_WORDS, view.wait_for(|view| view.gone)).await;
        }
    }
}

/// Tells when the app stops listening, and listens again.
async fn follow(
    channel: Option<&cluster::Handle>,
    notifier: &Notifier,
    identity: &Identity,
    status: &str,
) -> Infallible {
    let Some(channel) = channel.filter(|channel| channel.is_cluster()) else {
        return std::future::pending().await;
    };
    let mut view = channel.view();
    let mut listening = true;
    while view.wait_for(|view| view.front.is_some() != listening).await.is_ok() {
        listening = !listening;
        if listening {
            report!(info, identity, "the app listens again");
            notifier.status(status).await;
        } else {
            report!(
                info,
                identity,
                "the app has closed its server: connections wait until it listens again"
            );
            notifier.status("the app does not listen: connections wait").await;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    //! What the tests of the parts share.

    use super::*;
    use crate::config::settings::{
        Balancing, Listen, Ready, Sandbox, Shutdown, Supervision, Transport,
    };

    /// An app named `test` with the defaults of the rest.
    pub(super) fn app(listen: Listen, command: &[&str]) -> App {
        App {
            name: "test".to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            directory: None,
            user: None,
            group: None,
            workers: 4,
            environment: std::collections::BTreeMap::new(),
            environment_files: Vec::new(),
            listen,
            port: None,
            transport: Transport::Tcp,
            ready: Ready::Listening,
            health: None,
            balancing: Balancing::default(),
            start_timeout: Duration::from_mins(1),
            shutdown: Shutdown::Auto,
            stop_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            watchdog: Duration::from_secs(30),
            rollback: false,
            sandbox: Sandbox::Default,
            max_memory: None,
            supervision: Supervision::default(),
            handoff: None,
            session: None,
            slot: 0,
        }
    }
}
