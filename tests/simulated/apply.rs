//! `roundsman apply`, `diff` and the other commands that compare or ask.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::deploy::replaced;
use super::{Fate, Machine, service};

/// A machine that is not as its files say: `shop` has a worker too many and another release, `blog`
/// does not run, and `old` has no file.
fn drifted() -> Option<Machine> {
    let machine = Machine::with_shop(3, "")?;
    machine.point_at("2");
    machine.shop(2, "");
    machine.write(
        "etc/roundsman/apps/blog.toml",
        "command = [\"/bin/true\"]\nworkers = 1\nroute = [{ host = \"blog.example\" }]\n",
    );
    machine.systemd.run("roundsman-worker@old:1.service");
    machine.systemd.run("roundsman-worker@old:1.socket");
    machine.systemd.run("roundsman-app@old.target");
    machine.systemd.enable("roundsman-app@old.target");
    Some(machine)
}

/// What is to be done there, in words that `apply`, its dry run and `diff` share.
const STEPS: [&str; 5] = [
    "blog does not start at boot: enable it",
    "blog: start worker 1",
    "shop: stop worker 3",
    "shop: replace its workers one after the other:",
    "old has no file: stop it and all its workers",
];

#[test]
fn a_dry_run_says_everything_and_does_nothing() {
    let Some(machine) = drifted() else { return };
    let before = machine.releases(3);
    for command in ["apply --dry-run", "diff"] {
        let said = machine.run(command);
        assert_eq!(said.status, i32::from(command == "diff"), "{said:?}");
        for step in STEPS {
            assert!(said.stdout.contains(step), "no \"{step}\" in {said:?}");
        }
        assert_eq!(machine.history.take(), [""; 0], "{command} changes nothing");
    }
    assert_eq!(machine.releases(3), before);
    let said = machine.must("apply --dry-run --json");
    let steps: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
    let kinds: Vec<_> = steps.iter().map(|step| json!([step["step"], step["app"]])).collect();
    let expected = [
        json!(["enable", "blog"]),
        json!(["start", "blog"]),
        json!(["stop", "shop"]),
        json!(["replace", "shop"]),
        json!(["remove", "old"]),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(machine.history.take(), [""; 0]);
}

#[test]
fn what_it_said_is_done_and_then_nothing_is_left_to_do() {
    let Some(machine) = drifted() else { return };
    machine.must("apply");
    let started = ["start blog:1", "start blog:1.socket"];
    let steps = machine.steps();
    let at =
        |step: &str| steps.iter().position(|s| s == step).unwrap_or_else(|| panic!("{steps:?}"));
    assert!(started.iter().all(|step| at(step) < at("stop old.target")), "{steps:?}");
    // Of the one app; others are taken at the same time.
    let of_shop: Vec<&String> = steps.iter().filter(|step| step.contains("shop:")).collect();
    let replaced = [replaced(1), replaced(2)].concat();
    assert!(
        of_shop.windows(replaced.len()).any(|window| window.iter().copied().eq(&replaced)),
        "{steps:?}"
    );
    assert!(at("stop old.target") < at("disable old.target"), "{steps:?}");
    assert_eq!(machine.releases(3), ["2", "2", "none"]);
    assert_eq!(machine.systemd.state("roundsman-worker@blog:1.service"), "active");
    assert_eq!(machine.systemd.state("roundsman-worker@old:1.service"), "inactive");
    assert!(machine.systemd.is_enabled("roundsman-app@blog.target"));
    assert!(!machine.systemd.is_enabled("roundsman-app@old.target"));
    assert_eq!(machine.must("diff").stdout, "the machine is as the files say\n");
}

#[test]
fn the_sockets_of_an_app_without_a_file_are_closed_too() {
    let Some(machine) = drifted() else { return };
    machine.must("apply");
    assert_eq!(machine.systemd.state("roundsman-worker@old:1.socket"), "inactive");
}

#[test]
fn one_app_that_fails_does_not_keep_the_others_from_it() {
    let Some(machine) = drifted() else { return };
    machine.systemd.fates("roundsman-worker@blog:1.service", &[Fate::Exits(1)]);
    let said = machine.run("apply");
    assert_eq!(said.status, 1, "{said:?}");
    for text in ["error: blog:1: it exited with status 1", "blog: start worker 1 failed, see above"]
    {
        assert!(said.stderr.contains(text), "{said:?}");
    }
    assert_eq!(machine.releases(3), ["2", "2", "none"]);
    assert!(!machine.systemd.is_enabled("roundsman-app@old.target"));
}

#[test]
fn told_to_end_it_begins_with_no_further_step() {
    let Some(machine) = drifted() else { return };
    machine.history.hold_up("restart shop:1");
    let apply = machine.begin("apply");
    machine.history.wait_for("restart shop:1");
    apply.signal(Signal::INT);
    apply.says("finishing what has begun");
    machine.history.go_on();
    let said = apply.end();
    assert_eq!(said.status, 130, "{said:?}");
    assert!(said.stderr.contains("interrupted before: old has no file"), "{said:?}");
    assert_eq!(machine.releases(2), ["2", "1"]);
    assert_eq!(machine.systemd.state("roundsman-worker@old:1.service"), "active");
    machine.must("apply");
    assert_eq!(machine.must("diff").stdout, "the machine is as the files say\n");
}

/// An app whose worker takes its time to stop, for ever if it likes, is no other app's business.
#[test]
fn apps_are_brought_up_beside_each_other() {
    let Some(machine) = drifted() else { return };
    for app in ["zebra", "zoo"] {
        let text = format!("command = [\"/bin/true\"]\nroute = [{{ host = \"{app}\" }}]\n");
        machine.write(&format!("etc/roundsman/apps/{app}.toml"), &text);
    }
    machine.history.hold_up("stop shop:3");
    machine.history.hold_up("start zebra:1");
    let apply = machine.begin("apply");
    for step in ["stop shop:3", "start zebra:1", "start zoo:1"] {
        machine.history.wait_for(step);
    }
    machine.history.go_on();
    assert_eq!(apply.end().status, 0);
    assert_eq!(machine.must("diff").stdout, "the machine is as the files say\n");
}

#[test]
fn that_all_is_well_is_said_once() {
    let Some(machine) = drifted() else { return };
    for _ in 0..2 {
        let said = machine.must("apply");
        let all = format!("{}{}", said.stdout, said.stderr);
        assert_eq!(all.matches("the machine is as the files say").count(), 1, "{said:?}");
    }
}

#[test]
fn a_worker_without_its_socket_is_a_difference_that_is_mended() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.systemd.fail("roundsman-worker@shop:2.socket");
    let said = machine.run("diff");
    assert_eq!(said.status, 1, "{said:?}");
    let text = "shop:2 runs without its socket, whose unit is failed: its next start would fail";
    assert!(said.stdout.contains(text), "{said:?}");
    machine.must("apply");
    assert_eq!(machine.systemd.state("roundsman-worker@shop:2.socket"), "active");
    assert_eq!(machine.systemd.state(&service(2)), "active");
    assert_eq!(machine.must("diff").stdout, "the machine is as the files say\n");
}

