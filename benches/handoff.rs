//! Hand-off mode against Node's own cluster: requests a second with two workers each, in rounds that
//! take turns, so that whatever else the machine does hits both.
//!
//! `make bench-handoff` prints the ratio of each pair of rounds: median, lowest and highest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, thread};

use tokio::time::Instant;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_secs(1);
const CLIENTS: usize = 16;
const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/handoff/app.js");

/// What is measured: the release build, whatever this was built as.
fn binary() -> String {
    std::env::var("ROUNDSMAN").expect("run it by make bench-handoff")
}

/// A process that ends with the bench.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn roundsman(directory: &Path) -> (Vec<Process>, SocketAddr) {
    fs::create_dir(directory.join("apps")).expect("a directory");
    let file = format!("command = [\"node\", \"{APP}\"]\nworkers = 2\nmode = \"handoff\"\n");
    fs::write(directory.join("apps/bench.toml"), file).expect("a file");
    let address = free();
    let program = || {
        let mut command = Command::new(binary());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        command
    };
    let mut front = program();
    front.arg("serve").arg("--config").arg(directory).arg("--runtime").arg(directory);
    front.arg("--admin").arg(directory.join("admin.sock"));
    let mut processes = vec![Process::start(front.arg("--listen").arg(format!("http={address}")))];
    for number in [1, 2] {
        let mut worker = program();
        worker.args(["worker", &format!("bench:{number}")]);
        worker.arg("--config").arg(directory).arg("--runtime").arg(directory);
        processes.push(Process::start(&mut worker));
    }
    (processes, address)
}

fn cluster() -> (Vec<Process>, SocketAddr) {
    let address = free();
    let mut node = Command::new("node");
    node.arg(APP).arg("cluster").env("PORT", address.port().to_string());
    (vec![Process::start(&mut node)], address)
}

/// One request and its answer; whether it went well.
fn ask(stream: &mut TcpStream, close: bool) -> bool {
    let connection = if close { "close" } else { "keep-alive" };
    let request = format!("GET / HTTP/1.1\r\nHost: bench\r\nConnection: {connection}\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        return false;
    }
    let (mut buffer, mut length) = ([0; 4096], 0);
    loop {
        match stream.read(&mut buffer[length..]) {
            Ok(read @ 1..) => length += read,
            _ => return false,
        }
        if buffer[..length].ends_with(b"hello") {
            return buffer.starts_with(b"HTTP/1.1 200");
        }
    }
}

/// Requests a second.
fn measure(address: SocketAddr, close: bool) -> f64 {
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = kept.take().unwrap_or_else(|| {
                        let stream = TcpStream::connect(address).expect("it listens");
                        stream.set_nodelay(true).expect("TCP");
                        stream
                    });
                    assert!(ask(&mut stream, close), "a request failed");
                    done.fetch_add(1, Ordering::Relaxed);
                    if !close {
                        kept = Some(stream);
                    }
                }
            });
        }
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

fn wait(address: SocketAddr) {
    for _ in 0..6000 {
        if TcpStream::connect(address).is_ok_and(|mut stream| ask(&mut stream, true)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{address} does not answer");
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let ((_ours, ours), (_theirs, theirs)) = (roundsman(directory.path()), cluster());
    wait(ours);
    wait(theirs);
    for (what, close) in [("kept alive", false), ("one request a connection", true)] {
        let mut pairs: Vec<(f64, f64)> =
            (0..=ROUNDS).map(|_| (measure(ours, close), measure(theirs, close))).skip(1).collect();
        pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let ratio = |index: usize| pairs[index].0 / pairs[index].1;
        println!(
            "{what}: {:.0} requests a second, Node's cluster {:.0}: {:.2} times as many (median of \
             {ROUNDS} pairs of rounds, {:.2} to {:.2})",
            pairs[ROUNDS / 2].0,
            pairs[ROUNDS / 2].1,
            ratio(ROUNDS / 2),
            ratio(0),
            ratio(ROUNDS - 1)
        );
    }
}
