//! `mode = "handoff"`: a real front, real shims, real Node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use tempfile::TempDir;

use crate::worker::harness::{PATIENCE, Shim, exchange, node, poll};

/// A front whose only listener belongs to the app `sample`.
struct Front {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Front {
    fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("apps")).unwrap();
        let app =
            format!("command = [\"node\", \"/x.js\"]\nworkers = 2\nmode = \"handoff\"\n{more}");
        std::fs::write(directory.path().join("apps/sample.toml"), app).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundsman"));
        command.arg("serve").arg("--config").arg(directory.path());
        command.arg("--listen").arg(format!("http={address}"));
        command.arg("--admin").arg(directory.path().join("admin.sock"));
        command.arg("--runtime").arg(directory.path().join("run"));
        // Without systemd every worker that is there counts as up.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        let process = command.spawn().unwrap();
        Self { process, address, directory }
    }

    fn base(&self) -> std::path::PathBuf {
        self.directory.path().join("run")
    }

    /// A worker of the app.
    fn worker(&self, number: u16) -> Shim {
        worker(number, &self.base(), "handed.js").ready()
    }

    /// So many clients, each with a request of its own.
    fn ask(&self, count: usize) -> Vec<JoinHandle<String>> {
        let ask = |mut stream: TcpStream| thread::spawn(move || exchange(&mut stream, "/"));
        (0..count).map(|_| ask(self.connect())).collect()
    }

    fn connect(&self) -> TcpStream {
        let stream = poll("the front", || TcpStream::connect(self.address).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Value {
        let text = exchange(&mut self.connect(), path);
        let (_, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn worker(number: u16, base: &Path, app: &str) -> crate::worker::harness::Plan {
    node(app, &[]).beside(number, base).handed_connections()
}

#[test]
fn connections_go_to_the_workers_in_turn_and_the_app_sees_the_client() {
    let front = Front::start("");
    let _workers = [front.worker(1), front.worker(2)];
    poll("both workers", || {
        let pair = [front.get("/"), front.get("/")];
        (pair[0]["worker"] != pair[1]["worker"]).then_some(())
    });
    let mut counts = [0; 2];
    for _ in 0..20 {
        let mut stream = front.connect();
        let own = stream.local_addr().unwrap();
        let text = exchange(&mut stream, "/");
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert!(body["remoteAddress"].as_str().unwrap().ends_with("127.0.0.1"), "{body}");
        assert_eq!(body["remotePort"], own.port());
        counts[usize::from(body["worker"] == "sample:2")] += 1;
    }
    assert_eq!(counts, [10, 10]);
}

#[test]
fn connections_wait_for_a_worker_and_are_closed_when_none_comes() {
    let front = Front::start("");
    let mut waiting = front.connect();
    write!(waiting, "GET / HTTP/1.0\r\n\r\n").unwrap();
    let _worker = front.worker(1);
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("sample:1"), "{answer}");

    let front = Front::start("queue-timeout = \"300ms\"\n");
    let mut waiting = front.connect();
    write!(waiting, "GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = waiting.read_to_end(&mut answer); // the end, or a reset
    assert!(answer.is_empty());
}

#[test]
fn what_a_worker_has_not_accepted_when_it_dies_goes_to_the_next() {
    let front = Front::start("");
    let mut first = front.worker(1);
    poll("the worker", || (front.get("/")["worker"] == "sample:1").then_some(()));
    let mut events = first.events();
    assert_eq!(first.send("\"block\""), "ok");
    assert_eq!(events.message(), "\"blocked\"");
    // All of these are with the worker that does not look at them, or wait behind it.
    let asked = front.ask(40);
    let pid = first.status()["pid"].to_string();
    let _second = front.worker(2);
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    assert_eq!(first.code(), 128 + 9);
    for answer in asked {
        let answer = answer.join().unwrap();
        assert!(answer.contains("sample:2"), "{answer}");
    }
}

#[test]
fn a_worker_that_is_stuck_holds_one_connection() {
    let front = Front::start("");
    let mut first = front.worker(1);
    let _second = front.worker(2);
    poll("both workers", || {
        let pair = [front.get("/"), front.get("/")];
        (pair[0]["worker"] != pair[1]["worker"]).then_some(())
    });
    let mut events = first.events();
    assert_eq!(first.send("\"block\""), "ok");
    assert_eq!(events.message(), "\"blocked\"");
    let asked = front.ask(40);
    let answered = || asked.iter().filter(|asked| asked.is_finished()).count();
    poll("all but one to be answered", || (answered() == 39).then_some(()));
    let pid = first.status()["pid"].to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    assert_eq!(first.code(), 128 + 9);
    for answer in asked {
        assert!(answer.join().unwrap().contains("sample:2"));
    }
}

#[test]
fn a_worker_that_leaves_under_load_loses_nothing() {
    let front = Front::start("");
    let mut first = front.worker(1);
    let _second = front.worker(2);
    let answers = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| (0..40).map(|_| exchange(&mut front.connect(), "/slow")).collect())
            })
            .collect();
        poll("the first worker to be busy", || {
            (front.get("/")["worker"] == "sample:1").then_some(())
        });
        assert_eq!(first.stop(), 0);
        let _again = front.worker(1);
        clients.into_iter().flat_map(|c| -> Vec<String> { c.join().unwrap() }).collect::<Vec<_>>()
    });
    assert_eq!(answers.len(), 320);
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn what_an_app_refuses_is_offered_until_it_is_taken() {
    let front = Front::start("");
    let _worker = worker(1, &front.base(), "few-connections.js").ready(); // two at a time
    let asked = front.ask(20);
    for answer in asked {
        assert!(answer.join().unwrap().ends_with("ok"));
    }
}

#[test]
fn tls_is_the_apps() {
    let front = Front::start("");
    let plan = worker(1, &front.base(), "handed.js");
    let (key, cert) = (plan.file("key.pem"), plan.file("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-days", "2", "-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success());
    let arguments = [key, cert].map(|path| path.display().to_string());
    let _worker = plan.with(|app| app.command.extend(arguments)).ready();
    let url = format!("https://{}/", front.address);
    let out = Command::new("curl").args(["-sk", "--max-time", "60", &url]).output().unwrap();
    let body: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(body["encrypted"], true);
}

#[test]
fn what_is_no_hand_off_harms_nobody() {
    let front = Front::start("");
    let worker = front.worker(1);
    for garbage in [&b"x"[..], &[0; 8], &[0xff; 5]] {
        let mut conversation = worker.control("handoff");
        let mut ready = [0; 5];
        conversation.read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"R\0\0\0\0");
        conversation.get_mut().write_all(garbage).unwrap();
        let _ = conversation.get_mut().shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = conversation.read_to_end(&mut rest);
    }
    assert_eq!(front.get("/")["worker"], "sample:1");
}
