//! The shim: the main process of a worker unit.
//!
//! It starts the app's command, gives it what it listens on, tells systemd when it is ready and
//! that it lives, and asks it to end. It lives exactly as long as the app: an app that ends by
//! itself ends the unit, and systemd starts both again.
//!
//! What it needs from outside (the settings, the socket, the environment, the way to the service
//! manager, the wish to stop) is handed in as a [`Worker`]; `cli::worker` collects that from the
//! process.

mod channel;
mod cluster;
mod command;
pub mod environment;
mod identity;
mod notifier;
mod probe;
mod process;
mod ready;
pub mod stage;
mod stop;
mod watchdog;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{sleep, timeout};

use self::channel::Channel;
use self::environment::Environment;
use self::identity::{Identity, report};
use self::notifier::AppNotifications;
pub use self::notifier::Notifier;
use self::probe::{Seconds, Target};
use self::process::{Exit, Plan, Process};
use self::ready::Signs;
use self::stop::{Stop, Stopped};
use self::watchdog::{Question, Watchdog};
use crate::cli::exit;
use crate::config::settings::{Address, App, Listen, Ready};
use crate::systemd::activation::Socket;
use crate::systemd::message::{WORKER_EXITED, WORKER_NOT_READY, WORKER_READY};

/// How long the rest of what the app wrote on its channel is awaited after it has ended: a process
/// that it left behind may hold the channel open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long an app that was not ready in time may take to end.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Messages of the app that may wait for whoever follows them; a slow one loses the oldest.
const MESSAGES: usize = 256;

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
    /// The way to the service manager.
    pub notifier: Notifier,
    /// `WatchdogSec=`, if systemd watches.
    pub watchdog: Option<Duration>,
    /// A wish to stop, each time a signal says so.
    pub stop: mpsc::Receiver<()>,
    /// The program that runs the stage (see [`stage`]): this one.
    pub program: PathBuf,
    /// Where the app's messages go, as JSON texts.
    pub messages: broadcast::Sender<Arc<[u8]>>,
}

/// Why the worker cannot be started as it is.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("app {app:?}: {source}")]
    Command { app: String, source: command::Unsuitable },
    #[error(
        "systemd passed no socket named \"http\", which listen = \"{listen}\" needs: start the worker \
         by its unit, roundsman-worker@{instance}.service, or give --listen ADDRESS"
    )]
    NoListener { listen: &'static str, instance: String },
    #[error("app {app:?}: ready = \"message\" needs a Node command, and `{command}` is none")]
    NoChannel { app: String, command: String },
    #[error("{address} is in use by another process: it is worker {instance}'s own address")]
    AddressInUse { address: Address, instance: String },
    #[error("cannot {what}: {source}")]
    Io { what: String, source: std::io::Error },
}

/// A broadcast for [`Worker::messages`].
pub fn messages() -> broadcast::Sender<Arc<[u8]>> {
    broadcast::Sender::new(MESSAGES)
}

/// Runs one worker to its end; returns the exit code of the shim.
pub async fn run(worker: Worker) -> u8 {
    let identity = Identity::new(&worker.app.name, worker.number);
    match start(worker, &identity).await {
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
    target: Target,
}

/// How the time of a state ended.
enum End {
    Ready,
    Exited(std::io::Result<Exit>),
    Stop,
    NotInTime,
}

async fn start(mut worker: Worker, identity: &Identity) -> Result<Running, Error> {
    let app = &worker.app;
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Io { what, source }
    };
    let here = PathBuf::from(".");
    let directory = app.directory.as_ref().unwrap_or(&here);
    let needs_channel = app.listen == Listen::Cluster || app.ready == Ready::Message;
    let command = if needs_channel {
        command::resolve(&app.command, directory)
            .map_err(|source| Error::Command { app: app.name.clone(), source })?
    } else {
        app.command.clone()
    };
    let mut environment =
        environment::of_app(&worker.environment, app, worker.number, &worker.address);
    let listener = own_listener(&mut worker, identity)?;
    let app = &worker.app;
    if matches!(app.listen, Listen::Port | Listen::Unix) {
        free_address(&worker.address, identity).await?;
    }
    let notifications = match app.ready {
        Ready::Notify => {
            let directory =
                worker.environment.get(OsStr::new("RUNTIME_DIRECTORY")).map(PathBuf::from);
            let made =
                AppNotifications::listen(&identity.to_string(), directory, worker.notifier.clone());
            Some(made.map_err(io("make a notification socket for the app"))?)
        }
        _ => None,
    };
    if let Some(notifications) = &notifications {
        environment.insert("NOTIFY_SOCKET".into(), notifications.variable.clone());
    }
    let port_variable =
        environment.get(OsStr::new("PORT")).and_then(|port| port.to_str()).map(str::to_owned);
    let is_node = command.first().is_some_and(|program| command::is_node(program));
    if app.ready == Ready::Message && app.listen != Listen::Cluster && !is_node {
        return Err(Error::NoChannel { app: app.name.clone(), command: app.command.join(" ") });
    }
    let pair = (app.listen == Listen::Cluster || is_node).then(Channel::pair).transpose();
    let (channel, their_end) = pair.map_err(io("make a channel to the app"))?.unzip();
    let (for_channel, for_app) = match (app.listen, listener) {
        (Listen::Cluster, listener) => {
            environment.insert("NODE_UNIQUE_ID".into(), worker.number.to_string().into());
            (listener, None)
        }
        (_, Some(Socket::Tcp(tcp))) => (None, Some(OwnedFd::from(tcp))),
        (_, Some(Socket::Unix(unix))) => (None, Some(OwnedFd::from(unix))),
        (_, None) => (None, None),
    };
    let kept = for_app.as_ref().map(OwnedFd::try_clone).transpose();
    let kept = kept.map_err(io("duplicate the listener"))?;
    let plan = Plan {
        stage: &worker.program,
        command: &command,
        directory: app.directory.as_ref(),
        environment,
        listener: for_app,
        channel: their_end,
    };
    let process = plan.start().map_err(io("start the app's process"))?;
    report!(debug, identity, "started `{}` as process {}", command.join(" "), process.id());
    let channel = match channel {
        Some(channel) => {
            let options = cluster::Options {
                identity: identity.clone(),
                listener: for_channel,
                port_variable: port_variable.clone(),
                messages: worker.messages.clone(),
            };
            Some(cluster::serve(channel, options).map_err(io("serve the app's channel"))?)
        }
        None => None,
    };
    let target = match &channel {
        Some(channel) if channel.is_cluster() => Target::Cluster(channel.clone(), app.transport),
        _ => Target::Address(worker.address.clone()),
    };
    Ok(Running {
        app: worker.app,
        address: worker.address,
        port_variable,
        identity: identity.clone(),
        notifier: worker.notifier,
        watchdog: worker.watchdog,
        stop: worker.stop,
        process,
        channel,
        listener: kept,
        notifications,
        target,
    })
}

