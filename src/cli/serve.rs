//! `roundsman serve`: the front.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::failure::{Done, Failure};
use crate::admin;
use crate::balance::sticky;
use crate::base::dial;
use crate::base::exit;
use crate::base::lock::{Lock, Wait};
use crate::base::paths;
use crate::base::worker_address;
use crate::config::{self, Loaded, Problems, Settings, Sources};
use crate::front::Front;
use crate::health;
use crate::lifecycle::absence;
use crate::lifecycle::control::{Control, https_port};
use crate::lifecycle::ending;
use crate::lifecycle::last_good::LastGood;
use crate::lifecycle::server;
use crate::lifecycle::state::{self, Kept};
use crate::registry::dns;
use crate::systemd::activation::{self, Inherited, KEPT, Passed, Socket};
use crate::systemd::anchor::{self, Anchor, Side};
use crate::systemd::dbus::workers;
use crate::systemd::watchdog;
use crate::systemd::{journal, message, notify};
use crate::thread::{Listener, Threads, usable_cores};
use crate::tls::Tls;

/// The socket name that carries the admin API instead of clients.
const ADMIN: &str = "admin";

/// How long the start waits for the bus to say which workers are up.
const FIRST_STATES: Duration = Duration::from_secs(2);

/// Run the front: accept connections, balance them over the servers
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Read the configuration from this directory only
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Listen here, for development without systemd (repeatable), as in http=127.0.0.1:8080
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = parse_listen)]
    listen: Vec<(String, SocketAddr)>,
    /// Serve the admin API on this UNIX socket, for development without systemd
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
    /// Without systemd: the directory below which the workers' control sockets are
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// What the unit does: at SIGINT, let the next front begin at once, and finish what is in flight
    /// beside it
    #[arg(long)]
    hand_over: bool,
}

fn parse_listen(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text
        .split_once('=')
        .ok_or("write NAME=ADDRESS, for instance http=127.0.0.1:8080".to_owned())?;
    let address = address
        .parse()
        .map_err(|_| format!("\"{address}\" is not IP:PORT, for instance 127.0.0.1:8080"))?;
    Ok((name.to_owned(), address))
}

/// What the system does not let the front have.
fn os(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::with(exit::OS, format!("{what}: {error}"))
}

// === impl Serve ===

impl Serve {
    /// Runs until it is told to stop.
    pub(super) fn run(self) -> ExitCode {
        // Before any thread exists: it changes the environment, and makes two processes of this one.
        let begun = activation::adopt_with_kept().and_then(|passed| {
            if self.hand_over { anchor::split(passed) } else { Ok(Side::Server(None, passed)) }
        });
        let begun = match begun {
            Ok(Side::Anchor(code)) => return ExitCode::from(code),
            Ok(Side::Server(anchor, passed)) => Ok((anchor, passed)),
            Err(error) => Err(Failure::with(exit::OS, error.to_string())),
        };
        let filtered = crate::sys::only_needed_protocols();
        journal::init();
        if let Err(error) = filtered {
            tracing::warn!("sockets of protocols that are not needed are not refused: {error}");
        }
        let (begun, port_of_before) = match begun {
            Ok((anchor, (inherited, mut of_before))) => {
                let port = take(&mut of_before, &port_name());
                (Ok((anchor, (inherited, of_before))), port)
            }
            Err(failure) => (Err(failure), None),
        };
        // With this port it can be asked below when others have all of the machine's.
        if let Err(error) = keep_port(port_of_before) {
            tracing::warn!(
                "no port is kept for connections to workers when others take all of the machine's: {error}"
            );
        }
        match worker_address::ask_whose() {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => tracing::warn!(
                "no worker is connected to over TCP before it can be found out whose a connection is: {error}"
            ),
            Err(error) => tracing::warn!(
                "whoever listens at the TCP address of a worker is taken for the worker: cannot ask the \
                 kernel ({error}). Look for RestrictAddressFamilies= in drop-ins of roundsman.service"
            ),
        }
        let code = match begun.and_then(|(anchor, passed)| self.serve(anchor, passed)) {
            Ok(()) => exit::OK,
            Err(Failure { code, message, .. }) => {
                tracing::error!("{message}");
                notify::status(message.lines().next().unwrap_or_default());
                code
            }
        };
        journal::flush();
        ExitCode::from(code)
    }

