//! `--hand-over`: the main process waits for what serves, and does not at a restart.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

use super::{directory, get, server, status, upstream};
use crate::common::program::Program;
use crate::common::waiting::{PATIENCE, eventually};

fn start(directory: tempfile::TempDir) -> Program {
    let state = directory.path().join("state");
    // Where systemd does not say that the listeners stay, nobody accepts after the main process's end.
    let bus = std::ffi::OsString::from("unix:path=/nowhere");
    let environment = [
        ("STATE_DIRECTORY", state.clone().into_os_string()),
        ("RUNTIME_DIRECTORY", state.into_os_string()),
        ("DBUS_SYSTEM_BUS_ADDRESS", bus),
    ];
    Program::start_with(directory, &environment, "--hand-over")
}

/// The process that serves.
fn serving(front: &Program) -> Pid {
    let pid = status(front)["pid"].as_u64().and_then(|pid| pid.try_into().ok());
    let serving = pid.and_then(Pid::from_raw).expect("a process");
    assert_ne!(serving, Pid::from_child(&front.process), "it is not the main process");
    serving
}

/// How many say that they are earlier fronts.
fn earlier(front: &Program) -> usize {
    let names = std::fs::read_dir(front.path("state")).unwrap();
    names
        .filter(|n| n.as_ref().unwrap().file_name().to_string_lossy().starts_with("earlier-"))
        .count()
}

#[test]
fn at_a_restart_the_main_process_ends_and_what_is_in_flight_goes_on() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = slow.local_addr().unwrap();
    let (arrived, has_arrived) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let (mut stream, _) = slow.accept().unwrap();
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).unwrap() > 0);
        arrived.send(()).unwrap();
        let _ = wait.recv();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    });
    let directory = directory("");
    upstream(directory.path(), "slow", address, "/");
    let mut front = start(directory);
    let mut client = TcpStream::connect(front.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    has_arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(earlier(&front), 0);

    front.signal(Signal::INT);
    assert_eq!(front.process.wait().unwrap().code(), Some(0));
    assert_eq!(earlier(&front), 1);
    go.send(()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    eventually("it has ended", || earlier(&front) == 0);
}

#[test]
fn the_main_process_ends_as_what_serves_does() {
    for (signal, code) in [(Signal::TERM, Some(0)), (Signal::KILL, None), (Signal::USR1, None)] {
        let directory = directory("");
        upstream(directory.path(), "quick", server("hello"), "/");
        let mut front = start(directory);
        assert_eq!(get(front.address, "/").text(), "hello");
        kill_process(serving(&front), signal).unwrap();
        let end = front.process.wait().unwrap();
        assert_eq!(end.code(), code, "{signal:?}");
        assert_eq!(end.signal(), code.is_none().then(|| signal.as_raw()), "{signal:?}");
    }
}

#[test]
fn what_is_said_to_the_main_process_is_said_to_what_serves() {
    let mut front = start(directory(""));
    front.signal(Signal::HUP);
    let told = front.notified("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    front.signal(Signal::TERM);
    front.notified("STOPPING=1");
    assert_eq!(front.process.wait().unwrap().code(), Some(0));
}

#[test]
fn nobody_serves_without_a_main_process() {
    let mut front = start(directory(""));
    assert!(TcpStream::connect(front.address).is_ok());
    front.signal(Signal::KILL);
    front.process.wait().unwrap();
    eventually("nobody listens", || TcpStream::connect(front.address).is_err());
}

#[test]
fn the_present_front_is_relieved_by_nobody() {
    let front = start(directory(""));
    let output = std::process::Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--unix-socket"])
        .arg(front.path("admin.sock"))
        .arg("http://x/v1/relieve")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "404");
    assert!(TcpStream::connect(front.address).is_ok());
}
