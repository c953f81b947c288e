//! `roundsman session`: the shared session store, and the tools that look after it.

mod live;
mod migrate;
mod passwords;
mod rescue;
mod stats;
mod switch;
mod transfer;
mod valkey;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::base::dial;
use crate::base::exit;
use crate::base::paths;
use crate::cli::failure::{Done, Failure};
use crate::cli::manage;
use crate::config::settings::{Session as Settings, SessionSync};
use crate::config::{self, Sources};
use crate::session::command::ServerInfo;
use crate::session::server::{self, Listener, Stop, handover};
use crate::session::store::Options;
use crate::systemd::{activation, journal, notify};

/// Serve the shared session store, or look after it
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Session {
    #[command(subcommand)]
    tool: Option<Tool>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Tool {
    Stats(stats::Stats),
    Export(transfer::Export),
    Import(transfer::Import),
    Migrate(migrate::Migrate),
    Check(Check),
    Salvage(Salvage),
    ValkeyExec(valkey::ValkeyExec),
}

#[derive(Debug, Args)]
struct Serve {
    /// Where the data is [default: $STATE_DIRECTORY, or /var/lib/roundsman-session]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Read the files of this directory, instead of those of the system
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Listen here instead of on what systemd passes: a path, or an address with a port
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// When an acknowledged write is on the disk
    #[arg(long, value_enum)]
    sync: Option<Sync>,
    /// Bytes of all keys and values beyond which entries are evicted, nearest expiry first
    #[arg(long, value_name = "BYTES")]
    max_size: Option<u64>,
    /// Bytes that entries may take in memory: what changed lately, and what was read lately
    #[arg(long, value_name = "BYTES")]
    memory: Option<usize>,
    /// Lines of NAMESPACE:PASSWORD, for clients over TCP
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sync {
    /// Before it is acknowledged
    Always,
    /// Within a second
    Everysec,
}

/// Verify a store that no service has open: pages, values, indexes, log
#[derive(Debug, Args)]
struct Check {
    /// Where the data is
    #[arg(long, value_name = "DIR", default_value = paths::SESSION_DATA)]
    data: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Make a store out of whatever can be read in a damaged one, which is left as it is
#[derive(Debug, Args)]
struct Salvage {
    /// The damaged store: a directory that the service has set aside
    #[arg(value_name = "DAMAGED")]
    from: PathBuf,
    /// Where the new store is made; it must not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What `FileDescriptorName=` calls the optional listener over TCP.
const TCP_NAME: &str = "session-tcp";

// === impl Session ===

impl Session {
    pub(super) fn run(self) -> ExitCode {
        let result = match self.tool {
            None => self.serve.run(),
            Some(Tool::Stats(stats)) => stats.run(),
            Some(Tool::Export(export)) => export.run(),
            Some(Tool::Import(import)) => import.run(),
            Some(Tool::Migrate(migrate)) => migrate.run(),
            Some(Tool::Check(check)) => check.run(),
            Some(Tool::Salvage(salvage)) => salvage.run(),
            Some(Tool::ValkeyExec(_)) => valkey::ValkeyExec::run(),
        };
        let code = manage::end(result);
        journal::flush();
        code
    }
}

// === impl Serve ===

impl Serve {
    fn run(self) -> Done {
        // Before any thread exists: see there.
        let (inherited, kept) = activation::adopt_with_kept()
            .map_err(|error| Failure::with(exit::OS, error.to_string()))?;
        journal::init();
        let settings = self.settings();
        let passwords = match &settings.password_file {
            Some(path) => passwords::of_namespaces(path)?,
            None => BTreeMap::new(),
        };
        let listeners = self.listeners(inherited, &settings, passwords.is_empty())?;
        let legacy = handover::take(kept);
        let options = Options {
            directory: self.directory(),
            sync: settings.sync,
            max_size: settings.max_size,
            memory: settings.memory,
            verified: legacy.file,
        };
        let directory = options.directory.display().to_string();
        let (store, damaged) = rescue::open(options)?;
        let info = ServerInfo {
            passwords,
            started: crate::session::now(),
            max_connections: settings.connections,
            ..ServerInfo::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::with(exit::OS, format!("cannot start: {error}")))?;
        runtime
            .block_on(async {
                // Before the first READY=1: from then on a signal may come.
                let mut terminate = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                let stop = async move {
                    let stop = tokio::select! {
                        _ = terminate.recv() => Stop::ForGood,
                        // RestartKillSignal= of the unit; of a terminal it is Ctrl-C.
                        _ = interrupt.recv() => match std::env::var_os("NOTIFY_SOCKET") {
                            Some(_) => Stop::Restart,
                            None => Stop::ForGood,
                        },
                    };
                    notify::stopping("handing over to the next process, if there is one");
                    stop
                };
                let ready = || {
                    let status = match &damaged {
                        None => format!("serving sessions from {directory}"),
                        Some(aside) => format!("serving sessions; damaged data is in {aside}"),
                    };
                    tracing::info!("{status}");
                    notify::ready(&status);
                };
                let handovers = legacy.connections;
                let options = server::Options { info, idle_stop: settings.idle_stop, handovers };
                server::serve(store, listeners, options, ready, stop).await
            })
            .and_then(|legacy| {
                handover::keep(legacy).or_else(|error| {
                    tracing::warn!(%error, "clients must connect anew");
                    Ok(())
                })
            })
            .map_err(|error: std::io::Error| Failure::with(exit::OS, error.to_string()))?;
        journal::flush();
        Ok(())
    }

    /// What systemd has passed, and what the command line and the files ask for beside it.
    fn listeners(
        &self,
        inherited: Vec<activation::Inherited>,
        settings: &Settings,
        no_passwords: bool,
    ) -> Done<Vec<Listener>> {
        let mut listeners = Vec::new();
        for socket in inherited {
            listeners.push(match socket.socket {
                activation::Socket::Unix(listener) => Listener::Unix(listener),
                activation::Socket::Tcp(listener) => Listener::Tcp(listener),
            });
        }
        for address in &self.listen {
            listeners.push(listen(address)?);
        }
        // As a unit of systemd's it gets this one from the socket unit, and could not open it.
        if let Some(address) = settings.listen
            && !listeners.iter().any(|listener| matches!(listener, Listener::Tcp(_)))
        {
            listeners.push(listen_tcp(address).map_err(|Failure { code, message, .. }| {
                let hint = "systemctl daemon-reload && systemctl restart roundsman-session.socket";
                Failure::with(code, format!("{message}; under systemd its socket opens it: {hint}"))
            })?);
        }
        if listeners.is_empty() {
            return Err(Failure::with(
                exit::USAGE,
                "there is no socket to listen on; start roundsman-session.socket, or give \
                 --listen PATH"
                    .to_owned(),
            ));
        }
        if no_passwords && listeners.iter().any(|l| matches!(l, Listener::Tcp(_))) {
            return Err(Failure::with(
                exit::CONFIG,
                format!(
                    "a listener over TCP ({TCP_NAME}) needs passwords; set password-file to a \
                     file with lines of NAMESPACE:PASSWORD"
                ),
            ));
        }
        Ok(listeners)
    }

    /// What the files say, unless the command line says otherwise.
    fn settings(&self) -> Settings {
        let sources = self.config.as_ref().map_or_else(Sources::system, Sources::directory);
        let loaded = config::load(&sources);
        // Apps' files are none of this service's, and often none that it may read.
        if !loaded.front_is_right {
            tracing::warn!(
                "roundsman.toml has errors, so the store does as if there were none; see them with: \
                 roundsman check"
            );
        }
        let mut settings = loaded.settings.front.session;
        if let Some(sync) = self.sync {
            settings.sync = match sync {
                Sync::Always => SessionSync::Always,
                Sync::Everysec => SessionSync::EverySecond,
            };
        }
        if let Some(max_size) = self.max_size {
            settings.max_size = max_size;
        }
        if let Some(memory) = self.memory {
            settings.memory = memory;
        }
        if let Some(file) = &self.password_file {
            settings.password_file = Some(file.clone());
        }
        settings
    }

    fn directory(&self) -> PathBuf {
        self.data
            .clone()
            .or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(paths::SESSION_DATA))
    }
}

fn listen(address: &str) -> Done<Listener> {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return listen_tcp(address);
    }
    let path = Path::new(address.strip_prefix("unix:").unwrap_or(address));
    // A socket that an earlier run has left behind is in the way; anything else is not ours.
    if dial::is_left_behind(path) {
        let _ = fs::remove_file(path);
    }
    UnixListener::bind(path).map(Listener::Unix).map_err(|error| {
        Failure::with(exit::OS, format!("cannot listen on {}: {error}", path.display()))
    })
}

fn listen_tcp(address: SocketAddr) -> Done<Listener> {
    TcpListener::bind(address)
        .map(Listener::Tcp)
        .map_err(|error| Failure::with(exit::OS, format!("cannot listen on {address}: {error}")))
}

// === impl Check ===

impl Check {
    fn run(self) -> Done {
        let report = crate::session::store::verify(&self.data)?;
        if self.json {
            manage::print_json(&json!({
                "keys": report.keys,
                "log-records": report.records,
                "problems": report.problems,
            }));
        } else {
            for problem in &report.problems {
                manage::print(&format!("problem: {problem}"));
            }
        }
        if report.problems.is_empty() {
            if !self.json {
                manage::print(&format!(
                    "{} keys and {} log records after them: no problem found",
                    report.keys, report.records
                ));
            }
            return Ok(());
        }
        Err(Failure::new(format!("{} problems found", report.problems.len())))
    }
}

// === impl Salvage ===

impl Salvage {
    fn run(self) -> Done {
        let failed = |error: std::io::Error| {
            Failure::with(exit::OS, format!("{}: {error}", self.to.display()))
        };
        fs::create_dir(&self.to).map_err(|error| {
            let to = self.to.display();
            Failure::with(
                exit::OS,
                format!("cannot make the directory {to}: {error}; name a new one"),
            )
        })?;
        let (store, lost) = crate::session::store::salvage(&self.from, &self.to)?;
        let keys: u64 = store.all_spaces().map(|record| record.keys).sum();
        store.close();
        // The copy that was worked on is of no use any more.
        fs::remove_dir_all(self.to.join("copy")).map_err(failed)?;
        let made = self.to.join("salvaged");
        if self.json {
            manage::print_json(&json!({ "keys": keys, "directory": made, "lost": lost }));
            return Ok(());
        }
        for what in &lost {
            manage::print(&format!("could not be read: {what}"));
        }
        manage::print(&format!(
            "{keys} keys are in {}; to serve them, stop the service and put these files in the \
             place of its own",
            made.display()
        ));
        Ok(())
    }
}