    fn serve(self, anchor: Option<Anchor>, passed: Passed) -> Done {
        let (inherited, mut of_before) = passed;
        let (admin_listeners, sockets): (Vec<_>, Vec<_>) =
            self.sockets(inherited)?.into_iter().partition(|socket| socket.name == ADMIN);
        if sockets.is_empty() {
            turn_away(&admin_listeners);
            return Err(Failure::config(
                "there is no listener. Under systemd: systemctl enable --now \
                 roundsman-http.socket, and start roundsman.service through it. \
                 Without systemd: roundsman serve --listen http=127.0.0.1:8080",
            ));
        }
        let sources = self.config.as_deref().map_or_else(Sources::system, Sources::directory);
        let state = state::directory();
        if let Some(directory) = &state {
            match state::secret(directory) {
                Ok(secret) => sticky::Key::set_of_machine(&secret),
                Err(error) => tracing::warn!(
                    "cannot keep a secret in {}: {error}. Sticky cookies without a `secret` of their \
                     own end with this process",
                    directory.display()
                ),
            }
        }
        let kept = Kept::of_unit(state.as_deref());
        let (settings, files, uses_last_good) = configuration(&sources, kept.last_good.as_ref())?;

        let listeners = describe(&sockets);
        let sockets = sockets
            .into_iter()
            .map(|Inherited { name, socket }| Listener { name, socket })
            .collect();
        let cores = usable_cores();
        let count = settings.front.threads.count.unwrap_or(cores.len()).max(1);
        let pin = settings.front.threads.pin;
        let cores: Vec<usize> = cores.iter().copied().cycle().take(count).collect();
        // A front without certificates serves port 80 at least, and says so in its status.
        let (tls, of_tls) = Tls::load(&settings.front, None);
        let mut problems = Problems::default();
        problems.extend(of_tls);
        let lacks_certificates = problems.errors() > 0;
        if lacks_certificates {
            tracing::error!(
                message_id = message::CERTIFICATES_REFUSED,
                "serving without certificates that cannot be used:\n{}",
                problems.render(std::io::stderr().is_terminal())
            );
        }
        let tls = tls.with_port(https_port(&settings.front, &listeners));
        // Without systemd nobody notes where workers run.
        let is_installed = self.config.is_none() && self.runtime.is_none();
        let front = Front::with_tls(settings, tls, count)
            .below(self.runtime.clone())
            .finding_workers_by(is_installed.then(|| paths::ADDRESSES.into()));
        let front = Arc::new(front);
        let health = health::run(Arc::clone(&front));
        let names = dns::run(Arc::clone(&front), dns::Resolver);
        let threads = Threads::start(Arc::clone(&front), &cores, pin)
            .map_err(os("cannot start the worker threads"))?;
        let control = Rc::new(Control::new(
            front,
            threads,
            sources,
            kept,
            uses_last_good,
            lacks_certificates,
            listeners,
        ));
        control.look_at_listeners();
        if !uses_last_good {
            control.keep(&files);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(os("cannot start the control runtime"))?;
        let _lock = match take(&mut of_before, &lock_name()) {
            Some(lock) => Some(Lock::from(lock)),
            None => admin_listeners.iter().find_map(lock_beside),
        };
        let local = tokio::task::LocalSet::new();
        local.spawn_local(health);
        local.spawn_local(names);
        local.block_on(&runtime, run(control, anchor, admin_listeners, sockets))
    }

    /// The inherited sockets and those that the arguments ask for.
    fn sockets(&self, mut sockets: Vec<Inherited>) -> Done<Vec<Inherited>> {
        for (name, address) in &self.listen {
            let failed = || os(format!("cannot listen on {address} for \"{name}\""));
            let socket = TcpListener::bind(address).map_err(failed())?;
            socket.set_nonblocking(true).map_err(failed())?;
            sockets.push(Inherited { name: name.clone(), socket: Socket::Tcp(socket) });
        }
        if let Some(path) = &self.admin {
            let failed = || os(format!("cannot listen on {}", path.display()));
            if dial::is_left_behind(path) {
                let _ = std::fs::remove_file(path);
            }
            let socket = UnixListener::bind(path).map_err(failed())?;
            socket.set_nonblocking(true).map_err(failed())?;
            sockets.push(Inherited { name: ADMIN.to_owned(), socket: Socket::Unix(socket) });
        }
        Ok(sockets)
    }
}

/// Closes what waits at the admin socket: who asks hears at once that there is no front, and starts
/// no other attempt at one.
fn turn_away(listeners: &[Inherited]) {
    for inherited in listeners {
        let Socket::Unix(socket) = &inherited.socket else { continue };
        if socket.set_nonblocking(true).is_err() {
            continue;
        }
        while let Ok((waiting, _)) = socket.accept() {
            drop(waiting);
        }
    }
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// The settings to serve with, the files they come from, and whether they are the last good ones.
fn configuration(sources: &Sources, last_good: Option<&LastGood>) -> Done<(Settings, Files, bool)> {
    let Loaded { settings, problems, files, .. } = config::load(sources);
    if problems.errors() == 0 {
        return Ok((settings, files, false));
    }
    let errors = problems.render(std::io::stderr().is_terminal());
    if let Some(copy) = last_good.and_then(LastGood::sources) {
        let Loaded { settings, problems, files, .. } = config::load(&copy);
        if problems.errors() == 0 {
            tracing::error!(
                message_id = message::LAST_GOOD_USED,
                "the configuration has errors; serving with the last good one instead:\n{errors}"
            );
            return Ok((settings, files, true));
        }
    }
    Err(Failure::config(format!(
        "the configuration has errors and there is no earlier one:\n{errors}"
    )))
}

fn describe(sockets: &[Inherited]) -> Vec<admin::model::Listener> {
    let address = |socket: &Socket| match socket {
        Socket::Tcp(socket) => socket.local_addr().map(|a| a.to_string()),
        Socket::Unix(socket) => socket.local_addr().map(|a| {
            a.as_pathname().map_or("unnamed".to_owned(), |path| format!("unix:{}", path.display()))
        }),
    };
    sockets
        .iter()
        .map(|inherited| admin::model::Listener {
            name: inherited.name.clone(),
            address: address(&inherited.socket).unwrap_or_else(|error| error.to_string()),
        })
        .collect()
}

/// What systemd has kept under this name.
fn take(of_before: &mut Vec<activation::Kept>, name: &str) -> Option<OwnedFd> {
    let at = of_before.iter().position(|(of, _)| of == name)?;
    Some(of_before.swap_remove(at).1)
}

/// Under which name systemd keeps the port for connections to workers.
fn port_name() -> String {
    format!("{KEPT}port")
}

/// Keeps the port that an earlier process had, or another one, here and in systemd: while this service is
/// started anew others might take all that there are.
fn keep_port(of_before: Option<OwnedFd>) -> std::io::Result<()> {
    let had = of_before.is_some();
    let port = worker_address::keep_port(of_before)?;
    if had { Ok(()) } else { notify::keep(&port_name(), port) }
}

/// Under which name systemd keeps the lock from one process of the service to the next: a worker that
/// stops meanwhile waits for the next one, which knows the others.
fn lock_name() -> String {
    format!("{KEPT}lock")
}

/// Marks this service as the running front, in the admin socket's directory, until all of its processes
/// have ended.
fn lock_beside(admin: &Inherited) -> Option<Lock> {
    let Socket::Unix(socket) = &admin.socket else { return None };
    let address = socket.local_addr().ok()?;
    let path = paths::front_lock(address.as_pathname()?.parent().unwrap_or(Path::new(".")));
    // Who asks whether it is held is root. Nobody else may read it, and so lock it: a front without its
    // lock would be taken for one that does not run.
    match Lock::take(&path, Wait::Moment) {
        Ok(lock) => {
            if let Err(error) = notify::keep(&lock_name(), lock.as_fd()) {
                tracing::warn!(%error, "systemd does not keep the lock over a restart");
            }
            Some(lock)
        }
        Err(error) => {
            tracing::warn!(
                "cannot lock {}: {error}; stopping a worker may not wait for its requests",
                path.display()
            );
            None
        }
    }
}

/// The control thread's whole life.
async fn run(
    control: Rc<Control>,
    anchor: Option<Anchor>,
    admin_listeners: Vec<Inherited>,
    sockets: Vec<Listener>,
) -> Done {
    let handler = |kind| signal(kind).map_err(os("cannot handle signals"));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut hang_up = handler(SignalKind::hangup())?;

    let mut admin = Vec::new();
    for inherited in admin_listeners {
        let Socket::Unix(socket) = inherited.socket else {
            return Err(Failure::config(
                "the admin API is only served on a UNIX socket; mend ListenStream= in \
                 roundsman-admin.socket",
            ));
        };
        let socket = tokio::net::UnixListener::from_std(socket)
            .map_err(os("cannot serve the admin socket"))?;
        admin.push(tokio::task::spawn_local(server::serve(socket, Rc::clone(&control))));
    }
    let watched = Rc::clone(&control);
    tokio::task::spawn_local(watchdog::run(move || watched.threads().heartbeats()));
    follow_bus(&control).await;
    control.apply_all();
    let front = control.shared();
    tokio::task::spawn_local(absence::run(front));

    tokio::task::spawn_local(tell_changes(Rc::clone(&control)));
    let without_bus = Rc::clone(&control);
    tokio::task::spawn_local(async move { without_bus.look_without_bus().await });
    control.threads().accept(sockets);
    // Who asks after the start is answered by this one.
    control.earlier().relieve().await;
    tracing::info!(message_id = message::FRONT_READY, "{}", control.status_line());
    notify::ready(&control.status_line());

    let anchor = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break anchor,
            _ = hang_up.recv() => drop(control.reload(None)), // the errors are in the log
        }
    };
    let _ = keep_port(None); // it may have been taken later than at the start
    match anchor {
        Some(anchor) => ending::hand_over(&control, anchor, admin).await,
        None => ending::stop(&control).await,
    }
    Ok(())
}

/// Follows the workers' units; returns when their first states are known or not to be had.
async fn follow_bus(control: &Rc<Control>) {
    let control = Rc::clone(control);
    let (known, first) = tokio::sync::oneshot::channel();
    let mut known = Some(known);
    tokio::task::spawn_local(workers::follow(move |event| {
        control.on_bus(event);
        if let Some(known) = known.take() {
            let _ = known.send(()); // the start may have gone on without
        }
    }));
    let _ = timeout(FIRST_STATES, first).await;
}

/// Keeps the line for `systemctl status` true when servers come and go by name.
async fn tell_changes(control: Rc<Control>) {
    let mut changes = control.front().changes();
    let mut known = control.front().snapshot();
    while changes.changed().await.is_ok() {
        let now = control.front().snapshot();
        if !Arc::ptr_eq(&known, &now) {
            known = now;
            control.tell_status();
        }
    }
}
