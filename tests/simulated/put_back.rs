//! `rollback = true`: what a deploy that fails does to undo itself, and what it says when it cannot.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::deploy::{replaced, stopped};
use super::interrupts::INTERRUPTED;
use super::machine::Running;
use super::{Fate, Machine, service};

/// An app that goes back by itself, pointed at a release in which this worker does not start.
fn broken_for(number: u16, fates: &[Fate]) -> Option<Machine> {
    let machine = Machine::with_shop(2, "rollback = true")?;
    machine.point_at("2");
    machine.systemd.fates(&service(number), fates);
    Some(machine)
}

#[test]
fn the_failed_worker_goes_back_first_and_then_those_that_were_done() {
    let Some(machine) = broken_for(2, &[Fate::Exits(1)]) else { return };
    let said = machine.run("reload shop --settle 0 --json");
    assert_eq!(said.status, 1, "{said:?}");
    let failed = ["drain shop:2", "restart shop:2"].map(str::to_owned);
    let back = [replaced(2), replaced(1)].concat();
    assert_eq!(machine.steps(), [&replaced(1)[..], &failed, &stopped(2), &back].concat());
    assert_eq!(machine.releases(2), ["1", "1"]);
    assert_eq!(machine.points_at(), Path::new("releases/1"));
    let text = "The app is back on the release before; every worker serves.";
    assert!(said.stderr.contains(text), "{said:?}");
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["result"], "failed");
    assert_eq!(report["back"].as_str().map(Path::new), Some(&*machine.release("1")));
    assert_eq!(report["done"], serde_json::json!([]), "none has the new code");
    assert_eq!(machine.run("reload shop --resume").status, 1, "nothing is unfinished");
}

#[test]
fn an_extra_worker_that_failed_leaves_nothing_to_replace() {
    let Some(machine) = broken_for(3, &[Fate::Exits(1)]) else { return };
    let said = machine.run("reload shop --settle 0 --surge 1");
    assert_eq!(said.status, 1, "{said:?}");
    let failed = ["drain shop:3", "restart shop:3"].map(str::to_owned);
    assert_eq!(machine.steps(), [&failed[..], &stopped(3)].concat());
    assert_eq!(machine.points_at(), Path::new("releases/1"));
}

#[test]
fn where_they_ran_this_release_before_there_is_no_way_back() {
    let Some(machine) = Machine::with_shop(2, "rollback = true") else { return };
    machine.systemd.fates(&service(1), &[Fate::Exits(1)]);
    let said = machine.run("reload shop --settle 0");
    assert_eq!(said.status, 1, "{said:?}");
    let text = "It could not go back: it ran this release before, too.";
    assert!(said.stderr.contains(text), "{said:?}");
    assert_eq!(machine.points_at(), Path::new("releases/1"));
}

#[test]
fn a_release_before_that_does_not_run_either_is_said_to_be_so() {
    let Some(machine) = broken_for(1, &[Fate::Exits(1), Fate::Exits(3)]) else { return };
    let said = machine.run("reload shop --settle 0");
    assert_eq!(said.status, 1, "{said:?}");
    let text = "It could not go back: shop:1 does not run it either: it exited with status 3.";
    assert!(said.stderr.contains(text), "{said:?}");
    assert_eq!(machine.releases(2), ["none", "1"], "the other one was not touched");
}

#[test]
fn a_link_that_cannot_be_swapped_is_said_to_be_so() {
    let Some(machine) = broken_for(1, &[Fate::Exits(1)]) else { return };
    machine.history.hold_up("restart shop:1");
    let reload = machine.begin("reload shop --settle 0");
    machine.history.wait_for("restart shop:1");
    // Somebody puts a directory where the link was.
    let link = machine.path("srv/shop/current");
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    machine.history.go_on();
    let said = reload.end();
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("It could not go back: "), "{said:?}");
    assert!(said.stderr.contains("is a directory, not a link"), "{said:?}");
}

/// A deploy on its way back, which starts the worker that has failed with the release before, and gets
/// no further until it may.
fn on_its_way_back(machine: &Machine) -> Running {
    machine.history.hold_up("stop shop:2");
    let reload = machine.begin("reload shop --settle 0");
    machine.history.wait_for("stop shop:2");
    machine.steps();
    machine.history.hold_up("restart shop:2");
    machine.history.let_go("stop shop:2");
    machine.history.wait_for("restart shop:2");
    reload
}

#[test]
fn the_way_back_can_be_interrupted_too() {
    let Some(machine) = broken_for(2, &[Fate::Exits(1)]) else { return };
    let reload = on_its_way_back(&machine);
    reload.signal(Signal::INT);
    reload.says("finishing");
    machine.history.go_on();
    let said = reload.end();
    assert_eq!(said.status, INTERRUPTED, "{said:?}");
    let text = "It could not go back: it was interrupted; roundsman reload shop goes on.";
    assert!(said.stderr.contains(text), "{said:?}");
    assert_eq!(machine.releases(2), ["2", "1"]);
    machine.must("reload shop --settle 0");
    assert_eq!(machine.releases(2), ["1", "1"]);
}

#[test]
fn the_way_back_is_left_at_once_by_a_second_interrupt() {
    let Some(machine) = broken_for(2, &[Fate::Exits(1)]) else { return };
    let reload = on_its_way_back(&machine);
    reload.signal(Signal::INT);
    reload.says("finishing");
    reload.signal(Signal::INT);
    let said = reload.end(); // though the step is held up
    assert_eq!(said.status, INTERRUPTED, "{said:?}");
    assert!(said.stderr.contains("left at once, in the middle of a step"), "{said:?}");
    machine.history.go_on();
    machine.must("reload shop --settle 0");
    assert_eq!(machine.releases(2), ["1", "1"]);
}