/// The listener as the app's way of listening wants it.
fn own_listener(worker: &mut Worker, identity: &Identity) -> Result<Option<Socket>, Error> {
    let listen = match worker.app.listen {
        Listen::Cluster => "cluster",
        Listen::Fd => "fd",
        Listen::Port | Listen::Unix => return Ok(None),
    };
    let socket = worker.listener.take();
    let socket =
        socket.ok_or_else(|| Error::NoListener { listen, instance: identity.to_string() })?;
    // The flag belongs to the socket, not to the descriptor: apps that inherit it do not expect it.
    let nonblocking = worker.app.listen == Listen::Cluster;
    let result = match &socket {
        Socket::Tcp(tcp) => tcp.set_nonblocking(nonblocking),
        Socket::Unix(unix) => unix.set_nonblocking(nonblocking),
    };
    let what = "prepare the listener".to_owned();
    result.map_err(|source| Error::Io { what, source })?;
    Ok(Some(socket))
}

/// Makes sure that who answers at the app's own address will be the app.
async fn free_address(address: &Address, identity: &Identity) -> Result<(), Error> {
    if probe::connect(address).await.is_ok() {
        let instance = identity.to_string();
        return Err(Error::AddressInUse { address: address.clone(), instance });
    }
    if let Address::Unix(path) = address {
        remove_stale(path);
    }
    Ok(())
}

/// A socket that nobody answers on is left from an app that was killed.
fn remove_stale(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path)
        .is_ok_and(|data| std::os::unix::fs::FileTypeExt::is_socket(&data.file_type()));
    if is_socket {
        let _ = std::fs::remove_file(path); // if it stays, the app's own error says so
    }
}

// === impl Error ===

impl Error {
    fn code(&self) -> u8 {
        match self {
            Self::Command { .. } | Self::NoListener { .. } | Self::NoChannel { .. } => exit::CONFIG,
            Self::AddressInUse { .. } | Self::Io { .. } => exit::OS,
        }
    }
}

// === impl Running ===

impl Running {
    async fn run(mut self) -> u8 {
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
        code
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
            () = watchdog => End::Stop,
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

    fn exited(&self, exit: std::io::Result<Exit>) -> u8 {
        match exit {
            Ok(exit) => {
                report!(error, self.identity; WORKER_EXITED,
                    "the app ended by itself after {:.1} s: {exit}", self.process.uptime());
                exit.code_when_unexpected()
            }
            Err(error) => {
                report!(error, self.identity; WORKER_EXITED, "cannot watch the app's process: {error}");
                exit::OS
            }
        }
    }

    async fn stop(&mut self) -> u8 {
        let status = "stopping: waiting for the app to end";
        self.notifier.send(&[NotifyState::Stopping, NotifyState::Status(status)]).await;
        if self.ask_to_end(self.app.stop_timeout, true).await { exit::OK } else { exit::FAILURE }
    }

    /// Returns whether it ended without being killed.
    async fn ask_to_end(&mut self, limit: Duration, asked: bool) -> bool {
        let stop = Stop {
            process: &mut self.process,
            channel: self.channel.as_ref(),
            limit,
            hurry: &mut self.stop,
            identity: &self.identity,
        };
        match stop.run().await {
            Ok(Stopped::Ended(exit)) if exit.is_orderly() => {
                report!(info, self.identity, "the app has ended: {exit}");
                true
            }
            // It did what it was asked to, in its own way: the unit has not failed.
            Ok(Stopped::Ended(exit)) => {
                report!(warn, self.identity, "the app was asked to end and ended with {exit}");
                true
            }
            Ok(Stopped::Killed) => !asked,
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

#[cfg(test)]
mod tests {
    //! What the tests of the parts share.

    use super::*;
    use crate::config::settings::{Balancing, Transport};

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
            stop_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            watchdog: Duration::from_secs(30),
            max_memory: None,
            slot: 0,
        }
    }
}
