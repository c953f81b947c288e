//! Hand-off mode against Node's own cluster: requests a second with two workers each, in rounds that
//! take turns, so that whatever else the machine does hits all; and what a request costs in processor
//! time, which the clients beside them do not change.
//!
//! Beside them Node's cluster without passing (`SCHED_NONE`: workers accept from one socket, in no
//! order): what no way of passing connections can reach.
//!
//! `make bench-handoff` prints the ratio to Node's cluster in each turn: median, lowest and highest.

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

fn cluster(policy: &str) -> (Vec<Process>, SocketAddr) {
    let address = free();
    let mut node = Command::new("node");
    node.arg(APP).arg("cluster").env("PORT", address.port().to_string());
    node.env("NODE_CLUSTER_SCHED_POLICY", policy);
    (vec![Process::start(&mut node)], address)
}

/// Microseconds that a process and its descendants have had of a processor.
fn spent(pid: u32) -> f64 {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten() {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let nanos = read("schedstat");
        sum += nanos.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0) / 1000.0;
        sum +=
            read("children").split(' ').filter_map(|pid| pid.parse().ok()).map(spent).sum::<f64>();
    }
    sum
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

/// Requests a second, and the microseconds that each costs.
type Figures = (f64, f64);

fn measure((processes, address): &(Vec<Process>, SocketAddr), close: bool) -> Figures {
    let cost = || processes.iter().map(|process| spent(process.0.id())).sum::<f64>();
    let before = cost();
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = kept.take().unwrap_or_else(|| {
                        let stream = TcpStream::connect(*address).expect("it listens");
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
    let done = done.load(Ordering::Relaxed) as f64;
    (done / began.elapsed().as_secs_f64(), (cost() - before) / done)
}

/// The median, and the range.
fn summary(mut values: Vec<f64>) -> (f64, String) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    (median, format!("{median:.2} ({:.2} to {:.2})", values[0], values[values.len() - 1]))
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
    let contenders = [
        ("Node's cluster", cluster("rr")),
        ("hand-off mode", roundsman(directory.path())),
        ("Node without passing", cluster("none")),
    ];
    for (_, (_, address)) in &contenders {
        wait(*address);
    }
    for (what, close) in [("kept alive", false), ("one request a connection", true)] {
        let mut turns: Vec<Vec<Figures>> = Vec::new();
        for _ in 0..=ROUNDS {
            turns.push(contenders.iter().map(|(_, it)| measure(it, close)).collect());
        }
        turns.remove(0); // they were cold
        println!("{what}, {ROUNDS} rounds each:");
        for (index, (name, _)) in contenders.iter().enumerate() {
            let of = |figure: fn(Figures, Figures) -> f64| {
                summary(turns.iter().map(|turn| figure(turn[index], turn[0])).collect())
            };
            let (rate, _) = of(|own, _| own.0);
            let (cost, _) = of(|own, _| own.1);
            let (_, ratio) = of(|own, nodes| own.0 / nodes.0);
            let (_, costs) = of(|own, nodes| own.1 / nodes.1);
            println!(
                "  {name}: {rate:.0} requests a second, {ratio} of Node's cluster; {cost:.0} µs each, \
                 {costs}"
            );
        }
    }
}
