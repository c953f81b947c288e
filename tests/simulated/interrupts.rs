//! A deploy that is told to end: by Ctrl-C, by a lost terminal, by `systemctl stop`.

use rustix::process::Signal;

use super::Machine;
use super::deploy::{replaced, stopped};

const SIGNALS: [Signal; 3] = [Signal::INT, Signal::HUP, Signal::TERM];

/// `docs/commands.md`: it was interrupted, and can be resumed.
pub(super) const INTERRUPTED: i32 = 130;

#[test]
fn what_has_begun_is_finished_and_nothing_else_is_begun() {
    for signal in SIGNALS {
        for step in replaced(1) {
            let when = format!("{signal:?} at {step}");
            let Some(machine) = Machine::with_shop(3, "") else { return };
            machine.history.hold_up(&step);
            let reload = machine.begin("reload shop --settle 0 --json");
            machine.history.wait_for(&step);
            reload.signal(signal);
            reload.says("finishing what has begun");
            machine.history.go_on();
            let said = reload.end();
            assert_eq!(said.status, INTERRUPTED, "{when}: {said:?}");
            let text = "interrupted: 1 of 3 workers of shop runs the new code";
            assert!(said.stderr.contains(text), "{when}: {said:?}");
            assert!(said.stdout.contains("\"result\": \"interrupted\""), "{when}: {said:?}");
            assert_eq!(machine.steps(), replaced(1), "{when}");
            machine.must("reload shop --settle 0 --resume");
            assert_eq!(machine.steps(), [replaced(2), replaced(3)].concat(), "{when}");
        }
    }
}

#[test]
fn an_extra_worker_is_stopped_before_it_ends() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.history.hold_up("restart shop:3");
    let reload = machine.begin("reload shop --settle 0 --surge 1");
    machine.history.wait_for("restart shop:3");
    reload.signal(Signal::INT);
    reload.says("finishing");
    machine.history.go_on();
    assert_eq!(reload.end().status, INTERRUPTED);
    assert_eq!(machine.steps(), [replaced(3), stopped(3)].concat());
    assert!(!machine.path("run/roundsman.d/apps/shop.toml.d").exists());
}

#[test]
fn it_is_done_when_nothing_was_left_to_do() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.history.hold_up("restart shop:2");
    let reload = machine.begin("reload shop --settle 0");
    machine.history.wait_for("restart shop:2");
    reload.signal(Signal::INT);
    reload.says("finishing");
    machine.history.go_on();
    let said = reload.end();
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(machine.steps(), [replaced(1), replaced(2)].concat());
}

#[test]
fn before_the_first_worker_it_ends_at_once() {
    for step in ["daemon-reload", "reload front"] {
        let Some(machine) = Machine::with_shop(2, "") else { return };
        machine.history.hold_up(step);
        let reload = machine.begin("reload shop --settle 0");
        machine.history.wait_for(step);
        reload.signal(Signal::INT);
        let said = reload.end(); // though the step is held up
        assert_eq!(said.status, INTERRUPTED, "{step}: {said:?}");
        machine.history.go_on();
        machine.must("reload shop --settle 0 --resume");
        assert_eq!(machine.steps(), [replaced(1), replaced(2)].concat(), "{step}");
    }
}

#[test]
fn a_second_one_leaves_at_once() {
    for signal in SIGNALS {
        for step in replaced(1) {
            let when = format!("{signal:?} twice at {step}");
            let Some(machine) = Machine::with_shop(2, "") else { return };
            machine.history.hold_up(&step);
            let reload = machine.begin("reload shop --settle 0");
            machine.history.wait_for(&step);
            reload.signal(signal);
            reload.says("finishing");
            reload.signal(signal);
            let said = reload.end(); // though the step is held up
            assert_eq!(said.status, INTERRUPTED, "{when}: {said:?}");
            let text = "left at once, in the middle of a step; roundsman reload shop --resume";
            assert!(said.stderr.contains(text), "{when}: {said:?}");
            machine.history.go_on();
            machine.steps();
            machine.must("reload shop --settle 0 --resume");
            assert_eq!(machine.steps(), [replaced(1), replaced(2)].concat(), "{when}");
        }
    }
}

#[test]
fn a_command_that_waits_for_another_one_ends_at_once() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.history.hold_up("restart shop:1");
    let first = machine.begin("reload shop --settle 0");
    machine.history.wait_for("restart shop:1");
    let second = machine.begin("reload shop --settle 0 --wait");
    second.signal(Signal::INT);
    let status = second.end().status;
    assert_eq!(status, 128 + 2, "{status}");
    machine.history.go_on();
    assert_eq!(first.end().status, 0);
}
