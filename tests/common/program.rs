//! The front as a process of its own: the test plays systemd, passes the socket on which clients
//! connect, and listens on `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::http::{Message, Reader};
use super::waiting::PATIENCE;

/// A running front, which ends with the value.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) process: Child,
    /// Configuration in `etc`, and what it makes: `admin.sock`, `stderr`.
    directory: TempDir,
    notifications: UnixDatagram,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts the front of `directory`/etc on an inherited socket and waits for `READY=1`.
    pub(crate) fn start<V: AsRef<OsStr>>(directory: TempDir, environment: &[(&str, V)]) -> Self {
        Self::start_with(directory, environment, "")
    }

    /// The same with more arguments.
    pub(crate) fn start_with<V: AsRef<OsStr>>(
        directory: TempDir,
        environment: &[(&str, V)],
        arguments: &str,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        // systemd's backlog; in a short one the kernel forgets who waits with nothing to say.
        rustix::net::listen(&listener, 4096).expect("it is bound");
        let listener = OwnedFd::from(listener);
        fcntl_setfd(&listener, FdFlags::empty()).expect("the child inherits it");
        let notify = directory.path().join("notify");
        let notifications = UnixDatagram::bind(&notify).expect("a socket");
        notifications.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // The shell puts the socket where systemd would, and says that it is for this process.
        let script = format!(
            "exec 3<&{} && LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec {} serve \
             --config {root}/etc --admin {root}/admin.sock {arguments} 2> {root}/stderr",
            listener.as_raw_fd(),
            env!("CARGO_BIN_EXE_roundsman"),
            root = directory.path().display(),
        );
        let process = Command::new("bash")
            .args(["-c", &script])
            .env("NOTIFY_SOCKET", &notify)
            .envs(environment.iter().map(|(name, value)| (name, value.as_ref())))
            .stdin(Stdio::null())
            .spawn()
            .expect("bash is there");
        let program = Self { process, directory, notifications, address };
        program.notified("READY=1");
        program
    }

    /// Waits for a notification that has this line, and returns it whole.
    pub(crate) fn notified(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let size = self.notifications.recv(&mut buffer).unwrap_or_else(|error| {
                let log = std::fs::read_to_string(self.path("stderr")).unwrap_or_default();
                panic!("no notification {line}: {error}\n{log}")
            });
            let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
            if text.lines().any(|l| l == line) {
                return text;
            }
        }
    }

    /// The socket of its notifications, for who reads all of them.
    pub(crate) fn notifications(&self) -> UnixDatagram {
        self.notifications.try_clone().expect("descriptors are left")
    }

    /// Runs `roundsman` with these arguments against it.
    pub(crate) fn roundsman(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_roundsman"))
            .args(args)
            .arg("--admin")
            .arg(self.path("admin.sock"))
            .output()
            .expect("it runs")
    }

    /// What its admin socket answers to a method with a path, and a body.
    #[track_caller]
    pub(crate) fn admin(&self, method_and_path: &str, body: &str) -> Message {
        let socket = UnixStream::connect(self.path("admin.sock")).expect("it listens there");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let length = body.len();
        let head = format!("{method_and_path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
        Reader::new(socket).ask(format!("{head}\r\n{body}")).expect("an answer")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it is our child");
    }

    /// A file of its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