#[test]
fn files_with_errors_are_applied_to_nothing() {
    let Some(machine) = drifted() else { return };
    machine.write("etc/roundsman/apps/blog.toml", "nonsense = 1\n");
    for command in ["apply", "apply --dry-run", "diff"] {
        let said = machine.run(command);
        assert_eq!(said.status, 78, "{command}: {said:?}");
        assert!(said.stderr.contains("nonsense"), "{command}: {said:?}");
    }
    assert_eq!(machine.history.take(), [""; 0]);
}

#[test]
fn logs_ask_the_journal_for_these_workers() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    let of = |numbers: &[u16]| {
        let each = |field: &str| {
            let unit = |number| format!("{field}=roundsman-worker@shop:{number}.service");
            numbers.iter().map(unit).collect::<Vec<_>>().join(" ")
        };
        let (own, systemds, crashes) = (each("_SYSTEMD_UNIT"), each("UNIT"), each("COREDUMP_UNIT"));
        let slice = r"_SYSTEMD_SLICE=system-systemd\x2dcoredump.slice";
        format!("{own} + {systemds} _PID=1 + {crashes} {slice}")
    };
    let (all, second) = (of(&[1, 2, 3]), of(&[2]));
    for (command, asked) in [
        ("logs shop", format!("{all} --lines=50")),
        ("logs shop -f", format!("{all} --follow --lines=50")),
        ("logs shop --follow -n 7", format!("{all} --follow --lines=7")),
        ("logs shop:2 --since today", format!("{second} --since today")),
        (
            "logs shop:2 -S today -n 3 --json",
            format!("{second} --since today --lines=3 --output=json"),
        ),
    ] {
        assert_eq!(machine.must(command).stdout, format!("journalctl {asked}\n"), "{command}");
    }
    assert_eq!(machine.run("logs nobody").status, 1);
    assert_eq!(machine.run("logs shop:x").status, 1);
}

/// `docs/commands.md`, "Exit statuses"; the others are where they come about.
#[test]
fn what_cannot_be_reached_or_is_not_allowed_has_a_status_of_its_own() {
    let Some(machine) = Machine::with_shop(2, "") else { return };
    machine.systemd.deny();
    for command in ["stop shop", "restart shop", "reload shop", "apply", "start shop"] {
        let said = machine.run(command);
        assert_eq!(said.status, 77, "{command}: {said:?}");
        assert!(said.stderr.contains("systemd does not allow this"), "{command}: {said:?}");
    }
    machine.steps();
    std::fs::remove_file(machine.path("front/admin.sock")).unwrap();
    for command in ["reload", "status", "drain shop", "undrain shop", "explain --host a"] {
        let said = machine.run(command);
        assert_eq!(said.status, 69, "{command}: {said:?}");
        assert!(said.stderr.contains("cannot reach the front"), "{command}: {said:?}");
    }
    std::fs::remove_file(machine.path("bus")).unwrap();
    for command in ["stop shop", "reload shop", "apply", "diff", "describe shop", "scale shop 3"] {
        let said = machine.run(command);
        assert_eq!(said.status, 69, "{command}: {said:?}");
        assert!(said.stderr.contains("cannot reach systemd"), "{command}: {said:?}");
    }
    assert_eq!(machine.steps(), [""; 0]);
    assert_eq!(machine.systemd.state(&service(1)), "active");
}
