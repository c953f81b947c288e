//! The watchdog: fed only while the app answers.

use std::thread;
use std::time::Duration;

use roundsman::config::settings::Listen;

use crate::worker::harness::{Plan, node, poll, sample};

const LIMIT: Duration = Duration::from_secs(2);

fn watched(mut plan: Plan) -> Plan {
    plan.watchdog = Some(LIMIT);
    plan
}

#[test]
fn a_blocked_event_loop_is_not_covered_up() {
    for health in [false, true] {
        let mut plan = watched(node("moody.js", &[]));
        let end = plan.file("end");
        plan.app.command.push(end.display().to_string());
        let mut shim = if health { plan.health("/healthz").ready() } else { plan.ready() };
        shim.hear("WATCHDOG=1");
        let mut stream = shim.connect();
        let blocked =
            thread::spawn(move || crate::worker::harness::exchange(stream.as_mut(), "/block"));
        let complaint = "systemd kills and restarts it after 2 s";
        shim.logged(complaint);
        while shim.next_notification().is_some() {}
        poll("a second complaint", || (shim.log().matches(complaint).count() == 2).then_some(()));
        // It may say how long by now, and nothing else.
        let mut said = std::iter::from_fn(|| shim.next_notification());
        assert!(!said.any(|said| said.contains("WATCHDOG=1")), "systemd would kill it now");
        std::fs::write(end, "").unwrap();
        blocked.join().unwrap();
        shim.logged("the app answers again");
        shim.hear("WATCHDOG=1");
        assert_eq!(shim.stop(), 0);
    }
}

#[test]
fn an_app_that_says_it_is_unwell_is_not_stuck() {
    let plan = watched(node("unhealthy-first.js", &[]));
    let file = plan.file("healthy");
    std::fs::write(&file, "").unwrap();
    let mut plan = plan.health("/healthz");
    plan.app.command.push(file.display().to_string());
    let mut shim = plan.ready();
    std::fs::remove_file(file).unwrap();
    let answer = crate::worker::harness::exchange(shim.connect().as_mut(), "/healthz");
    assert!(answer.contains(" 503 "), "{answer}");
    for _ in 0..4 {
        shim.hear("WATCHDOG=1");
    }
}

#[test]
fn an_app_at_its_limit_of_connections_is_not_stuck() {
    let mut shim = watched(node("few-connections.js", &[])).health("/").ready();
    let _held: Vec<_> = (0..2).map(|_| shim.connect()).collect();
    for _ in 0..4 {
        shim.hear("WATCHDOG=1");
    }
}

#[test]
fn a_program_that_cannot_be_asked_is_watched_by_its_process() {
    let command = vec!["python3".to_owned(), sample("listener.py")];
    let mut shim = watched(Plan::new(Listen::Fd, command)).ready();
    for _ in 0..3 {
        shim.hear("WATCHDOG=1");
    }
    poll("an answer", || shim.get("/").starts_with("python ").then_some(()));
}
