//! Messages to, from and between workers.

use serde_json::Value;

use crate::harness::{Machine, on_every_debian_in_soak};

const APP: &str = "command = [\"node\", \"echo-messages.js\"]\nworkers = 3\n";

/// Follows the app as a service of its own; the events are in a file.
fn follow(machine: &Machine) {
    machine.run(
        "touch /root/events && systemd-run --quiet --unit=follow --property=StandardOutput=file:/root/events \
         roundsman events shop --json",
    );
    machine.eventually("the follower reads", |machine| {
        machine.run("roundsman send shop '\"hello\"'");
        seen(machine, |event| event["message"] == "hello") > 0
    });
}

/// How many events there are like this.
fn seen(machine: &Machine, like: impl Fn(&Value) -> bool) -> usize {
    let text = machine.run("cat /root/events");
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter(|line| like(&serde_json::from_str(line).expect(line))).count()
}

/// The process of a worker's app.
fn app(machine: &Machine, number: u16) -> String {
    let main = machine.worker(&format!("shop:{number}"), "MainPID");
    machine.run(&format!("cat /proc/{main}/task/{main}/children")).trim().to_owned()
}

fn install(machine: &Machine) {
    machine.add_app("shop", "tests/apps", APP);
    machine.start_app("shop");
}

on_every_debian_in_soak! {
    /// To all workers or to one; from all to who follows them, across a restart and a crash.
    fn messages_reach_workers_and_events_tell_their_life(machine: &Machine) {
        install(machine);
        follow(machine);
        let said = machine.run("roundsman send shop '{\"to\": \"all\"}'");
        assert_eq!(said, "shop:1 got it\nshop:2 got it\nshop:3 got it\n");
        let said = machine.run("echo '{\"to\":\n \"one\"}' | roundsman send shop:2 - --json");
        assert_eq!(said.trim(), r#"{"sent":["shop:2"],"failed":{}}"#);
        machine.eventually("the echoes", |machine| {
            seen(machine, |event| event["message"]["to"] == "all") == 3
                && seen(machine, |e| e["message"]["to"] == "one" && e["worker"] == "shop:2") == 1
        });

        let said = machine.try_run("roundsman send shop flush");
        assert_eq!(said.status.code(), Some(2), "{said}");
        assert!(said.stderr.contains("not JSON") && said.stderr.contains("'\"flush\"'"), "{said}");
        let said = machine.try_run("roundsman send nobody 1");
        assert_eq!(said.status.code(), Some(69), "{said}");
        assert!(said.stderr.contains("no worker of \"nobody\" runs"), "{said}");
        assert_eq!(machine.try_run("roundsman send shop:9 1").status.code(), Some(69));
        machine.run("useradd -G roundsman alice && useradd bob");
        machine.run("runuser -u alice -- roundsman send shop 1");
        let said = machine.try_run("runuser -u bob -- roundsman send shop 1");
        assert_eq!(said.status.code(), Some(77), "{said}");
        assert_eq!(machine.try_run("runuser -u bob -- roundsman events shop").status.code(), Some(77));

        machine.run("systemctl restart roundsman-worker@shop:1.service");
        machine.run("roundsman send shop:2 '{\"exit\": true}'");
        machine.eventually("the events of a restart and of a crash", |machine| {
            let of = |worker: &str, kind: &str| {
                seen(machine, |event| event["worker"] == worker && event["event"] == kind)
            };
            ["draining", "stopping", "exit", "restart", "online", "listening", "ready"]
                .iter()
                .all(|kind| of("shop:1", kind) == 1)
                && ["exit", "restart", "ready"].iter().all(|kind| of("shop:2", kind) == 1)
                && seen(machine, |event| event["event"] == "exit" && event["code"] == 7) == 1
                && seen(machine, |event| event["message"] == "dying") == 100
        });
        machine.run(&format!("kill -KILL {}", app(machine, 3)));
        machine.eventually("the event of a kill", |machine| {
            seen(machine, |event| event["event"] == "exit" && event["signal"] == "SIGKILL") == 1
        });
    }
}

on_every_debian_in_soak! {
    /// Workers with a user each reach each other, and nobody's death cuts them off: not the
    /// front's, not the follower's, not a sibling's.
    fn broadcasts_reach_siblings_whoever_dies(machine: &Machine) {
        install(machine);
        follow(machine);
        let before = [app(machine, 1), app(machine, 2)];
        let broadcast = |machine: &Machine, text: &str, readers: &[&str]| {
            machine.run(&format!("roundsman send shop:1 '{{\"broadcast\": \"{text}\", \"times\": 50}}'"));
            machine.eventually("the broadcasts", |machine| {
                readers.iter().all(|reader| {
                    seen(machine, |event| {
                        event["worker"] == *reader
                            && event["message"]["from"] == "shop:1"
                            && event["message"]["data"]["data"] == text
                    }) == 50
                })
            });
        };
        broadcast(machine, "all live", &["shop:2", "shop:3"]);
        machine.run("systemctl kill --signal=KILL roundsman.service");
        broadcast(machine, "without front", &["shop:2", "shop:3"]);
        machine.run("systemctl kill --kill-whom=all --signal=KILL roundsman-worker@shop:3.service");
        broadcast(machine, "without sibling", &["shop:2"]);
        machine.run("systemctl kill --signal=KILL follow.service");
        assert_eq!(machine.run("roundsman send shop:1 1 && roundsman send shop:2 1").lines().count(), 2);
        assert_eq!([app(machine, 1), app(machine, 2)], before, "their processes are the same");
        assert!(machine.curl("/").contains("ok"));
    }
}
