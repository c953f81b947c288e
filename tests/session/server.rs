//! The store under test: the real binary, ended by its process id.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

pub(crate) use crate::common::waiting::eventually;
use crate::session::client::Client;

pub(crate) struct Server {
    pub(crate) directory: TempDir,
    child: Option<Child>,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// Whose mounts it sees: a process of the test's.
    mounts_of: Option<u32>,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut server = Self::prepare(arguments);
        server.start_again();
        server
    }

    /// One that has not been started.
    pub(crate) fn prepare(arguments: &[&str]) -> Self {
        // In memory where that can be had: to survive kill -9 needs no disk, and a disk that others
        // write to may keep fsync waiting for a minute.
        let memory = std::path::Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        builder.prefix("rs");
        let directory =
            if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
        let directory = directory.expect("a directory");
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        Self { directory, child: None, arguments, variables: Vec::new(), mounts_of: None }
    }

    /// Has it, from its next start on, see the mounts that this process sees.
    pub(crate) fn with_mounts_of(&mut self, process: u32) {
        self.mounts_of = Some(process);
    }

    /// Has it, from its next start on, have this variable.
    pub(crate) fn set_variable(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// The binary, where it sees its data.
    fn program(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_roundsman");
        let Some(process) = self.mounts_of else { return Command::new(binary) };
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &process.to_string(), "--", binary]);
        command
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("s.sock")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .expect("a log");
        let child = self
            .program()
            .arg("session")
            .arg("--data")
            .arg(self.data())
            .arg("--listen")
            .arg(self.socket())
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    pub(crate) fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
    }

    /// Whether it came up, where something may be in its way.
    pub(crate) fn try_start(&mut self) -> bool {
        self.spawn();
        while !Client::connect(&self.socket()).is_ok_and(|mut c| c.call(&["ping"]).is_ok()) {
            if self.has_ended() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Whether it has ended, by itself and well or not; it can then be started again.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self
            .child
            .as_mut()
            .is_none_or(|child| child.try_wait().expect("it can be waited for").is_some());
        if ended {
            self.child = None;
        }
        ended
    }

    pub(crate) fn start_again(&mut self) {
        self.spawn();
        let began = Instant::now();
        // The socket takes connections before the store is open; an answer says that it is.
        while !Client::connect(&self.socket()).is_ok_and(|mut c| c.call(&["ping"]).is_ok()) {
            assert!(began.elapsed() < Duration::from_mins(1), "it does not start: {}", self.log());
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().expect("it can be waited for")
            {
                panic!("it ended with {status}: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("it accepts connections")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// SIGTERM; the exit status must be 0.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
        let status = child.wait().expect("it ends");
        assert!(status.success(), "it ended with {status}: {}", self.log());
    }

    /// `roundsman session check`: all must be well.
    pub(crate) fn check(&self) {
        let mut check = self.program();
        check.args(["session", "check", "--data", path(&self.data())]).stdin(Stdio::null());
        let output = check.output().expect("the binary starts");
        assert!(output.status.success(), "{output:?}\n{}", self.log());
    }

    /// Memory that it has resident, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `roundsman session …`: whether it succeeded, and what it printed.
pub(crate) fn tool(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .arg("session")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
