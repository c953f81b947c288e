//! A started app, until it has ended: ready, watched, asked to end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::cluster;
use super::control::Hub;
use super::identity::{Identity, report};
use super::notifier::{AppNotifications, Notifier};
use super::owner::{Owner, Whose};
use super::probe::{ProbeTarget, Seconds};
use super::process::{Exit, Process};
use super::ready::{ALSO_LISTENS, Signs};
use super::rest;
use super::stop::{self, Stop, Stopped};
use super::watchdog::{Question, Watchdog};
use crate::base::exit;
use crate::config::settings::{Address, App, Listen, Shutdown};
use crate::supervise::life::{self, Life};
use crate::sys;
use crate::systemd::message::{WORKER_DONE, WORKER_EXITED, WORKER_NOT_READY, WORKER_READY};

/// How long the rest of what the app wrote on its channel is awaited after it has ended: a process
/// that it left behind may hold the channel open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long an app that was not ready in time may take to end.
const GIVE_UP: Duration = Duration::from_secs(5);

/// How often is looked whether the listener at the app's own address is still the app's.
const LOOK: Duration = Duration::from_millis(250);

/// A started app with all that belongs to it.
pub(super) struct Running {
    pub(super) app: App,
    pub(super) address: Address,
    pub(super) port_variable: Option<String>,
    pub(super) identity: Identity,
    pub(super) owner: Owner,
    pub(super) notifier: Notifier,
    pub(super) watchdog: Option<Duration>,
    pub(super) stop: mpsc::Receiver<()>,
    pub(super) process: Process,
    pub(super) channel: Option<cluster::Handle>,
    /// With `listen = "fd"`, to see whether the app accepts.
    pub(super) listener: Option<OwnedFd>,
    pub(super) notifications: Option<AppNotifications>,
    pub(super) target: ProbeTarget,
    pub(super) hub: Hub,
    /// Ends when all that was to be written about the worker is written.
    pub(super) writers: mpsc::Receiver<()>,
    pub(super) control: Option<JoinHandle<()>>,
    pub(super) ended: Option<(Exit, bool)>,
    /// The unit's runtime directory, where it is told how the worker is.
    pub(super) directory: Option<PathBuf>,
}

/// How the time of a state ended.
enum End {
    Ready,
    Exited(std::io::Result<Exit>),
    Stop,
    NotInTime,
    /// Somebody else listens where the app should.
    Taken,
}

// === impl Running ===

