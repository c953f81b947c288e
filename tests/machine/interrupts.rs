//! The command that deploys, ended at every stage of a roll, politely and not. Whatever it was
//! doing: no request is lost, other workers serve, and `--resume` brings it to its end.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Clients, Machine, on_every_debian_in_soak};
use crate::shop::{install, release, releases, worker};

/// A line of the command's progress, the options it is shown with, what it is doing then, and
/// whether a further worker is certain to come, so that a command that is told to end ends early.
type Stage = (&'static str, &'static str, &'static str, bool);

const STAGES: [Stage; 7] = [
    ("shop:1 drains", "", "draining", true),
    ("shop:1 restarts", "", "restarting", true),
    ("shop:1 is ready, and is watched", "", "proving", true),
    ("shop:1 serves", "", "going on to the next", false),
    ("shop:3 starts, as an extra worker", "--surge 1", "starting the extra worker", true),
    ("shop:3 is ready, and is watched", "--surge 1", "proving the extra worker", true),
    ("shop:3 stops", "--surge 1", "stopping the extra worker", false),
];

/// Ctrl-C, a lost terminal and `systemctl stop` ask for an end; the last one does not ask. That each
/// is heard at every step of a roll is proven on a simulated machine, so these are what a real
/// systemd may make a difference to; `make soak` goes through all stages.
const SIGNALS: [(&str, &[usize]); 4] =
    [("INT", &[1, 5, 3]), ("HUP", &[2]), ("TERM", &[0]), ("KILL", &[0, 1, 5])];

/// The stages at which a signal is sent.
fn stages(some: &[usize]) -> Vec<Stage> {
    match std::env::var("ROUNDSMAN_STAGES") {
        Ok(all) if all == "all" => STAGES.to_vec(),
        _ => some.iter().map(|stage| STAGES[*stage]).collect(),
    }
}

/// `docs/commands.md`: it was interrupted, and can be resumed.
const INTERRUPTED: i32 = 130;

on_every_debian_in_soak! {
    /// Each of them, at these stages.
    fn a_deploy_that_ends_early_harms_nobody(machine: &Machine) {
        install(machine, 2, "");
        let clients = Clients::new(6, 2).with(2, 1, 0).slow(Duration::from_millis(700)).unhurried();
        let load = machine.load(clients);
        load.goes_on_for(100);
        let mut number = 0;
        for (signal, some) in SIGNALS {
            for (line, options, stage, early) in stages(some) {
                let when = format!("{signal} while {stage}");
                number += 1;
                let version = format!("v{number}");
                release(machine, &version, "late:300");
                begin(machine, line, options);
                kill(machine, signal);
                let ended = ended(machine);

                let all = [1, 2].map(|number| worker(machine, number, "ActiveState"));
                assert!(all.contains(&"active".to_owned()), "{when}: {all:?}");
                if signal != "KILL" {
                    // It ended early, where there was anything left to do, and what had begun was
                    // finished.
                    let done = !early && ended.status == 0;
                    assert!(done || ended.status == INTERRUPTED, "{when}: {ended:?}");
                    assert_eq!(done, !ended.text.contains("error: interrupted: "), "{when}: {ended:?}");
                    assert_eq!(all, ["active", "active"], "{when}");
                    assert_eq!(ups(machine), 2, "{when}");
                    assert_eq!(worker(machine, 3, "ActiveState"), "inactive", "{when}");
                    if early {
                        assert_ne!(releases(machine), [&*version, &*version], "{when}");
                    }
                }
                // There is nothing to resume where it has done all that there was.
                let said = machine.try_run("roundsman reload shop --settle 1 --resume");
                let nothing = said.stderr.contains("no unfinished deploy");
                assert!(said.ok() || nothing && ended.status == 0, "{when}: {said}");
                assert_eq!(releases(machine), [&*version, &*version], "{when}");
                assert_eq!(ups(machine), 2, "{when}");
                assert_eq!(worker(machine, 3, "ActiveState"), "inactive", "{when}");
                assert!(!machine.exists("/run/roundsman.d/apps/shop.toml.d"), "{when}");
                load.goes_on_for(50);
            }
        }
        // A second Ctrl-C leaves at once: the worker under way may be anywhere, and is not lost.
        release(machine, "twice", "late:3000");
        begin(machine, "shop:1 restarts", "");
        kill(machine, "INT");
        machine.eventually("it finishes what is under way", |machine| {
            machine.run("cat /tmp/said").contains("finishing")
        });
        kill(machine, "INT");
        let ended = ended(machine);
        assert_eq!(ended.status, INTERRUPTED, "{ended:?}");
        // Its old process may still be at its end, or the new one about to begin.
        let state = worker(machine, 1, "ActiveState");
        let before = ["deactivating", "inactive", "activating"];
        assert!(before.contains(&&*state), "it left at once: {state}");
        machine.run("roundsman reload shop --settle 1 --resume");
        assert_eq!(releases(machine), ["twice", "twice"]);

        // Two at once never mix: the second says who is at work.
        release(machine, "last", "late:300");
        begin(machine, "shop:1 drains", "");
        let second = machine.try_run("roundsman reload shop --settle 1 --resume");
        assert_eq!(second.status.code(), Some(75), "{second}");
        machine.run("roundsman reload shop --settle 1 --wait");
        assert_eq!(releases(machine), ["last", "last"]);
        assert_eq!(machine.try_run("roundsman reload shop --resume").status.code(), Some(1));
        let tally = load.stop();
        println!("deploys ended early {number} times: {tally}");
        tally.assert_nothing_failed();
    }
}

/// How a command in the background ended.
#[derive(Debug)]
struct Ended {
    /// As the shell counts.
    status: i32,
    text: String,
}

/// Deploys in the background, until the command has said this.
fn begin(machine: &Machine, line: &str, options: &str) {
    // The shell of a background job ignores SIGINT, and so would the command.
    machine.run(&format!(
        "rm -f /tmp/said /tmp/status
         (env --default-signal=INT roundsman reload shop --settle 1 {options} > /tmp/said 2>&1 &
          echo $! > /tmp/pid; wait $!; echo $? > /tmp/status) > /dev/null 2>&1 &"
    ));
    machine.eventually(line, |machine| machine.try_run("cat /tmp/said").stdout.contains(line));
}

fn kill(machine: &Machine, signal: &str) {
    machine.try_run(&format!("kill -{signal} $(cat /tmp/pid)"));
}

fn ended(machine: &Machine) -> Ended {
    machine.eventually("the command has ended", |machine| machine.exists("/tmp/status"));
    let status = machine.run("cat /tmp/status").trim().parse().expect("a shell writes a number");
    Ended { status, text: machine.run("cat /tmp/said") }
}

/// How many workers the front has in its rotation.
fn ups(machine: &Machine) -> usize {
    let text = machine.run("roundsman describe shop --json");
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    let workers = value["workers"].as_array().expect("a list");
    // "slow-start" is in it, too, with a growing share.
    workers
        .iter()
        .filter(|w| !matches!(w["front"].as_str(), None | Some("draining" | "down")))
        .count()
}
