//! `roundsman reload APP`: what it does to workers and front, whatever becomes of them.

use serde_json::Value;

use super::{Fate, Machine, service};

/// What is done to a worker that is replaced.
pub(super) fn replaced(number: u16) -> [String; 3] {
    ["drain", "restart", "undrain"].map(|step| format!("{step} shop:{number}"))
}

/// What is done to one that is stopped.
pub(super) fn stopped(number: u16) -> [String; 3] {
    [
        format!("stop shop:{number}"),
        format!("stop shop:{number}.socket"),
        format!("undrain shop:{number}"),
    ]
}

#[test]
fn workers_are_replaced_one_after_the_other() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.point_at("2");
    let said = machine.must("reload shop --settle 0");
    assert_eq!(machine.steps(), [replaced(1), replaced(2)].concat());
    assert_eq!(machine.releases(2), ["2", "2"]);
    assert!(said.stderr.contains("shop is deployed: 2 of 2 workers run /"), "{said:?}");
    assert!(said.stderr.trim_end().ends_with("/srv/shop/releases/2"), "{said:?}");
    assert!(!machine.path("run/roundsman/deploy/shop.json").exists(), "nothing is unfinished");
    let again = machine.run("reload shop --resume");
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("no unfinished deploy"), "{again:?}");
}

#[test]
fn an_extra_worker_is_there_to_everybody_while_the_deploy_runs() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    let drop_in = machine.path("run/roundsman.d/apps/shop.toml.d/zz-roundsman-deploy.toml");
    machine.history.hold_up("restart shop:2");
    let reload = machine.begin("reload shop --settle 0");
    machine.history.wait_for("restart shop:2");
    let text = std::fs::read_to_string(&drop_in).unwrap();
    assert!(text.contains("workers = 2"), "{text}");
    machine.history.go_on();
    assert_eq!(reload.end().status, 0);
    let expected = [replaced(2), replaced(1), stopped(2)].concat();
    assert_eq!(machine.steps(), expected);
    assert!(!drop_in.exists());
    assert_eq!(machine.systemd.state(&service(2)), "inactive");
}

#[test]
fn the_first_worker_that_fails_ends_it_and_the_others_are_not_touched() {
    let Some(machine) = Machine::with_shop(3, "") else { return };
    machine.point_at("2");
    machine.systemd.fates(&service(2), &[Fate::Exits(1)]);
    let said = machine.run("reload shop --settle 0 --json");
    assert_eq!(said.status, 1);
    let failed = ["drain shop:2", "restart shop:2"].map(str::to_owned);
    assert_eq!(machine.steps(), [&replaced(1)[..], &failed, &stopped(2)].concat());
    assert_eq!(machine.releases(3), ["2", "none", "1"]);
    for text in [
        "shop:2: it exited with status 1",
        "What roundsman-worker@shop:2.service said:\n    journalctl --no-pager",
        "1 of 3 workers runs the new code, the others the old one",
        "roundsman reload shop",
    ] {
        assert!(said.stderr.contains(text), "no \"{text}\" in {said:?}");
    }
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["result"], "failed");
    assert_eq!(report["failed"], 2);
    assert_eq!(report["reason"], "it exited with status 1");
    assert_eq!(report["done"], serde_json::json!([1]));
    // What was done stays done.
    machine.must("reload shop --settle 0 --resume");
    assert_eq!(machine.steps(), [replaced(2), replaced(3)].concat());
}

#[test]
fn an_extra_worker_that_fails_touches_nobody() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.systemd.fates(&service(3), &[Fate::Exits(1)]);
    let said = machine.run("reload shop --settle 0 --surge 1");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("No other worker was touched"), "{said:?}");
    let failed = ["drain shop:3", "restart shop:3"].map(str::to_owned);
    assert_eq!(machine.steps(), [&failed[..], &stopped(3)].concat());
    // systemd does not show it as failed for ever.
    assert_eq!(machine.systemd.state(&service(3)), "inactive");
    assert!(!machine.path("run/roundsman.d/apps/shop.toml.d").exists());
}

#[test]
fn the_only_worker_is_left_to_systemd() {
    let Some(machine) = Machine::with_shop(1, "") else { return };
    machine.systemd.fates(&service(1), &[Fate::Exits(1)]);
    let said = machine.run("reload shop --settle 0 --surge 0");
    assert_eq!(said.status, 1);
    // Its unit drains by itself: to hold the only worker back would be an outage.
    assert_eq!(machine.steps(), ["restart shop:1"]);
}

#[test]
fn a_worker_that_ends_while_it_is_watched_was_not_ready() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.systemd.fates(&service(1), &[Fate::Crashes]);
    machine.history.hold_up("end of shop:1");
    let reload = machine.begin("reload shop --settle 30");
    reload.says("shop:1 is ready, and is watched");
    machine.history.go_on();
    let said = reload.end();
    assert_eq!(said.status, 1);
    let text = "shop:1: it was ready, but then it exited with status 1";
    assert!(said.stderr.contains(text), "{said:?}");
    let failed = ["drain shop:1", "restart shop:1", "end of shop:1"].map(str::to_owned);
    assert_eq!(machine.steps(), [&failed[..], &stopped(1)].concat());
}