impl Running {
    /// Until it ends; returns the exit code of the shim.
    pub(super) async fn run(mut self) -> u8 {
        self.tell(false, false);
        self.notifier.status("starting: waiting for the app").await;
        let end = match self.start_up().await {
            End::Ready => self.serve().await,
            other => other,
        };
        let code = match end {
            End::Exited(exit) => self.exited(exit),
            End::Stop => self.stop().await,
            End::Taken => {
                // The front hears of it by this, and not only when the app has ended.
                self.tell(false, true);
                let status = "stopping: somebody else listens at the app's address";
                self.notifier.send(&[NotifyState::Stopping, NotifyState::Status(status)]).await;
                self.ask_to_end(GIVE_UP.min(self.app.stop_timeout), false).await;
                exit::FAILURE
            }
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
            owner: &self.owner,
            identity: &self.identity,
        };
        let end = tokio::select! {
            biased; // an app that has ended is not ready
            exit = self.process.wait() => End::Exited(exit),
            _ = self.stop.recv() => End::Stop,
            () = signs.ready(&awaited) => End::Ready,
            () = sleep(self.app.start_timeout) => End::NotInTime,
            never = signs.hint(&awaited, &self.notifier) => match never {},
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
        let seconds = (self.process.uptime() * 1000.0).round() / 1000.0;
        self.hub.life("ready", json!({ "seconds": seconds }));
        self.tell(true, false);
        report!(info, self.identity; WORKER_READY,
            "ready after {:.1} s: {status}", self.process.uptime());
        sys::forget_code(); // its start needed much more than what is to come
        let question = match (&self.app.health, &self.channel) {
            (Some(health), _) => Question::Health(self.target.clone(), health.clone()),
            (None, Some(channel)) if channel.is_cluster() => Question::EventLoop(channel.clone()),
            _ => Question::Process,
        };
        let watchdog = self.watchdog.map(|limit| Watchdog {
            question,
            limit,
            notifier: self.notifier.clone(),
            identity: self.identity.clone(),
            process: self.process.id(),
            status: status.clone(),
        });
        let watchdog = async {
            match watchdog {
                Some(watchdog) => watchdog.run().await,
                None => std::future::pending().await,
            }
        };
        let taken = is_taken(&self.owner, self.app.listen, &self.address, &self.identity);
        tokio::select! {
            exit = self.process.wait() => End::Exited(exit),
            _ = self.stop.recv() => End::Stop,
            never = watchdog => match never {},
            () = taken => End::Taken,
            never = follow(self.channel.as_ref(), self.port_variable.as_deref(), &self.notifier, &self.identity, &status) => match never {},
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
            None if self.app.is_background() => format!("process {} runs", self.process.id()),
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
        let until = Instant::now() + limit;
        let shutdown = match self.app.shutdown {
            // A connection that was handed over is in nobody's hands while it is on its way.
            Shutdown::Auto if self.app.handoff.is_some() => Shutdown::Disconnect,
            shutdown => shutdown,
        };
        let stop = Stop {
            process: &mut self.process,
            channel: self.channel.as_ref(),
            shutdown,
            limit,
            hurry: &mut self.stop,
            identity: &self.identity,
        };
        let stopped = stop.run().await;
        if let Ok(Stopped::Ended(exit) | Stopped::Killed(exit)) = &stopped {
            self.ended = Some((*exit, asked));
        }
        if let Ok(Stopped::Ended(_)) = &stopped {
            let (signal, _) = stop::signal(self.app.shutdown);
            rest::end(&self.owner, signal, until, &mut self.stop, &self.identity).await;
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

/// Returns when somebody else listens at the app's own address: nothing that comes there is the app's
/// any more. It ends the worker, so that the front sends nothing, and systemd starts it again.
async fn is_taken(owner: &Owner, listen: Listen, address: &Address, identity: &Identity) {
    let (Listen::Port, Address::Tcp(address)) = (listen, address) else {
        return std::future::pending().await;
    };
    loop {
        sleep(LOOK).await;
        if let Whose::Others(other) = owner.whose(*address) {
            report!(error, identity; WORKER_NOT_READY,
                "{other}: the app does not listen there any more, so this worker ends");
            return;
        }
    }
}

/// Tells when the app stops listening, and listens again; and where else it does, while nothing says which
/// of them is its server.
async fn follow(
    channel: Option<&cluster::Handle>,
    port: Option<&str>,
    notifier: &Notifier,
    identity: &Identity,
    status: &str,
) -> Infallible {
    let Some(channel) = channel.filter(|channel| channel.is_cluster()) else {
        return std::future::pending().await;
    };
    let mut view = channel.view();
    let mut before = (true, Vec::new());
    let state = |view: &cluster::View| {
        let others = if port.is_none() { view.others.clone() } else { Vec::new() };
        (view.front.is_some(), others)
    };
    loop {
        let Ok(now) = view.wait_for(|view| state(view) != before).await.map(|view| state(&view))
        else {
            break;
        };
        let text = match &now {
            (false, _) => "the app does not listen: connections wait".to_owned(),
            (true, others) if others.is_empty() => status.to_owned(),
            (true, others) => format!("{status}{ALSO_LISTENS}{}", others.join(", ")),
        };
        match (before.0, now.0) {
            (true, false) => report!(
                info,
                identity,
                "the app has closed its server: connections wait until it listens again"
            ),
            (false, true) => report!(info, identity, "the app listens again"),
            _ => {}
        }
        notifier.status(&text).await;
        before = now;
    }
    std::future::pending().await
}
