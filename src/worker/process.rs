//! The app's process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::environment::Environment;
use super::stage::wrapped;

/// Node's channel is put well above the descriptors that apps and runtimes expect to be free.
const CHANNEL_FD_MIN: i32 = 10;

/// How to start it.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The program that runs the stage: this one.
    pub(super) stage: &'a Path,
    pub(super) command: &'a [String],
    pub(super) directory: Option<&'a PathBuf>,
    pub(super) environment: Environment,
    /// To be the app's descriptor 3.
    pub(super) listener: Option<OwnedFd>,
    /// The app's end of Node's channel.
    pub(super) channel: Option<OwnedFd>,
    /// Whether it is kept from holding up who closes its descriptors.
    pub(super) confined: bool,
    /// Whether it reaches no processes but its own.
    pub(super) alone: bool,
}

/// The running app.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: Option<Pid>,
    started: Instant,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit(ExitStatus);

impl Plan<'_> {
    pub(super) fn start(self) -> io::Result<Process> {
        let mut command = Command::new(self.stage);
        command.arg("worker-exec").arg("--parent").arg(std::process::id().to_string());
        let mut environment = self.environment;
        match self.listener {
            Some(listener) => {
                command.arg("--listener").stdin(Stdio::from(listener));
                environment.insert("LISTEN_FDS".into(), "1".into());
                environment.insert("LISTEN_FDNAMES".into(), "http".into());
            }
            None => {
                command.stdin(Stdio::null());
            }
        }
        if self.confined {
            command.arg("--confined");
        }
        if self.alone {
            command.arg("--alone");
        }
        let mut inherited = None;
        if let Some(channel) = self.channel {
            let channel = rustix::io::fcntl_dupfd_cloexec(&channel, CHANNEL_FD_MIN)?;
            // Every child inherits it from here until it is dropped: only this one is started.
            rustix::io::fcntl_setfd(&channel, FdFlags::empty())?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&channel).to_string();
            environment.insert("NODE_CHANNEL_FD".into(), number.into());
            inherited = Some(channel);
        }
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        command.arg("--").args(self.command).env_clear().envs(wrapped(environment));
        command.kill_on_drop(true);
        command.process_group(0); // Ctrl-C at a terminal is for the shim, which passes it on in order
        let child = command.spawn()?;
        drop(inherited);
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Process { child, pid, started: Instant::now() })
    }
}

impl Process {
    /// Returns when it has ended.
    pub(super) async fn wait(&mut self) -> io::Result<Exit> {
        self.child.wait().await.map(Exit)
    }

    pub(super) fn id(&self) -> u32 {
        self.pid.map_or(0, |pid| pid.as_raw_pid().cast_unsigned())
    }

    /// Seconds since it was started.
    pub(super) fn uptime(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Sends it a signal, unless it has ended.
    pub(super) fn signal(&self, signal: Signal) {
        // While the child is not waited for its number cannot belong to anybody else.
        if let (Some(_running), Some(pid)) = (self.child.id(), self.pid) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// What a process has had of the processors, in the kernel's ticks.
pub(super) fn processor_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may have anything in it, but nothing behind it has a bracket.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

impl Exit {
    /// Code or signal, for programs to read.
    pub(super) fn details(self) -> serde_json::Value {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => serde_json::json!({ "code": code }),
            (None, Some(signal)) => serde_json::json!({ "signal": signal_name(signal) }),
            (None, None) => serde_json::json!({}),
        }
    }

    /// The shim's own exit code after an exit that nobody asked for: never 0, so that the unit
    /// counts as failed and systemd starts it again whatever `Restart=` says about clean exits.
    pub(super) fn code_when_unexpected(self) -> u8 {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(1).max(1),
            (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            (None, None) => 1,
        }
    }

    /// The app's own exit code; `None` when a signal ended it.
    pub(super) fn code(self) -> Option<u8> {
        self.0.code().and_then(|code| u8::try_from(code).ok())
    }

    /// Whether it ended as a program does that was asked to.
    pub(super) fn is_orderly(self) -> bool {
        let asked_by = [Signal::TERM, Signal::INT].map(Signal::as_raw);
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => code == 0 || asked_by.map(|signal| 128 + signal).contains(&code),
            (None, Some(signal)) => asked_by.contains(&signal),
            (None, None) => false,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(127), _) => write!(f, "exit code 127 (the command was not found)"),
            (Some(126), _) => write!(f, "exit code 126 (the command cannot be run)"),
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {}", signal_name(signal)),
            (None, None) => write!(f, "an unknown status"),
        }
    }
}

fn signal_name(number: i32) -> String {
    let named = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    let found = named.iter().find(|(signal, _)| signal.as_raw() == number);
    found.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> Exit {
        Exit(ExitStatus::from_raw(code << 8))
    }

    fn killed(signal: i32) -> Exit {
        Exit(ExitStatus::from_raw(signal))
    }

    #[test]
    fn an_exit_that_nobody_asked_for_is_a_failure() {
        assert_eq!(exited(0).code_when_unexpected(), 1);
        assert_eq!(exited(3).code_when_unexpected(), 3);
        assert_eq!(exited(255).code_when_unexpected(), 255);
        assert_eq!(killed(9).code_when_unexpected(), 137);
        assert_eq!(killed(11).to_string(), "signal SIGSEGV");
        assert_eq!(killed(40).to_string(), "signal 40");
    }

    #[test]
    fn programs_that_were_asked_end_by_themselves_or_by_the_signal() {
        assert!(exited(0).is_orderly() && exited(143).is_orderly() && exited(130).is_orderly());
        assert!(killed(15).is_orderly() && killed(2).is_orderly());
        assert!(!exited(1).is_orderly() && !killed(9).is_orderly());
    }
}
