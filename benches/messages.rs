//! How many messages a second one worker can broadcast to another: real shims, real Node.
//!
//! `make bench-messages` prints the median of the rounds, and the slowest and the fastest one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use roundsman::base::paths;
use roundsman::worker::control::client;
use serde_json::Value;

const ROUNDS: usize = 9;
const MESSAGES: u64 = 200_000;

/// What is measured: the release build, whatever this was built as.
fn program() -> String {
    std::env::var("ROUNDSMAN").expect("run it by make bench-messages")
}

/// A shim that ends with the bench.
struct Worker(Child);

fn start(directory: &Path, number: u16) -> Worker {
    let mut command = Command::new(program());
    command.args(["worker", &format!("bench:{number}"), "--listen", "127.0.0.1:0"]);
    command.arg("--config").arg(directory).arg("--runtime").arg(directory);
    Worker(command.spawn().expect("the shim starts"))
}

fn connect(directory: &Path, number: u16, first: &str) -> BufReader<UnixStream> {
    for _ in 0..6000 {
        if let Ok(mut stream) =
            UnixStream::connect(paths::control_socket(directory, "bench", number))
        {
            writeln!(stream, "{first}").expect("the shim reads");
            return BufReader::new(stream);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("worker {number} has no control socket");
}

fn send(directory: &Path, number: u16, message: &str) {
    let mut conversation = connect(directory, number, "send");
    writeln!(conversation.get_mut(), "{message}").expect("the shim reads");
    let mut answer = String::new();
    conversation.read_line(&mut answer).expect("an answer");
    assert_eq!(answer, "ok\n");
}

fn message(events: &mut BufReader<UnixStream>) -> Value {
    loop {
        let mut line = String::new();
        assert!(events.read_line(&mut line).expect("an event") > 0, "the worker has ended");
        let mut event: Value = serde_json::from_str(&line).expect("JSON");
        if event["event"] == "message" {
            return event["message"].take();
        }
    }
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    fs::create_dir(directory.join("apps")).expect("a directory");
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/messages/app.js");
    let file = format!("command = [\"node\", \"{app}\"]\nworkers = 2\n");
    fs::write(directory.join("apps/bench.toml"), file).expect("a file");
    let _workers = [start(directory, 1), start(directory, 2)];
    let mut events = connect(directory, 2, "events 0");
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            send(directory, 2, &format!("{{\"await\":{MESSAGES}}}"));
            assert_eq!(message(&mut events), "awaiting");
            send(directory, 1, &format!("{{\"send\":{MESSAGES}}}"));
            let seconds = message(&mut events)["seconds"].as_f64().expect("a number");
            MESSAGES as f64 / seconds
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    for number in [1, 2] {
        let dropped = client::dropped(directory, "bench", number).expect("it runs");
        assert!(dropped.is_none(), "bench:{number}: {dropped}");
    }
    println!(
        "messages from one worker to another: {:.0} a second (median of {ROUNDS} rounds of {MESSAGES}, \
         {:.0} to {:.0}), none dropped",
        rates[ROUNDS / 2],
        rates[0],
        rates[ROUNDS - 1]
    );
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill(); // its app is killed with it
        let _ = self.0.wait();
    }
}
