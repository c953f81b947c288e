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
mod clients;
mod cluster;
mod command;
pub mod control;
pub mod environment;
pub(crate) mod environment_file;
mod identity;
mod idle;
mod inspector;
mod notifier;
mod owner;
mod probe;
mod process;
mod python;
mod ready;
pub(crate) mod refusal;
mod rest;
mod running;
mod shared;
pub(crate) mod stage;
mod start;
mod stop;
mod watchdog;

pub use self::notifier::Notifier;
pub(crate) use self::probe::speaks_http;
pub(crate) use self::ready::{ALSO_LISTENS, HAS_ENDED, LISTENS_ELSEWHERE, WAITS};
pub use self::start::Worker;

use self::identity::{Identity, report};

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

#[cfg(test)]
mod tests {
    //! What the tests of the parts share.

    use std::time::Duration;

    use crate::config::settings::{
        App, Balancing, Listen, Ready, Sandbox, Shutdown, Supervision, Transport,
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
            ready_after: Duration::from_secs(2),
            health: None,
            balancing: Balancing::default(),
            start_timeout: Duration::from_mins(1),
            shutdown: Shutdown::Auto,
            stop_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            watchdog: Duration::from_secs(30),
            rollback: false,
            surge: None,
            sandbox: Sandbox::Default,
            max_memory: None,
            supervision: Supervision::default(),
            handoff: None,
            session: None,
            slot: 0,
        }
    }
}
