//! The front as a service: what it tells systemd, what it inherits, how it reloads and stops.
//!
//! The test plays systemd: it passes sockets, listens on `NOTIFY_SOCKET`, sends signals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

const ROUNDSMAN: &str = env!("CARGO_BIN_EXE_roundsman");

/// Longer than anything takes on a loaded machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_mins(1);

struct Front {
    process: Child,
    directory: tempfile::TempDir,
    notifications: UnixDatagram,
    address: SocketAddr,
}

/// A configuration, a state directory, and a place for sockets.
fn directory(roundsman_toml: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("etc/upstreams")).unwrap();
    fs::create_dir(directory.path().join("state")).unwrap();
    fs::write(directory.path().join("etc/roundsman.toml"), roundsman_toml).unwrap();
    directory
}

impl Front {
    /// Starts a front on an inherited socket, as systemd would, and waits for `READY=1`.
    fn start(directory: tempfile::TempDir, watchdog: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = OwnedFd::from(listener);
        fcntl_setfd(&listener, FdFlags::empty()).unwrap(); // the child inherits it
        let notify = directory.path().join("notify");
        let notifications = UnixDatagram::bind(&notify).unwrap();
        notifications.set_read_timeout(Some(PATIENCE)).unwrap();
        // The shell puts the socket where systemd would, and says that it is for this process.
        let script = format!(
            "exec 3<&{} && LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec {ROUNDSMAN} serve \
             --config {root}/etc --admin {root}/admin.sock",
            listener.as_raw_fd(),
            root = directory.path().display(),
        );
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .env("NOTIFY_SOCKET", &notify)
            .env("STATE_DIRECTORY", directory.path().join("state"))
            .stdin(Stdio::null());
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        let process = command.spawn().unwrap();
        let front = Self { process, directory, notifications, address };
        front.notified("READY=1");
        front
    }

    /// Waits for a notification that has this line, and returns it whole.
    fn notified(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let size = self
                .notifications
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("no notification {line}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
            if text.lines().any(|l| l == line) {
                return text;
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn roundsman(&self, args: &[&str]) -> Output {
        Command::new(ROUNDSMAN)
            .args(args)
            .arg("--admin")
            .arg(self.path("admin.sock"))
            .output()
            .unwrap()
    }

    fn status(&self) -> serde_json::Value {
        let output = self.roundsman(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn get(&self, path: &str) -> String {
        get(self.address, path)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One request on a connection of its own; the whole response.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// A server that answers every request with `body`, for as long as the test runs.
fn server(body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let length = body.len();
                        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
                            .unwrap();
                    }
                }
            });
        }
    });
    address
}

fn upstream(root: &Path, name: &str, address: SocketAddr, path: &str) {
    fs::write(
        root.join(format!("etc/upstreams/{name}.toml")),
        format!("servers = [{{ address = \"{address}\" }}]\nroute = [{{ path = \"{path}\" }}]\n"),
    )
    .unwrap();
}

