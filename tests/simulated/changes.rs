//! Commands that change how an app runs, and fail or are told to end: they leave exactly what was there
//! before.

use rustix::process::Signal;

use super::{Fate, Machine, service};

/// Which of the first workers serve, each with its socket. None is in between.
fn serving(machine: &Machine, workers: u16) -> Vec<u16> {
    let socket = |number| format!("roundsman-worker@shop:{number}.socket");
    let serves = |number: &u16| {
        let states = [service(*number), socket(*number)].map(|unit| machine.systemd.state(&unit));
        assert_eq!(states[0] == "active", states[1] == "active", "shop:{number}: {states:?}");
        states == ["active"; 2]
    };
    (1..=workers).filter(serves).collect()
}

fn file(machine: &Machine) -> String {
    std::fs::read_to_string(machine.path("etc/roundsman/apps/shop.toml")).unwrap()
}

#[test]
fn fewer_workers_that_do_not_start_leave_those_that_serve() {
    for fates in [&[Fate::Exits(1)][..], &[Fate::Well, Fate::Exits(1)]] {
        let Some(machine) = Machine::with_shop(4, "") else { return };
        let before = file(&machine);
        machine.systemd.fates(&service(fates.len().try_into().unwrap()), &fates[fates.len() - 1..]);
        let said = machine.run("start shop -n 2 --env A=b");
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.stderr.contains("it exited with status 1"), "{said:?}");
        assert_eq!(file(&machine), before);
        assert_eq!(serving(&machine, 5), [1, 2, 3, 4], "{said:?}");
        let steps = machine.steps();
        assert!(!steps.contains(&"stop shop:3".to_owned()), "{steps:?}");
        // Nothing is left of it that a later command would stumble over.
        machine.must("scale shop 5");
        assert_eq!(serving(&machine, 5), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn fewer_workers_that_start_are_as_many_as_were_asked_for() {
    let Some(machine) = Machine::with_shop(4, "") else { return };
    let said = machine.must("start shop -n 2 --env A=b");
    assert!(said.stdout.contains("shop is up: 2 workers"), "{said:?}");
    assert_eq!(serving(&machine, 5), [1, 2]);
    assert!(file(&machine).contains("workers = 2") && file(&machine).contains("A = \"b\""));
}

#[test]
fn more_workers_that_do_not_start_leave_no_sockets() {
    for command in ["start shop -n 5", "scale shop 5"] {
        let Some(machine) = Machine::with_shop(2, "") else { return };
        let before = file(&machine);
        machine.systemd.fates(&service(4), &[Fate::Exits(1)]);
        let said = machine.run(command);
        assert_eq!(said.status, 1, "{command}: {said:?}");
        assert!(said.stderr.contains("shop:4: it exited with status 1"), "{command}: {said:?}");
        assert_eq!(file(&machine), before, "{command}");
        assert_eq!(serving(&machine, 5), [1, 2], "{command}");
        machine.must("scale shop 5");
        assert_eq!(serving(&machine, 5), [1, 2, 3, 4, 5], "{command}");
    }
}

#[test]
fn a_first_start_that_is_told_to_end_leaves_nothing() {
    let Some(machine) = Machine::new() else { return };
    let file = machine.path("etc/roundsman/apps/blog.toml");
    machine.history.hold_up("start blog:1");
    let admin = machine.path("front/admin.sock");
    let start = machine.begin(&format!(
        "start --admin {} --name blog --user nobody -n 2 -- /bin/true",
        admin.display()
    ));
    machine.history.wait_for("start blog:1");
    assert!(file.exists());
    start.signal(Signal::INT);
    let said = start.end();
    machine.history.go_on();
    assert_eq!(said.status, 130, "{said:?}");
    assert!(said.stderr.contains("blog.toml is removed again"), "{said:?}");
    assert!(!file.exists());
    assert!(!machine.systemd.is_enabled("roundsman-app@blog.target"));
    for unit in [
        "worker@blog:1.service",
        "worker@blog:2.service",
        "worker@blog:2.socket",
        "app@blog.target",
    ] {
        assert_ne!(machine.systemd.state(&format!("roundsman-{unit}")), "active", "{unit}");
    }
}

#[test]
fn whoever_does_not_want_to_wait_for_it_leaves() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.history.hold_up("start shop:3");
    let start = machine.begin("start shop -n 3");
    machine.history.wait_for("start shop:3");
    machine.history.hold_up("stop shop:3");
    start.signal(Signal::INT);
    machine.history.wait_for("stop shop:3");
    start.signal(Signal::INT);
    let said = start.end(); // though the step is held up
    assert_eq!(said.status, 130, "{said:?}");
    assert!(said.stderr.contains("shop is not as it was: left in the middle"), "{said:?}");
    machine.history.go_on();
}

#[test]
fn a_worker_that_could_not_come_back_is_not_stopped() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.shop(2, "user = \"no-such-user\"");
    machine.point_at("2");
    for command in ["reload shop", "apply"] {
        let said = machine.run(command);
        assert_eq!(said.status, 1, "{command}: {said:?}");
        let text = "shop could not start again as it is now, so no worker was touched:\n  there is \
                    no user no-such-user: `adduser";
        assert!(said.stderr.contains(text), "{command}: {said:?}");
        assert_eq!(machine.steps(), [""; 0], "{command}");
    }
    machine.shop(2, "");
    machine.systemd.mask(&service(2));
    let said = machine.run("reload shop");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("systemctl unmask 'roundsman-worker@shop:2.service'"), "{said:?}");
    assert_eq!(machine.steps(), [""; 0]);
}

