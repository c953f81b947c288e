//! `roundsman worker`: the main process of a worker unit.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::manage;
use crate::base::exit;
use crate::base::file::{Links, read_text};
use crate::base::paths;
use crate::base::text;
use crate::base::unit::Instance;
use crate::base::user::{self, User};
use crate::config::copy::{self, AppCopy, CREDENTIAL};
use crate::config::settings::{Address, App, Sandbox};
use crate::config::{Sources, load, valkey};
use crate::supervise::crashes::Crashes;
use crate::sys::{be_alone, can_be_alone};
use crate::systemd::activation::{Inherited, Socket, adopt};
use crate::systemd::{journal, notify};
use crate::worker::backoff::{self, Waited};
use crate::worker::environment::Environment;
use crate::worker::refusal::{self, Caller};
use crate::worker::{self, Notifier, environment_file};

/// The name of the worker's own listener (`FileDescriptorName=`).
const LISTENER: &str = "http";

/// Log entries that may wait for the journal: a worker has little to say.
const LOG_QUEUE: usize = 64;

/// Run one worker of an app (what roundsman-worker@APP:N.service starts)
#[derive(Debug, Args)]
pub(super) struct Worker {
    /// Which one, as in shop:1
    #[arg(value_name = "APP:N")]
    instance: Instance,
    /// Read the configuration from this directory alone
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Without systemd: listen here, at ADDRESS:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<ListenAddress>,
    /// Without systemd: the directory below which the workers' control sockets are
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
}

/// `shop:1`.
#[derive(Debug, Clone)]
struct ListenAddress(Address);

impl Worker {
    /// Returns when the worker has ended.
    pub(super) fn run(self) -> ExitCode {
        let inherited = adopt(); // first of all: it changes the environment
        let shut_in = self.shut_in(); // before there is a second thread
        journal::init_with(LOG_QUEUE);
        let listener = shut_in.and(inherited).and_then(|sockets| self.listener(sockets));
        let code = match listener {
            Ok(listener) => self.run_on(listener),
            Err(error) => {
                tracing::error!(roundsman_app = self.instance.app, "{error}");
                exit::OS
            }
        };
        journal::flush();
        ExitCode::from(code)
    }

    /// Reaches no process outside of the unit from here on, as the app does not. What the app has left in its
    /// directory, in the places of its files and on its channel is looked at by this process, and a
    /// path through `/proc/PID/root` of another process of its user would lead past the sandbox.
    ///
    /// The app is in a domain of its own within this one, so that it does not reach this process, either.
    fn shut_in(&self) -> io::Result<()> {
        if self.config.is_some() {
            return Ok(());
        }
        let app = self.handed(credentials().as_deref());
        if app.is_some_and(|app| app.sandbox == Sandbox::Off) {
            return Ok(());
        }
        if can_be_alone().is_err() {
            return Ok(()); // the worker says so when it starts the app
        }
        be_alone().map_err(|error| {
            let what = "cannot keep the worker from its user's other processes";
            io::Error::new(error.kind(), format!("{what}: {error}"))
        })
    }

