//! From what the shim was told to a started app.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::channel::Channel;
use super::control::{Control, ControlContext, Hub, Siblings};
use super::environment::{self, Environment};
use super::identity::{Identity, report};
use super::notifier::{AppNotifications, Notifier};
use super::owner::{Owner, Whose};
use super::probe::{self, ProbeTarget};
use super::process::Plan;
use super::running::Running;
use super::shared::Shared;
use super::{cluster, command, inspector, python};
use crate::base::exit;
use crate::config::settings::{Address, App, Listen, Ready, Sandbox, Shutdown};
use crate::systemd::activation::Socket;

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
    /// The program that runs the stage (see `stage`): this one.
    pub program: PathBuf,
    /// Below which the workers' control sockets are; without it there is none, and no messages.
    pub control: Option<PathBuf>,
}

/// Why the worker cannot be started as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerStartError {
    #[error("app {app:?}: {source}")]
    Command { app: String, source: command::Unsuitable },
    #[error(
        "systemd passed no socket named \"http\", which listen = \"{listen}\" needs: start the worker \
         by its unit, roundsman-worker@{instance}.service, or give --listen ADDRESS"
    )]
    NoListener { listen: &'static str, instance: String },
    #[error(
        "mode = \"handoff\" needs a control socket: start the worker by its unit, \
         roundsman-worker@{instance}.service, or give --runtime DIR"
    )]
    NoControl { instance: String },
    #[error("app {app:?}: ready = \"message\" needs a Node command, and `{command}` is none")]
    NoChannel { app: String, command: String },
    #[error("{address} is in use by another process: it is worker {instance}'s own address{who}")]
    AddressInUse { address: Address, instance: String, who: String },
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

/// What the app listens with.
#[derive(Debug, Default)]
struct Listeners {
    /// For a cluster worker: its connections are accepted here.
    ours: Option<Socket>,
    /// For the app to inherit, and a copy to look at.
    apps: Option<(OwnedFd, OwnedFd)>,
}

/// Starts the app.
pub(super) async fn start(
    mut worker: Worker,
    identity: &Identity,
) -> Result<Running, WorkerStartError> {
    let mut command = command_of(&worker.app, identity)?;
    let owner = Owner::of(identity.to_string().parse().ok().as_ref());
    let is_node = command.first().is_some_and(|program| command::is_node(program));
    let app = &worker.app;
    check_channel(app, is_node)?;
    let mut environment = environment::of_app(
        &worker.environment,
        &worker.variables,
        app,
        worker.number,
        &worker.address,
    );
    python::tell(app, &worker.address, &mut environment);
    inspector::apart(&mut command, &mut environment, worker.number);
    let listeners = listeners(&mut worker, identity)?;
    let notifications = match worker.app.ready {
        Ready::Notify => Some(notifications(&worker, identity, &mut environment)?),
        Ready::Listening | Ready::Message | Ready::Running => None,
    };
    let (channel, their_end) = channel(worker.app.listen == Listen::Cluster || is_node)?;
    if worker.app.listen == Listen::Cluster {
        environment.insert("NODE_UNIQUE_ID".into(), worker.number.to_string().into());
    }
    if matches!(worker.app.listen, Listen::Port | Listen::Unix) {
        free_address(&worker.address, &owner, identity).await?;
    }
    let hub = Hub::new(&identity.to_string());
    let writers = hub.watch_writers();
    let (name, number) = (worker.app.name.clone(), worker.number);
    let control = worker.control.as_ref().map(|base| Control::bind(base, &name, number));
    let control = control.transpose().map_err(io("make the worker's control socket"))?;
    let port_variable =
        environment.get(OsStr::new("PORT")).and_then(|port| port.to_str()).map(str::to_owned);
    // A list, when the unit was given more of them; then it is not known which.
    let directory = worker.environment.get(OsStr::new("RUNTIME_DIRECTORY"));
    let directory = directory.map(PathBuf::from).filter(|path| path.is_dir());
    let (inherited, kept) = listeners.apps.unzip();
    let plan = Plan {
        stage: &worker.program,
        command: &command,
        directory: worker.app.directory.as_ref(),
        environment,
        listener: inherited,
        channel: their_end,
        confined: is_confined(&worker.app),
        alone: is_alone(&worker.app, identity),
    };
    let process = plan.start().map_err(io("start the app's process"))?;
    owner.started(process.id());
    hub.life("started", json!({ "pid": process.id() }));
    report!(debug, identity, "started `{}` as process {}", command.join(" "), process.id());
    let shared = Shared::new(worker.control.clone(), &name, number);
    let options = cluster::Options {
        identity: identity.clone(),
        is_cluster: worker.app.listen == Listen::Cluster,
        listener: listeners.ours,
        port_variable: port_variable.clone(),
        hub: hub.clone(),
        siblings: worker.control.map(|base| Siblings::new(base, &name, number, hub.clone())),
        shared: shared.clone(),
    };
    let serve = |channel| cluster::serve(channel, options);
    let channel = channel.map(serve).transpose().map_err(io("serve the app's channel"))?;
    let control = control.map(|control| {
        control.serve(ControlContext {
            identity: identity.clone(),
            number,
            hub: hub.clone(),
            channel: channel.clone(),
            shared,
            pid: process.id(),
        })
    });
    let target = match &channel {
        Some(channel) if channel.is_cluster() => {
            ProbeTarget::Cluster(channel.clone(), worker.app.transport)
        }
        _ => ProbeTarget::Address(worker.address.clone()),
    };
    Ok(Running {
        app: worker.app,
        address: worker.address,
        port_variable,
        identity: identity.clone(),
        owner,
        notifier: worker.notifier,
        watchdog: worker.watchdog,
        stop: worker.stop,
        process,
        channel,
        listener: kept,
        notifications,
        target,
        hub,
        writers,
        control,
        ended: None,
        directory,
    })
}

