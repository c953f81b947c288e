//! The front as a service: what it tells systemd, what it inherits, how it reloads and stops.
//!
//! The test plays systemd: it passes sockets, listens on `NOTIFY_SOCKET`, sends signals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod handover;

use crate::common::backend::Backend;
use crate::common::http::{self, Message};
use crate::common::program;
use crate::common::waiting::PATIENCE;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use program::Program;
use rustix::process::Signal;

const ROUNDSMAN: &str = env!("CARGO_BIN_EXE_roundsman");

/// A configuration, a state directory, and a place for sockets.
fn directory(roundsman_toml: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("etc/upstreams")).unwrap();
    fs::create_dir(directory.path().join("state")).unwrap();
    fs::write(directory.path().join("etc/roundsman.toml"), roundsman_toml).unwrap();
    directory
}

/// Starts the front there; with a watchdog, it is told of one.
fn start(directory: tempfile::TempDir, watchdog: Option<Duration>) -> Program {
    let mut environment = vec![
        ("STATE_DIRECTORY", directory.path().join("state").into_os_string()),
        ("RUNTIME_DIRECTORY", directory.path().join("state").into_os_string()),
    ];
    if let Some(watchdog) = watchdog {
        environment.push(("WATCHDOG_USEC", watchdog.as_micros().to_string().into()));
    }
    Program::start(directory, &environment)
}

