//! The command line: one file per subcommand.

mod admin_socket;
mod advice;
mod app_options;
mod apply;
mod before;
mod by_force;
mod check;
mod companions;
mod credentials;
mod delete;
mod deploy;
mod describe;
mod drain;
mod ecosystem;
mod edit;
mod events;
mod explain;
mod failure;
mod foreign;
mod front_down;
mod generate;
mod helper;
mod import;
mod intruder;
mod last_words;
mod listen;
mod logs;
mod manage;
mod names;
mod node;
mod own_port;
mod put_back;
mod reach;
mod reload;
mod rights;
mod rollback;
mod scale;
mod secrets;
mod send;
mod serve;
mod session;
mod settings;
mod start;
mod start_all;
mod starting;
mod status;
mod steps;
mod stop;
mod stores;
mod taken;
mod watch;
mod whose;
mod worker;
mod worker_ended;
mod worker_exec;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueHint};

use self::admin_socket::AdminSocket;
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
    #[command(visible_alias = "list", aliases = ["ls", "l", "ps"])]
    Status(status::Status),
    Check(check::Check),
    Explain(explain::Explain),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(stop::Restart),
    Reload(reload::Reload),
    Rollback(rollback::Rollback),
    Scale(scale::Scale),
    #[command(alias = "del")]
    Delete(delete::Delete),
    Apply(apply::Apply),
    Diff(apply::Diff),
    #[command(aliases = ["show", "desc", "info"])]
    Describe(describe::Describe),
    #[command(alias = "log")]
    Logs(logs::Logs),
    Listen(listen::Listen),
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

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if generator::is_called() {
        return generator::main();
    }
    // A shell that completes a command line asks this very program, by a variable.
    clap_complete::CompleteEnv::with_factory(completed).complete();
    let words = match foreign::translated(std::env::args_os().collect()) {
        Ok(words) => words,
        Err(failure) => return manage::end(Err(failure)),
    };
    match Cli::parse_from(words).command {
        Command::Serve(serve) => serve.run(),
        Command::Status(status) => status.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::Start(start) => start_all::run(&start),
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
        Command::Listen(listen) => listen.run(),
        Command::Import(import) => import.run(),
        Command::Send(send) => send.run(),
        Command::Events(events) => events.run(),
        Command::Drain(drain) => drain.run(),
        Command::Undrain(undrain) => undrain.run(),
        Command::Generate(generate) => generate.run(Cli::command()),
        Command::Helper(_) => helper::Helper::run(),
        Command::Watch(watch) => watch.run(),
        Command::Worker(worker) => worker.run(),
        Command::WorkerEnded(ended) => ended.run(),
        Command::WorkerExec(exec) => exec.run(),
        Command::Session(session) => session.run(),
    }
}

/// The command line as shells complete it: commands, options, apps, and no paths. The names of files
/// are other users' words, and what is offered here is put into the line as it is: the shell itself
/// knows how to quote them.
fn completed() -> clap::Command {
    fn without_paths(command: clap::Command) -> clap::Command {
        let closed = |arg: clap::Arg| {
            if arg.get_action().takes_values() { arg.value_hint(ValueHint::Other) } else { arg }
        };
        command.mut_args(closed).mut_subcommands(without_paths)
    }
    without_paths(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to the value of an argument, as it is typed.
    fn ways(command: &clap::Command, typed: &[String], all: &mut Vec<Vec<String>>) {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let option = arg.get_long().map(|long| format!("--{long}"));
            all.push(typed.iter().cloned().chain(option).collect());
        }
        for below in command.get_subcommands() {
            let typed: Vec<String> =
                typed.iter().cloned().chain([below.get_name().to_owned()]).collect();
            ways(below, &typed, all);
        }
    }

    #[test]
    fn no_file_of_others_is_put_into_a_command_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("4;id>pwned;")).unwrap();
        let mut all = Vec::new();
        ways(&Cli::command(), &["roundsman".to_owned()], &mut all);
        assert!(all.contains(&["roundsman", "rollback", "--to"].map(str::to_owned).into()));
        for typed in all {
            let words = typed.iter().map(Into::into).chain(["4".into()]).collect();
            let (index, at) = (typed.len(), Some(folder.path()));
            let offered = clap_complete::engine::complete(&mut completed(), words, index, at);
            let offered = offered.unwrap_or_default();
            assert!(offered.iter().all(|word| word.get_value() != "4;id>pwned;/"), "{typed:?}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