#[test]
fn whatever_systemd_says_of_a_worker_is_said_in_words() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    for (fate, words) in [
        (Fate::EndsAtOnce, "shop:1: it ended at once"),
        (Fate::Job("timeout"), "was not done in the time it has"),
        (Fate::Job("canceled"), "something else, a stop for instance, came in between"),
        (Fate::Job("dependency"), "something that it needs did not start"),
        (Fate::Job("skipped"), "systemd skipped it"),
        (Fate::Refused("org.freedesktop.systemd1.NoSuchUnit"), "shop:1: because"),
        (Fate::Refused("org.freedesktop.DBus.Error.AccessDenied"), "systemd does not allow this"),
    ] {
        machine.systemd.fates(&service(1), &[fate]);
        let said = machine.run("reload shop --settle 0");
        assert_eq!(said.status, 1, "{fate:?}: {said:?}");
        assert!(said.stderr.contains(words), "{fate:?}: {said:?}");
        assert!(!machine.steps().iter().any(|step| step.contains("shop:2")), "{fate:?}");
    }
}

#[test]
fn a_bus_that_goes_away_in_the_middle_is_no_reason_to_go_on() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.history.hold_up("restart shop:1");
    let reload = machine.begin("reload shop --settle 0");
    machine.history.wait_for("restart shop:1");
    machine.systemd.hang_up();
    let said = reload.end();
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("cannot reach systemd over D-Bus"), "{said:?}");
    assert!(!machine.steps().iter().any(|step| step.contains("shop:2")));
    // It can be gone on with when the bus is back.
    machine.history.go_on();
    machine.must("reload shop --settle 0 --resume");
    assert_eq!(machine.steps(), [replaced(1), replaced(2)].concat());
}

#[test]
fn without_a_front_there_is_nothing_to_drain() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.front.stop();
    machine.must("reload shop --settle 0");
    assert_eq!(machine.steps(), ["restart shop:1", "restart shop:2"]);
}

#[test]
fn files_that_the_front_refuses_are_not_deployed() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.front.refuse("line 7 is wrong");
    let said = machine.run("reload shop --settle 0");
    assert_eq!(said.status, 78, "{said:?}");
    assert!(said.stderr.contains("line 7 is wrong"), "{said:?}");
    assert_eq!(machine.steps(), [""; 0]);
}

#[test]
fn nothing_is_begun_that_could_not_be_noted() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    std::fs::create_dir_all(machine.path("run/roundsman/deploy/shop.json/in-the-way")).unwrap();
    let said = machine.run("reload shop --settle 0");
    assert_eq!(said.status, 71, "{said:?}");
    assert!(said.stderr.contains("shop.json"), "it says which file: {said:?}");
    assert_eq!(machine.steps(), [""; 0]);
}

#[test]
fn an_app_that_does_not_run_is_not_deployed() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.must("stop shop");
    machine.steps();
    let said = machine.run("reload shop");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("roundsman start shop"), "{said:?}");
    assert_eq!(machine.steps(), [""; 0]);
}

#[test]
fn two_deploys_of_one_app_do_not_interleave() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.history.hold_up("restart shop:1");
    let first = machine.begin("reload shop --settle 0");
    machine.history.wait_for("restart shop:1");
    let second = machine.run("reload shop --settle 0");
    assert_eq!(second.status, 75, "{second:?}");
    assert!(second.stderr.contains("is changing shop right now"), "{second:?}");
    let third = machine.begin("reload shop --settle 0 --wait");
    machine.history.go_on();
    assert_eq!((first.end().status, third.end().status), (0, 0));
    let both = [replaced(1), replaced(2), replaced(1), replaced(2)].concat();
    assert_eq!(machine.steps(), both);
}

#[test]
fn a_single_worker_is_replaced_beside_an_unfinished_deploy() {
    let Some(machine) = Machine::with_shop(3, "") else { return };
    machine.point_at("2");
    machine.systemd.fates(&service(2), &[Fate::Exits(1)]);
    assert_eq!(machine.run("reload shop --settle 0").status, 1);
    machine.steps();
    let said = machine.must("reload shop --settle 0 --worker 3");
    assert!(said.stderr.contains("shop:3 is replaced"), "{said:?}");
    assert_eq!(machine.steps(), replaced(3));
    // The deploy is unfinished still, and has a worker less to do.
    machine.must("reload shop --settle 0 --resume");
    assert_eq!(machine.steps(), replaced(2));
    assert_eq!(machine.releases(3), ["2", "2", "2"]);

    let said = machine.run("reload shop --worker 4");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("there is no worker shop:4; the last one is shop:3"), "{said:?}");
}

#[test]
fn a_single_worker_waits_for_the_end_of_a_deploy_that_left_an_extra_one_in_charge() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.systemd.fates(&service(1), &[Fate::Exits(1)]);
    let said = machine.run("reload shop --settle 0 --surge 1");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("An extra worker serves in its place"), "{said:?}");
    machine.steps();
    let said = machine.run("reload shop --worker 2");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("has left an extra worker in charge"), "{said:?}");
    assert_eq!(machine.steps(), [""; 0]);
    // The next deploy replaces all, and ends it.
    machine.must("reload shop --settle 0");
    assert_eq!(machine.systemd.state(&service(3)), "inactive");
    assert!(!machine.path("run/roundsman.d/apps/shop.toml.d").exists());
}
