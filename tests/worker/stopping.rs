//! How workers end, asked or not.

use std::io::{Read, Write};
use std::time::Duration;

use crate::worker::harness::{PATIENCE, connect, exchange, node};

#[test]
fn what_is_in_flight_is_finished_first() {
    let mut shim = node("moody.js", &[]).ready();
    let mut stream = shim.connect();
    write!(stream, "GET /slow/700 HTTP/1.0\r\n\r\n").unwrap();
    shim.get("/"); // connections are handed over in turn: the app has the slow one by now
    let request = std::thread::spawn(move || {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    shim.ask_to_stop();
    shim.hear("STOPPING=1");
    assert!(request.join().unwrap().ends_with("slow"));
    assert_eq!(shim.code(), 0);
}

#[test]
fn an_app_with_a_sigterm_handler_cleans_up() {
    let plan = node("graceful.js", &[]);
    let file = plan.file("trace");
    let mut plan = plan;
    plan.app.command.push(file.display().to_string());
    let mut shim = plan.ready();
    let mut stream = shim.connect();
    let request = std::thread::spawn(move || exchange(stream.as_mut(), "/"));
    assert!(request.join().unwrap().ends_with("done"));
    assert_eq!(shim.stop(), 0, "{}", shim.log());
    assert_eq!(std::fs::read_to_string(shim.directory.path().join("trace")).unwrap(), "cleaned up");
}

#[test]
fn an_app_held_by_a_timer_gets_sigterm_once_its_servers_are_closed() {
    // Half of the stop-timeout is beyond any patience: it must not be what is waited for.
    let long = |app: &mut roundsman::config::settings::App| app.stop_timeout = PATIENCE * 4;
    let mut shim = node("held-by-timer.js", &[]).with(long).ready();
    assert_eq!(shim.stop(), 0);
    assert!(shim.log().contains("signal SIGTERM"), "{}", shim.log());
}

#[test]
fn an_app_that_ignores_everything_is_killed_at_the_end_of_its_time() {
    let plan =
        node("ignores-sigterm.js", &[]).with(|app| app.stop_timeout = Duration::from_secs(2));
    let mut shim = plan.ready();
    assert_eq!(shim.stop(), 1);
    assert!(shim.log().contains("it is killed"), "{}", shim.log());
}

#[test]
fn an_app_with_a_way_of_its_own_is_asked_in_it() {
    use roundsman::config::settings::{Shutdown, StopSignal};
    for (shutdown, heard) in [
        (Shutdown::Message, "message shutdown"),
        (Shutdown::Signal(StopSignal::Int), "SIGINT"),
        (Shutdown::Signal(StopSignal::Usr2), "SIGUSR2"),
        (Shutdown::Signal(StopSignal::Term), "SIGTERM"),
    ] {
        let plan = node("own-way.js", &[]).with(|app| app.shutdown = shutdown);
        let file = plan.file("trace");
        let mut plan = plan;
        plan.app.command.push(file.display().to_string());
        let mut shim = plan.ready();
        assert_eq!(shim.get("/"), "ok");
        assert_eq!(shim.stop(), 0, "{}", shim.log());
        // It would have written every other thing that it got before.
        let trace = std::fs::read_to_string(shim.directory.path().join("trace")).unwrap();
        assert_eq!(trace, format!("{heard}\n"), "{shutdown:?}");
    }
}

#[test]
fn asking_again_hurries() {
    let mut shim = node("ignores-sigterm.js", &[]).ready();
    shim.ask_to_stop();
    shim.hear("STOPPING=1");
    shim.ask_to_stop();
    shim.ask_to_stop();
    assert_eq!(shim.code(), 1, "long before its stop-timeout");
}

#[test]
fn a_stop_while_it_starts() {
    let mut shim = node("never-listens.js", &[]).start();
    shim.hear("STATUS=starting");
    assert_eq!(shim.stop(), 0, "{}", shim.log());
    assert!(!shim.was_ready());
}

#[test]
fn an_exit_that_nobody_asked_for_says_how() {
    for (path, code, said) in [
        ("/exit/0", 1, "exit code 0"),
        ("/exit/7", 7, "exit code 7"),
        ("/kill/SIGKILL", 137, "signal SIGKILL"),
    ] {
        let mut shim = node("moody.js", &[]).ready();
        let _ = exchange(shim.connect().as_mut(), path);
        assert_eq!(shim.code(), code);
        assert!(shim.log().contains(said), "{}", shim.log());
    }
}

#[test]
fn an_app_that_leaves_its_cluster_ends_the_unit() {
    for path in ["/disconnect", "/leave"] {
        let mut shim = node("moody.js", &[]).ready();
        let _ = exchange(shim.connect().as_mut(), path);
        assert_eq!(shim.code(), 1, "so that systemd starts it again");
    }
}

#[test]
fn connections_that_come_while_it_stops_wait_for_the_next_one() {
    let plan = node("moody.js", &[]);
    let (plan, listener) = plan.keeping_listener();
    let mut shim = plan.ready();
    assert_eq!(shim.stop(), 0);
    let mut late = connect(listener.local_addr().unwrap());
    let next = node("moody.js", &[]).on(listener).ready();
    assert!(exchange(late.as_mut(), "/").contains("ok "));
    drop(next);
}

#[test]
fn a_server_that_the_app_closes_is_said_to_be_closed() {
    let mut shim = node("moody.js", &[]).ready();
    assert_eq!(shim.get("/again/100"), "again");
    shim.hear("STATUS=the app does not listen");
    shim.hear("STATUS=process ");
    assert_eq!(shim.stop(), 0);
}
