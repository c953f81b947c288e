//! `roundsman start`: what it waits for, and when it says that an app is up.

use super::{Fate, Machine, service};
use crate::simulated::deploy::replaced;

#[test]
fn an_app_whose_workers_crash_is_not_up_however_often_it_is_started() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    for number in [1, 2] {
        machine.systemd.loops(&service(number));
        machine.systemd.fates(&service(number), &[Fate::Loops]);
    }
    let said = machine.run("start shop");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("it exited with status 1"), "{said:?}");
    assert!(!said.stdout.contains("is up"), "{said:?}");
    // Nobody waits for further attempts.
    assert_eq!(machine.systemd.state(&service(1)), "inactive");
    machine.must("start shop");
    assert_eq!(machine.systemd.state(&service(1)), "active");
}

#[test]
fn what_crashes_as_soon_as_it_is_ready_was_not_up() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    machine.must("stop shop");
    machine.systemd.fates(&service(1), &[Fate::Crashes]);
    let said = machine.run("start shop");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("shop:1 is ready") && said.stderr.contains("shop:1 FAILED"));
}

#[test]
fn the_first_worker_that_fails_ends_the_wait_for_all() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.must("stop shop");
    machine.systemd.fates(&service(1), &[Fate::Exits(1)]);
    machine.history.hold_up("start shop:2");
    let said = machine.run("start shop");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("shop:1: it exited with status 1"), "{said:?}");
    machine.history.wait_for("stop shop:2");
    machine.history.go_on();
}

#[test]
fn what_a_worker_says_that_is_waited_for_is_passed_on() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    machine.must("stop shop");
    machine.history.hold_up("start shop:1");
    let start = machine.begin("start shop");
    machine.history.wait_for("start shop:1");
    machine
        .systemd
        .says(&service(1), "the app listens on 127.0.0.1:8000, where the front does not");
    start.says("shop:1: the app listens on 127.0.0.1:8000");
    machine.systemd.says(&service(1), "still starting; awaited is the app to listen");
    start.says("shop:1: still starting; awaited is the app to listen");
    // What cannot come any more is not waited for.
    machine.systemd.says(&service(1), "the app's script has ended and does not listen");
    let said = start.end();
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("error: shop:1: the app's script has ended"), "{said:?}");
    machine.history.go_on();
}

#[test]
fn workers_that_run_old_code_are_replaced() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    let said = machine.must("start shop");
    assert_eq!(machine.steps().iter().filter(|step| step.starts_with("restart")).count(), 0);
    assert!(said.stdout.contains("shop is up: 2 workers"), "{said:?}");
    machine.point_at("2");
    let said = machine.must("start shop");
    assert!(said.stdout.contains("shop is up: 2 workers"), "{said:?}");
    let steps = machine.steps();
    let expected = [replaced(1), replaced(2)].concat();
    assert!(steps.windows(expected.len()).any(|window| window == expected), "{steps:?}");
    assert_eq!(machine.releases(2), ["2", "2"]);
}