#[test]
fn a_deploy_whose_link_is_pointed_elsewhere_mixes_no_releases() {
    let Some(machine) = Machine::with_shop(3, "") else { return };
    std::fs::create_dir(machine.release("3")).unwrap();
    machine.point_at("2");
    machine.history.hold_up("undrain shop:1");
    let reload = machine.begin("reload shop --settle 0");
    machine.history.wait_for("undrain shop:1");
    machine.point_at("3");
    machine.history.go_on();
    let said = reload.end();
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("has stopped after 1 of 3 workers"), "{said:?}");
    assert_eq!(machine.releases(3), ["2", "1", "1"]);
    machine.must("reload shop --settle 0");
    assert_eq!(machine.releases(3), ["3", "3", "3"]);
}

#[test]
fn an_app_that_was_given_up_is_started_by_a_reload_and_one_that_was_stopped_is_not() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    for number in [1, 2] {
        machine.systemd.fail(&service(number));
    }
    machine.point_at("2");
    machine.must("reload shop");
    assert_eq!(machine.releases(2), ["2", "2"]);
    assert_eq!(serving(&machine, 2), [1, 2]);
    machine.must("stop shop");
    let said = machine.run("reload shop");
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("roundsman start shop"), "{said:?}");
}

/// Writes down where the workers of `shop` were started to listen, as their units do.
fn note(machine: &Machine, address: impl Fn(u16) -> String) {
    for number in [1, 2] {
        machine.write(&format!("run/roundsman/addresses/shop:{number}"), &address(number));
    }
}

#[test]
fn workers_move_one_after_the_other_and_leave_no_socket_behind() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    let socket = |number| format!("unix:/run/roundsman/workers/shop:{number}.sock");
    note(&machine, socket);
    machine.shop(2, "listen = \"port\"\nport = 5000");
    for command in ["diff", "apply --dry-run"] {
        let said = machine.run(command);
        for (number, port) in [(1, 5000), (2, 5001)] {
            let (from, to) = (socket(number), format!("127.0.0.1:{port}"));
            let text = format!("shop:{number} will move from {from} to {to}");
            assert!(said.stdout.contains(&text), "{command}: {said:?}");
        }
    }
    machine.must("reload shop --settle 0");
    let moved = |number: u16| {
        let steps = ["drain shop:N", "stop shop:N.socket", "restart shop:N", "undrain shop:N"];
        steps.map(|step| step.replace('N', &number.to_string()))
    };
    assert_eq!(machine.steps(), [moved(1), moved(2)].concat());
}

#[test]
fn a_worker_that_would_move_to_where_another_listens_is_not_touched() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    note(&machine, |number| format!("127.0.0.1:{}", 4999 + number));
    machine.shop(2, "listen = \"port\"\nport = 5001");
    for command in ["reload shop", "apply"] {
        let said = machine.run(command);
        assert_eq!(said.status, 1, "{command}: {said:?}");
        let text =
            "no worker was touched:\n  shop:1 is to listen on 127.0.0.1:5001, where shop:2 does";
        assert!(said.stderr.contains(text), "{command}: {said:?}");
        assert!(said.stderr.contains("roundsman stop shop"), "{command}: {said:?}");
        assert_eq!(machine.steps(), [""; 0], "{command}");
    }
}