#[test]
fn without_a_listener_it_says_how_to_get_one() {
    let directory = directory("");
    let output = Command::new(ROUNDSMAN)
        .args(["serve", "--config"])
        .arg(directory.path().join("etc"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("roundsman-http.socket") && text.contains("--listen"), "{text}");
}

#[test]
fn serves_on_an_inherited_socket_and_says_so() {
    let directory = directory("");
    upstream(directory.path(), "api", server("hello"), "/");
    let front = Front::start(directory, None);
    assert!(front.get("/").ends_with("hello"));
    let status = front.status();
    assert_eq!(status["listeners"][0]["name"], "http");
    assert_eq!(status["listeners"][0]["address"], front.address.to_string());
    assert_eq!(status["upstreams"][0]["servers"][0]["state"], "up");
    let text = String::from_utf8(front.roundsman(&["status"]).stdout).unwrap();
    assert!(text.contains(&format!("listening on {} (http)", front.address)), "{text}");
}

#[test]
fn connections_go_round_the_threads() {
    let directory = directory("[threads]\ncount = 2\n");
    upstream(directory.path(), "api", server("hello"), "/");
    let front = Front::start(directory, None);
    for _ in 0..20 {
        assert!(front.get("/").ends_with("hello"));
    }
    let status = front.status();
    let accepted: Vec<_> =
        status["threads"].as_array().unwrap().iter().map(|t| t["accepted"].clone()).collect();
    assert_eq!(accepted, [10, 10]);
}

#[test]
fn a_reload_takes_new_routes_to_work() {
    let directory = directory("");
    upstream(directory.path(), "old", server("old"), "/");
    let front = Front::start(directory, None);
    assert!(front.get("/new/").ends_with("old"));
    upstream(front.directory.path(), "new", server("new"), "/new");
    let output = front.roundsman(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let began = front.notified("RELOADING=1");
    assert!(began.contains("MONOTONIC_USEC="), "{began}");
    front.notified("READY=1");
    assert!(front.get("/new/").ends_with("new"));
    assert!(front.get("/").ends_with("old"));
}

#[test]
fn a_bad_configuration_fails_the_reload_and_the_old_one_stays() {
    let directory = directory("");
    upstream(directory.path(), "api", server("hello"), "/");
    let front = Front::start(directory, None);
    fs::write(front.path("etc/roundsman.toml"), "[threads]\ncuont = 1\n").unwrap();
    let output = front.roundsman(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cuont") && text.contains("roundsman.toml"), "{text}");
    front.notified("RELOADING=1");
    front.notified("READY=1"); // also after a failure: systemd waits for it
    assert!(front.get("/").ends_with("hello"));
}

#[test]
fn a_hang_up_reloads_too() {
    let directory = directory("");
    upstream(directory.path(), "old", server("old"), "/");
    let front = Front::start(directory, None);
    upstream(front.directory.path(), "new", server("new"), "/new");
    front.signal(Signal::HUP);
    front.notified("RELOADING=1");
    front.notified("READY=1");
    assert!(front.get("/new").ends_with("new"));
}

#[test]
fn starts_with_the_last_good_configuration_when_the_present_one_is_broken() {
    let first = directory("");
    upstream(first.path(), "api", server("hello"), "/");
    let mut front = Front::start(first, None);
    front.signal(Signal::TERM);
    assert!(front.process.wait().unwrap().success());
    let broken = tempfile::tempdir().unwrap();
    fs::create_dir(broken.path().join("etc")).unwrap();
    fs::write(broken.path().join("etc/roundsman.toml"), "= what").unwrap();
    fs::rename(front.path("state"), broken.path().join("state")).unwrap();

    let front = Front::start(broken, None);
    assert!(front.get("/").ends_with("hello"));
    assert_eq!(front.status()["last_good"], true);
}

#[test]
fn without_a_last_good_one_a_broken_configuration_is_fatal_and_every_error_is_shown() {
    let directory = directory("nonsense = 1\n");
    fs::write(directory.path().join("etc/upstreams/api.toml"), "servers = 7\n").unwrap();
    let output = Command::new(ROUNDSMAN)
        .args(["serve", "--listen", "http=127.0.0.1:0", "--config"])
        .arg(directory.path().join("etc"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("nonsense") && text.contains("api.toml"), "{text}");
}

#[test]
fn stops_when_told_to_and_finishes_what_is_in_flight() {
    let directory = directory("");
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    upstream(directory.path(), "slow", slow.local_addr().unwrap(), "/");
    let mut front = Front::start(directory, None);
    let address = front.address;
    let client = std::thread::spawn(move || get(address, "/"));
    let (mut server, _) = slow.accept().unwrap();
    let mut head = [0; 1024];
    assert!(server.read(&mut head).unwrap() > 0);

    front.signal(Signal::TERM);
    front.notified("STOPPING=1");
    assert!(front.process.try_wait().unwrap().is_none(), "a request is in flight");
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    assert!(client.join().unwrap().ends_with("done"));
    assert!(front.process.wait().unwrap().success());
}

#[test]
fn the_watchdog_is_fed() {
    let directory = directory("");
    let front = Front::start(directory, Some(Duration::from_secs(4)));
    front.notified("WATCHDOG=1");
    front.notified("WATCHDOG=1");
}
