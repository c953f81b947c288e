//! The command line: one file per subcommand.

mod apply;
mod check;
mod companions;
mod credentials;
mod delete;
mod deploy;
mod describe;
mod drain;
mod edit;
mod events;
mod explain;
mod generate;
mod helper;
mod import;
mod logs;
mod manage;
mod names;
mod put_back;
mod reload;
mod rights;
mod rollback;
mod scale;
mod send;
mod serve;
mod session;
mod start;
mod status;
mod stop;
mod watch;
mod worker;
mod worker_ended;
mod worker_exec;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin;
use crate::base::exit;
use crate::base::paths;
use crate::generator;

/// A systemd-native HTTP application cluster.
#[derive(Debug, Parser)]
#[command(name = "roundsman", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    #[command(visible_alias = "list")]
    Status(status::Status),
    Check(check::Check),
    Explain(explain::Explain),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(stop::Restart),
    Reload(reload::Reload),
    Rollback(rollback::Rollback),
    Scale(scale::Scale),
    Delete(delete::Delete),
    Apply(apply::Apply),
    Diff(apply::Diff),
    Describe(describe::Describe),
    Logs(logs::Logs),
    Import(import::ImportCommand),
    Send(send::Send),
    Events(events::Events),
    Drain(drain::Drain),
    Undrain(drain::Undrain),
    Generate(generate::Generate),
    Helper(helper::Helper),
    Watch(watch::WatchCommand),
    Worker(worker::Worker),
    WorkerEnded(worker_ended::WorkerEnded),
    WorkerExec(worker_exec::WorkerExec),
    Session(session::Session),
}

/// Which front a command talks to.
#[derive(Debug, Args)]
struct AdminSocket {
    /// The admin socket of the front
    #[arg(long = "admin", value_name = "PATH", default_value = paths::ADMIN_SOCKET)]
    path: PathBuf,
}

/// How long a command waits for an answer that needs no waiting.
const ANSWER: Duration = Duration::from_secs(30);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if generator::is_called() {
        return generator::main();
    }
    // A shell that completes a command line asks this very program, by a variable.
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Status(status) => status.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::Start(start) => start.run(),
        Command::Stop(stop) => stop.run(),
        Command::Restart(restart) => restart.run(),
        Command::Reload(reload) => reload.run(),
        Command::Rollback(rollback) => rollback.run(),
        Command::Scale(scale) => scale.run(),
        Command::Delete(delete) => delete.run(),
        Command::Apply(apply) => apply.run(),
        Command::Diff(diff) => diff.run(),
        Command::Describe(describe) => describe.run(),
        Command::Logs(logs) => logs.run(),
        Command::Import(import) => import.run(),
        Command::Send(send) => send.run(),
        Command::Events(events) => events.run(),
        Command::Drain(drain) => drain.run(),
        Command::Undrain(undrain) => undrain.run(),
        Command::Generate(generate) => generate.run(),
        Command::Helper(_) => helper::Helper::run(),
        Command::Watch(watch) => watch.run(),
        Command::Worker(worker) => worker.run(),
        Command::WorkerEnded(ended) => ended.run(),
        Command::WorkerExec(exec) => exec.run(),
        Command::Session(session) => session.run(),
    }
}

// === impl AdminSocket ===

impl AdminSocket {
    /// For what the helper is asked for: it talks to the front of this machine, wherever a member
    /// would like it to.
    fn only_default(&self) -> manage::Done {
        if self.path == std::path::Path::new(paths::ADMIN_SOCKET) {
            return Ok(());
        }
        Err(rights::root_alone("another --admin than the installed front's"))
    }

    /// Calls the front; shows its answer with `show`, or the error.
    fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Q>,
        show: impl FnOnce(A),
    ) -> ExitCode {
        match admin::client::call(&self.path, method, path, body, ANSWER) {
            Ok(answer) => {
                show(answer);
                ExitCode::from(exit::OK)
            }
            Err(error) => {
                eprintln!("error: {error}");
                let code = match error {
                    admin::client::Error::Refused(_) => exit::FAILURE,
                    _ => exit::UNAVAILABLE,
                };
                ExitCode::from(code)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