/// Whether what a unit cannot say is kept from the app. At a terminal nothing is: there it may gain rights.
fn is_confined(app: &App) -> bool {
    app.sandbox != Sandbox::Off && rustix::thread::no_new_privs().unwrap_or(false)
}

/// Whether the app reaches no processes but its own. Where it cannot be kept from those of its user, it
/// runs all the same.
fn is_alone(app: &App, identity: &Identity) -> bool {
    if app.sandbox == Sandbox::Off {
        return false;
    }
    crate::sys::can_be_alone()
        .inspect_err(|error| {
            report!(
                debug,
                identity,
                "the app is not kept from its user's other processes: {error}"
            );
        })
        .is_ok()
}

/// Whether the app can say that it is ready in the way that its file says.
fn check_channel(app: &App, is_node: bool) -> Result<(), WorkerStartError> {
    if app.ready == Ready::Message && app.listen != Listen::Cluster && !is_node {
        return Err(WorkerStartError::NoChannel {
            app: app.name.clone(),
            command: app.command.join(" "),
        });
    }
    Ok(())
}

/// Our end of Node's channel and the app's, for an app that may speak on it.
fn channel(speaks: bool) -> Result<(Option<Channel>, Option<OwnedFd>), WorkerStartError> {
    let pair = speaks.then(Channel::pair).transpose().map_err(io("make a channel to the app"))?;
    Ok(pair.unzip())
}

/// The command to run: the real one, where a package manager would come between.
fn command_of(app: &App, identity: &Identity) -> Result<Vec<String>, WorkerStartError> {
    let here = PathBuf::from(".");
    let resolved = command::resolve(&app.command, app.directory.as_ref().unwrap_or(&here));
    match resolved {
        Ok(command) => Ok(command),
        // Who only binds a port needs neither the channel nor to be the process that was started.
        Err(unsuitable @ command::Unsuitable::Wrapper { .. })
            if matches!(app.listen, Listen::Port | Listen::Unix | Listen::None)
                && app.ready != Ready::Message
                && app.shutdown != Shutdown::Message =>
        {
            report!(info, identity, "what is started is not the app itself: {unsuitable}");
            Ok(app.command.clone())
        }
        Err(source) => Err(WorkerStartError::Command { app: app.name.clone(), source }),
    }
}

fn listeners(worker: &mut Worker, identity: &Identity) -> Result<Listeners, WorkerStartError> {
    if worker.app.handoff.is_some() {
        return match worker.control {
            Some(_) => Ok(Listeners::default()),
            None => Err(WorkerStartError::NoControl { instance: identity.to_string() }),
        };
    }
    let listen = match worker.app.listen {
        Listen::Cluster => "cluster",
        Listen::Fd => "fd",
        Listen::Port | Listen::Unix | Listen::None => {
            // One that was only made to say the address: the app binds that itself.
            worker.listener = None;
            return Ok(Listeners::default());
        }
    };
    let socket = worker.listener.take();
    let socket = socket
        .ok_or_else(|| WorkerStartError::NoListener { listen, instance: identity.to_string() })?;
    // The flag belongs to the socket, not to the descriptor: apps that inherit it do not expect it.
    let ours = worker.app.listen == Listen::Cluster;
    let prepared = match &socket {
        Socket::Tcp(tcp) => tcp.set_nonblocking(ours),
        Socket::Unix(unix) => unix.set_nonblocking(ours),
    };
    prepared.map_err(io("prepare the listener"))?;
    if ours {
        return Ok(Listeners { ours: Some(socket), apps: None });
    }
    let descriptor: OwnedFd = match socket {
        Socket::Tcp(tcp) => tcp.into(),
        Socket::Unix(unix) => unix.into(),
    };
    let copy = descriptor.try_clone().map_err(io("duplicate the listener"))?;
    Ok(Listeners { ours: None, apps: Some((descriptor, copy)) })
}

fn notifications(
    worker: &Worker,
    identity: &Identity,
    environment: &mut Environment,
) -> Result<AppNotifications, WorkerStartError> {
    let directory: Option<&OsString> = worker.environment.get(OsStr::new("RUNTIME_DIRECTORY"));
    let made = AppNotifications::listen(
        &identity.to_string(),
        directory.map(PathBuf::from),
        worker.notifier.clone(),
    );
    let notifications = made.map_err(io("make a notification socket for the app"))?;
    environment.insert("NOTIFY_SOCKET".into(), notifications.variable.clone());
    Ok(notifications)
}

/// Makes sure that who answers at the app's own address will be the app.
async fn free_address(
    address: &Address,
    owner: &Owner,
    identity: &Identity,
) -> Result<(), WorkerStartError> {
    let whose = match address {
        Address::Tcp(address) => owner.whose(*address),
        Address::Unix(_) => Whose::Unknown,
    };
    let (is_taken, who) = match whose {
        Whose::Nobodys => (false, String::new()),
        Whose::Others(other) => (true, format!("; {other}")),
        Whose::Ours | Whose::Unknown => (probe::connect(address).await.is_ok(), String::new()),
    };
    if is_taken {
        let instance = identity.to_string();
        return Err(WorkerStartError::AddressInUse { address: address.clone(), instance, who });
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

fn io(what: &'static str) -> impl Fn(io::Error) -> WorkerStartError {
    move |source| WorkerStartError::Io { what, source }
}

impl WorkerStartError {
    /// The exit code for it.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Command { .. }
            | Self::NoListener { .. }
            | Self::NoControl { .. }
            | Self::NoChannel { .. } => exit::CONFIG,
            Self::AddressInUse { .. } | Self::Io { .. } => exit::OS,
        }
    }
}
