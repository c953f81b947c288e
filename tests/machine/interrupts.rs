//! The command that deploys, ended at every stage of a roll, politely and not. Whatever it was
//! doing: no request is lost, other workers serve, and `--resume` brings it to its end.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Clients, Machine, on_every_debian};
use crate::shop::{install, release, releases, worker};

/// A line of the command's progress, the options it is shown with, and what it is doing then.
const STAGES: [(&str, &str, &str); 7] = [
    ("shop:1 drains", "", "draining"),
    ("shop:1 restarts", "", "restarting"),
    ("shop:1 is ready, and is watched", "", "proving"),
    ("shop:1 serves", "", "going on to the next"),
    ("shop:3 starts, as an extra worker", "--surge 1", "starting the extra worker"),
    ("shop:3 is ready, and is watched", "--surge 1", "proving the extra worker"),
    ("shop:3 stops", "--surge 1", "stopping the extra worker"),
];

on_every_debian! {
    /// Ctrl-C, and `kill -9`, at each of them.
    fn a_deploy_that_ends_early_harms_nobody(machine: &Machine) {
        install(machine, 2, "");
        let clients = Clients::new(6, 2).with(2, 1, 0).slow(Duration::from_millis(1500));
        let load = machine.load(clients);
        load.goes_on_for(100);
        let mut number = 0;
        for signal in ["INT", "KILL"] {
            for (line, options, stage) in STAGES {
                number += 1;
                let version = format!("v{number}");
                release(machine, &version, "late:300");
                interrupt(machine, signal, line, options);

                let all = [1, 2].map(|number| worker(machine, number, "ActiveState"));
                assert!(all.contains(&"active".to_owned()), "{signal} while {stage}: {all:?}");
                if signal == "INT" {
                    // What had begun was finished.
                    assert_eq!(all, ["active", "active"], "{signal} while {stage}");
                    assert_eq!(ups(machine), 2, "{signal} while {stage}");
                    assert_ne!(worker(machine, 3, "ActiveState"), "active", "while {stage}");
                }
                // There is nothing to resume where the last step was under way.
                let said = machine.try_run("roundsman reload shop --settle 1 --resume");
                let nothing = said.stderr.contains("no unfinished deploy");
                assert!(said.ok() || nothing && signal == "INT", "{signal} while {stage}: {said}");
                assert_eq!(releases(machine), [&*version, &*version], "{signal} while {stage}");
                assert_eq!(ups(machine), 2, "{signal} while {stage}");
                assert_ne!(worker(machine, 3, "ActiveState"), "active", "{signal} while {stage}");
                assert!(!machine.exists("/run/roundsman.d/apps/shop.toml.d"), "{stage}");
                load.goes_on_for(50);
            }
        }
        // Two at once never mix: the second says who is at work.
        release(machine, "last", "late:300");
        machine.run("roundsman reload shop > /dev/null 2>&1 & echo $! > /tmp/pid");
        machine.eventually("the second is refused", |machine| {
            let said = machine.try_run("roundsman reload shop --settle 1 --resume");
            said.status.code() == Some(75)
        });
        machine.run("roundsman reload shop --settle 1 --wait");
        assert_eq!(releases(machine), ["last", "last"]);
        assert_eq!(machine.try_run("roundsman reload shop --resume").status.code(), Some(1));
        let tally = load.stop();
        println!("deploys ended early {number} times: {tally}");
        tally.assert_nothing_failed();
    }
}

/// Deploys, and ends the command when it has said this.
fn interrupt(machine: &Machine, signal: &str, line: &str, options: &str) {
    // The shell of a background job ignores SIGINT, and so would the command.
    machine.run(&format!(
        "rm -f /tmp/said
         env --default-signal=INT roundsman reload shop --settle 1 {options} > /tmp/said 2>&1 &
         echo $! > /tmp/pid"
    ));
    machine.eventually(line, |machine| machine.run("cat /tmp/said").contains(line));
    machine.try_run(&format!("kill -{signal} $(cat /tmp/pid)"));
    machine.eventually("the command has ended", |machine| {
        !machine.try_run("kill -0 $(cat /tmp/pid)").ok()
    });
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