    fn listener(&self, sockets: Vec<Inherited>) -> io::Result<Option<Socket>> {
        let inherited = sockets.into_iter().find(|socket| socket.name == LISTENER);
        if let Some(inherited) = inherited {
            return Ok(Some(inherited.socket));
        }
        let Some(ListenAddress(address)) = &self.listen else { return Ok(None) };
        let bound = match address {
            Address::Tcp(address) => TcpListener::bind(address).map(Socket::Tcp),
            Address::Unix(path) => UnixListener::bind(path).map(Socket::Unix),
        };
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        };
        bound.map(Some).map_err(explain)
    }

    fn run_on(&self, listener: Option<Socket>) -> u8 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.and_then(|runtime| runtime.block_on(self.serve(listener)));
        result.unwrap_or_else(|error| {
            tracing::error!(roundsman_app = self.instance.app, "cannot run: {error}");
            exit::OS
        })
    }

    /// The app's settings: what the unit hands over, which is right whatever has become of the files
    /// since, or else what the files say.
    fn app(&self, credentials: Option<&Path>) -> Option<App> {
        // Another version of the program may have written it.
        self.handed(credentials).or_else(|| self.app_by_files())
    }

    fn handed(&self, credentials: Option<&Path>) -> Option<App> {
        let path = credentials?.join(CREDENTIAL);
        let text = read_text(&path, Links::Follow, copy::MOST).ok()?;
        let copy = AppCopy::from_text(&text).filter(|copy| copy.app == self.instance.app)?;
        copy.app().ok()
    }

    /// If the app's file has no error. What is wrong elsewhere is not ours.
    fn app_by_files(&self) -> Option<App> {
        let name = &self.instance.app;
        let sources = self.config.as_ref().map_or_else(Sources::system, Sources::directory);
        let mut loaded = load(&sources);
        let Some(app) = loaded.settings.apps.remove(name) else {
            if loaded.problems.errors() > 0 {
                manage::say(loaded.problems.render(false).trim_end());
            }
            let roots: Vec<String> = sources.roots().iter().map(|root| text::path(root)).collect();
            tracing::error!(
                roundsman_app = name,
                "there is no valid apps/{name}.toml in {}: `roundsman check` says what is wrong",
                roots.join(", ")
            );
            return None;
        };
        Some(app)
    }

    /// Whether this process may be the worker; at a terminal everybody is who they are.
    fn may_be(&self, app: &App) -> bool {
        if self.config.is_some() {
            return true;
        }
        let uid = rustix::process::geteuid().as_raw();
        let known = |name: &str| User::named(name).ok().flatten().map(|user| user.uid);
        let known_group = |name: &str| user::group(name).ok().flatten();
        let group = rustix::process::getegid().as_raw();
        let caller = Caller { user: uid, group, name: std::env::var("USER").ok() };
        match refusal::check(app, self.instance.number, &caller, known, known_group) {
            Ok(()) => true,
            Err(refusal) => {
                tracing::error!(roundsman_app = app.name, "{refusal}");
                false
            }
        }
    }

    async fn serve(&self, listener: Option<Socket>) -> io::Result<u8> {
        let number = self.instance.number;
        if self.config.is_none() {
            // Before anything of the app's runs, which is of the same user and could else write into this
            // process's memory. What is executed later is as usual.
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        let notifier = Notifier::new(std::env::var_os("NOTIFY_SOCKET").as_deref())?;
        let mut stop = stop_signals()?;
        let credentials = self.config.is_none().then(credentials).flatten();
        let mut app = self.app(credentials.as_deref());
        if app.as_ref().is_some_and(|app| !self.may_be(app)) {
            return Ok(exit::WORKER_REFUSED);
        }
        // Whoever asks while it waits sees which release it is going to run.
        if let Some(directory) = app.as_ref().and_then(|app| app.directory.as_ref()) {
            let _ = std::env::set_current_dir(directory);
        }
        match self.back_off(app.as_ref(), &notifier, &mut stop).await {
            Waited::No => {}
            // The file may have been mended meanwhile.
            Waited::Yes => app = self.app(credentials.as_deref()),
            Waited::Stopped => return Ok(exit::OK),
            Waited::GivenUp => return Ok(exit::WORKER_GIVEN_UP),
        }
        let Some(app) = app else { return Ok(exit::CONFIG) };
        if !self.may_be(&app) {
            return Ok(exit::WORKER_REFUSED);
        }
        let Some(variables) = prepare(&app, credentials.as_deref()) else {
            return Ok(exit::CONFIG);
        };
        let address = match &listener {
            Some(socket) => address_of(socket)?,
            None => app.worker_address(number),
        };
        let mut environment: Environment = std::env::vars_os().collect();
        if let Some(whose) = app.valkey_of() {
            let secret = valkey_secret(credentials.as_deref());
            let variables = valkey::variables(whose, secret.as_deref());
            environment.extend(variables.map(|(name, value)| (name.into(), value.into())));
        }
        let worker = worker::Worker {
            app,
            number,
            address,
            listener,
            environment,
            variables,
            notifier,
            watchdog: notify::watchdog_interval(),
            stop,
            program: "/proc/self/exe".into(), // also when the package was upgraded meanwhile
            control: self.runtime.clone().or_else(|| {
                // The unit has a RuntimeDirectory=. The variable itself is ambiguous: it separates
                // paths with colons, of which ours has one.
                std::env::var_os("RUNTIME_DIRECTORY").map(|_| paths::WORKERS.into())
            }),
        };
        Ok(worker::run(worker).await)
    }
}

impl Worker {
    /// Waits as long as the crashes before this start ask for; without systemd nobody counts them.
    async fn back_off(
        &self,
        app: Option<&App>,
        notifier: &Notifier,
        stop: &mut mpsc::Receiver<()>,
    ) -> Waited {
        if self.config.is_some() {
            return Waited::No;
        }
        let Instance { app: name, number } = &self.instance;
        let restart = app.map(|app| app.supervision.restart.clone()).unwrap_or_default();
        let start_timeout = app.map_or(Duration::from_mins(1), |app| app.start_timeout);
        let crashes = Crashes::load(Path::new(paths::CRASHES), &self.instance.to_string());
        backoff::wait((name, *number), &crashes, &restart, start_timeout, notifier, stop).await
    }
}

/// Where systemd has put what it hands over.
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// What the app's own Valkey server knows its app by.
fn valkey_secret(credentials: Option<&Path>) -> Option<String> {
    let path = credentials?.join(valkey::SECRET);
    read_text(&path, Links::Follow, copy::MOST).ok()
}

/// Goes where the app runs, and reads the files of its variables; `None` when it cannot run like this,
/// as was logged.
fn prepare(app: &App, credentials: Option<&Path>) -> Option<Environment> {
    let fail = |what: &dyn std::fmt::Display| tracing::error!(roundsman_app = app.name, "{what}");
    if let Some(directory) = &app.directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        fail(&format_args!("directory = {}: {error}", directory.display()));
        return None;
    }
    for (name, path) in &app.supervision.credentials {
        if credentials.is_some_and(|directory| !directory.join(name).exists()) {
            fail(&format_args!(
                "credentials.{name}: root does not read {} for the app, since others than root may change \
                 it or a directory above it: move it to where only root may write, such as /etc",
                path.display()
            ));
            return None;
        }
    }
    environment_file::read_all(app, credentials).inspect_err(|error| fail(error)).ok()
}

fn address_of(socket: &Socket) -> io::Result<Address> {
    match socket {
        Socket::Tcp(listener) => listener.local_addr().map(Address::Tcp),
        Socket::Unix(listener) => {
            let address = listener.local_addr()?;
            let path = address
                .as_pathname()
                .ok_or_else(|| io::Error::other("the listener has no path"))?;
            Ok(Address::Unix(path.to_owned()))
        }
    }
}

/// Something for every SIGTERM and SIGINT.
pub(super) fn stop_signals() -> io::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(1);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

// === impl ListenAddress ===

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self(Address::Unix(path.into())));
        }
        let address = text
            .parse::<SocketAddr>()
            .map_err(|error| format!("{error}: write 127.0.0.1:7080 or unix:/path"))?;
        Ok(Self(Address::Tcp(address)))
    }
}