/// What `roundsman status` knows.
fn status(front: &Program) -> serde_json::Value {
    let output = front.roundsman(&["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What it answers to one request on a connection of its own.
fn get(address: SocketAddr, path: &str) -> Message {
    http::fetch(address, path, PATIENCE)
}

/// A server that answers every request with `body`.
fn server(body: &'static str) -> SocketAddr {
    Backend::named(body).address
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
    let front = start(directory, None);
    assert_eq!(get(front.address, "/").text(), "hello");
    let status = status(&front);
    assert_eq!(status["listeners"][0]["name"], "http");
    assert_eq!(status["listeners"][0]["address"], front.address.to_string());
    assert_eq!(status["upstreams"][0]["servers"][0]["state"], "up");
    let text = String::from_utf8(front.roundsman(&["status"]).stdout).unwrap();
    assert!(text.contains(&format!("listening on {} (http)", front.address)), "{text}");
}

/// The cookie that a first visit sets.
fn sticky_cookie(front: &Program) -> String {
    get(front.address, "/").cookie().expect("it sets one").to_owned()
}

#[test]
fn sticky_cookies_outlive_a_restart_and_are_not_those_of_another_machine() {
    let server = server("hello");
    let with_state_of = |state: Option<&Program>| {
        let directory = directory("");
        let file = format!(
            "servers = [{{ address = \"{server}\" }}]\nsticky = {{ cookie = \"pin\" }}\nroute = [{{ path = \"/\" }}]\n"
        );
        fs::write(directory.path().join("etc/upstreams/api.toml"), file).unwrap();
        if let Some(other) = state {
            let secret = "state/secret";
            fs::copy(other.path(secret), directory.path().join(secret)).unwrap();
        }
        start(directory, None)
    };
    let first = with_state_of(None);
    let cookie = sticky_cookie(&first);
    assert_eq!(sticky_cookie(&with_state_of(Some(&first))), cookie);
    assert_ne!(sticky_cookie(&with_state_of(None)), cookie);
}

#[test]
fn connections_go_round_the_threads() {
    let directory = directory("[threads]\ncount = 2\n");
    upstream(directory.path(), "api", server("hello"), "/");
    let front = start(directory, None);
    for _ in 0..20 {
        assert_eq!(get(front.address, "/").text(), "hello");
    }
    let status = status(&front);
    let accepted: Vec<_> =
        status["threads"].as_array().unwrap().iter().map(|t| t["accepted"].clone()).collect();
    assert_eq!(accepted, [10, 10]);
}

#[test]
fn a_reload_takes_new_routes_to_work() {
    let directory = directory("");
    upstream(directory.path(), "old", server("old"), "/");
    let front = start(directory, None);
    assert_eq!(get(front.address, "/new/").text(), "old");
    upstream(&front.path(""), "new", server("new"), "/new");
    let output = front.roundsman(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let began = front.notified("RELOADING=1");
    assert!(began.contains("MONOTONIC_USEC="), "{began}");
    front.notified("READY=1");
    assert_eq!(get(front.address, "/new/").text(), "new");
    assert_eq!(get(front.address, "/").text(), "old");
}

#[test]
fn a_bad_configuration_fails_the_reload_and_the_old_one_stays() {
    let directory = directory("");
    upstream(directory.path(), "api", server("hello"), "/");
    let front = start(directory, None);
    fs::write(front.path("etc/roundsman.toml"), "[threads]\ncuont = 1\n").unwrap();
    let output = front.roundsman(&["reload"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cuont") && text.contains("roundsman.toml"), "{text}");
    front.notified("RELOADING=1");
    // Also after a failure, systemd waits for it; and `systemctl reload` shows no errors itself.
    let status = front.notified("READY=1");
    assert!(status.contains("THE LAST RELOAD WAS REFUSED"), "{status}");
    assert_eq!(get(front.address, "/").text(), "hello");
}

#[test]
fn a_hang_up_reloads_too() {
    let directory = directory("");
    upstream(directory.path(), "old", server("old"), "/");
    let front = start(directory, None);
    upstream(&front.path(""), "new", server("new"), "/new");
    front.signal(Signal::HUP);
    front.notified("RELOADING=1");
    front.notified("READY=1");
    assert_eq!(get(front.address, "/new").text(), "new");
}

#[test]
fn starts_with_the_last_good_configuration_when_the_present_one_is_broken() {
    let first = directory("");
    upstream(first.path(), "api", server("hello"), "/");
    let mut front = start(first, None);
    front.signal(Signal::TERM);
    assert!(front.process.wait().unwrap().success());
    let broken = tempfile::tempdir().unwrap();
    fs::create_dir(broken.path().join("etc")).unwrap();
    fs::write(broken.path().join("etc/roundsman.toml"), "= what").unwrap();
    fs::rename(front.path("state"), broken.path().join("state")).unwrap();

    let front = start(broken, None);
    assert_eq!(get(front.address, "/").text(), "hello");
    assert_eq!(status(&front)["last_good"], true);
}

#[test]
fn a_worker_that_was_drained_by_hand_stays_so_when_the_front_restarts() {
    let app = "command = [\"/bin/true\"]\nlisten = \"fd\"\nworkers = 2\n";
    let again = |before: Option<Program>| {
        let directory = directory("");
        fs::create_dir(directory.path().join("etc/apps")).unwrap();
        fs::write(directory.path().join("etc/apps/shop.toml"), app).unwrap();
        if let Some(mut before) = before {
            before.signal(Signal::KILL);
            before.process.wait().unwrap();
            fs::remove_dir(directory.path().join("state")).unwrap();
            fs::rename(before.path("state"), directory.path().join("state")).unwrap();
        }
        start(directory, None)
    };
    let is_drained = |front: &Program| status(front).to_string().contains("\"draining\"");
    let front = again(None);
    assert!(!is_drained(&front));
    assert!(front.roundsman(&["drain", "shop:1"]).status.success());
    assert!(is_drained(&front));
    let front = again(Some(front));
    assert!(is_drained(&front), "{}", status(&front));
    assert!(front.roundsman(&["undrain", "shop:1"]).status.success());
    let front = again(Some(front));
    assert!(!is_drained(&front), "{}", status(&front));
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
    let mut front = start(directory, None);
    let address = front.address;
    let client = std::thread::spawn(move || get(address, "/"));
    let (mut server, _) = slow.accept().unwrap();
    let mut head = [0; 1024];
    assert!(server.read(&mut head).unwrap() > 0);

    front.signal(Signal::TERM);
    front.notified("STOPPING=1");
    assert!(front.process.try_wait().unwrap().is_none(), "a request is in flight");
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    assert_eq!(client.join().unwrap().text(), "done");
    assert!(front.process.wait().unwrap().success());
}

#[test]
fn the_watchdog_is_fed() {
    let directory = directory("");
    let front = start(directory, Some(Duration::from_secs(4)));
    front.notified("WATCHDOG=1");
    front.notified("WATCHDOG=1");
}
