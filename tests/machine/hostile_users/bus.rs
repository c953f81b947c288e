//! D-Bus: whatever a user says there in systemd's name is not believed, and a bus that does not
//! answer stops nobody from ending a command.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Clients, Machine, on_every_debian};

/// Sends signals to one connection, as anybody may.
const FORGE: &str = include_str!("forge.py");

/// An app that does not listen before somebody opens the gate.
const GATED: &str = r"
const fs = require('node:fs');
const server = require('node:http').createServer((request, response) => response.end('here'));
const wait = () => fs.existsSync('/srv/gated/open') ? server.listen(3000) : setTimeout(wait, 20);
wait();
";

/// How much the front may grow under a flood, in KiB: less than a tenth of what it would if it kept
/// what it hears.
const GROWTH: u64 = 8 * 1024;

on_every_debian! {
    /// Neither the front nor a command believes a stranger, and a command can be ended always.
    fn nobody_speaks_for_systemd_on_the_bus(machine: &Machine) {
        install(machine);
        the_front_hears_systemd_alone(machine);
        a_command_hears_systemd_alone(machine);
        a_silent_bus_holds_nobody_up(machine);
    }
}

/// Forged signals about workers do nothing, a flood of them costs no memory, and what systemd
/// itself says is heard all the while, also after it, or the bus, was started anew.
fn the_front_hears_systemd_alone(machine: &Machine) {
    let load = machine.load(Clients::new(4, 2));
    load.goes_on_for(50);
    for began in ["nothing", "systemctl daemon-reexec", "systemctl restart dbus.service"] {
        if began != "nothing" {
            machine.run(began);
            follows(machine, began);
        }
        forge(machine, &front(machine), &lies());
        load.goes_on_for(100);
        assert_eq!(machine.states(), all_up(), "after {began}, and forged signals");
        // What is heard now was said after the lies.
        follows(machine, began);
    }
    let down = machine.events("SERVER_DOWN");
    let was_down = |worker: &str| down.iter().any(|entry| entry["ROUNDSMAN_WORKER"] == worker);
    assert!(was_down("gated:2"), "{down:?}");
    assert!(!was_down("gated:1"), "{down:?}");

    let before = memory(machine);
    forge(machine, &front(machine), &flood());
    follows(machine, "a flood");
    let after = memory(machine);
    assert!(after < before + GROWTH, "the front grew from {before} to {after} KiB");
    load.stop().assert_nothing_failed();
}

/// A command that waits for workers believes neither that they failed nor that they are ready.
fn a_command_hears_systemd_alone(machine: &Machine) {
    machine.run("rm /srv/gated/open");
    let command = "roundsman restart gated";
    machine.run(&format!("({command} > /tmp/said 2>&1; echo $? > /tmp/status) > /dev/null 2>&1 &"));
    machine.eventually("it waits for both workers", |machine| jobs(machine).len() == 2);
    let name = name_of(machine, &machine.run(&format!("pgrep -fx '{command}'")));
    let lies = |machine: &Machine| {
        for result in ["failed", "done"] {
            forge(machine, &name, &ended(&jobs(machine), result));
            assert!(!machine.exists("/tmp/status"), "{}", machine.run("cat /tmp/said"));
        }
    };
    lies(machine);
    // A systemd that was started anew goes on with its jobs.
    machine.run("systemctl daemon-reexec");
    machine.eventually("it still waits for both workers", |machine| jobs(machine).len() == 2);
    lies(machine);
    machine.run("touch /srv/gated/open");
    machine.eventually("the command has ended", |machine| machine.exists("/tmp/status"));
    let said = machine.run("cat /tmp/said");
    assert_eq!(machine.run("cat /tmp/status").trim(), "0", "{said}");
    assert!(said.contains("gated has restarted"), "{said}");
}

/// Ctrl-C ends a deploy at once while the bus does not answer.
fn a_silent_bus_holds_nobody_up(machine: &Machine) {
    // The shell of a background job ignores SIGINT, and so would the command.
    machine.run(
        "env --default-signal=INT roundsman reload gated --settle 300 > /tmp/said 2>&1 &
         echo $! > /tmp/pid",
    );
    machine.eventually("a worker is watched", |machine| {
        machine.run("cat /tmp/said").contains("is watched")
    });
    machine.run("kill -STOP $(pidof dbus-daemon)");
    let began = Instant::now();
    machine.eventually("Ctrl-C has ended the command", |machine| {
        !machine.try_run("kill -INT $(cat /tmp/pid)").ok()
    });
    let took = began.elapsed();
    machine.run("kill -CONT $(pidof dbus-daemon)");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}

/// Two workers that wait for the gate, which is open; and a stranger with a tool.
fn install(machine: &Machine) {
    machine.run("useradd --create-home stranger");
    machine.write("/usr/local/lib/forge.py", FORGE);
    machine.write("/srv/gated/server.js", GATED);
    machine.write("/srv/gated/open", "");
    machine.write(
        "/etc/roundsman/apps/gated.toml",
        "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/gated\"\nworkers = 2\n",
    );
    machine.run("roundsman apply");
    machine.eventually("both workers are up", |machine| machine.states() == all_up());
}

/// Has the stranger send these to a connection; returns when the bus has taken them.
#[track_caller]
fn forge(machine: &Machine, name: &str, signals: &[Value]) {
    let lines: Vec<String> = signals.iter().map(Value::to_string).collect();
    machine.write("/tmp/signals", &lines.join("\n"));
    machine.run(&format!(
        "runuser -u stranger -- python3 /usr/local/lib/forge.py {name} < /tmp/signals"
    ));
}

/// Everything that would take workers out of rotation, or make the front deaf.
fn lies() -> Vec<Value> {
    let mut all = vec![
        json!([1, MANAGER_PATH, MANAGER, "Reloading", "b", true]),
        json!([
            1,
            BUS_PATH,
            BUS,
            "NameOwnerChanged",
            "sss",
            "org.freedesktop.systemd1",
            ":1.1",
            ""
        ]),
    ];
    for worker in 1..=2 {
        let unit = format!("roundsman-worker@gated:{worker}.service");
        let path = format!("{UNITS}/roundsman_2dworker_40gated_3a{worker}_2eservice");
        all.push(json!([1, MANAGER_PATH, MANAGER, "UnitRemoved", "so", unit, path]));
        for state in ["inactive", "deactivating", "activating", "failed"] {
            all.push(changed(1, &path, state));
        }
    }
    all
}

/// So much about workers that there are not.
fn flood() -> Vec<Value> {
    let path = format!("{UNITS}/roundsman_2dworker_40{}_3a{{n}}_2eservice", "x".repeat(200));
    vec![changed(100_000, &path, "active")]
}

/// That jobs have ended.
fn ended(jobs: &[(String, String)], result: &str) -> Vec<Value> {
    let removed = |(id, unit): &(String, String)| {
        let path = format!("{MANAGER_PATH}/job/{id}");
        let id: u32 = id.parse().expect("a number");
        json!([1, MANAGER_PATH, MANAGER, "JobRemoved", "uoss", id, path, unit, result])
    };
    jobs.iter().map(removed).collect()
}

fn changed(count: usize, path: &str, state: &str) -> Value {
    let interface = "org.freedesktop.systemd1.Unit";
    let properties = json!({ "ActiveState": state });
    let member = "PropertiesChanged";
    json!([count, path, PROPERTIES, member, "sa{sv}as", interface, properties, []])
}

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit";

/// Stops and starts worker 2 and waits until the front has learnt it: only systemd says that a
/// worker is down.
fn follows(machine: &Machine, after: &str) {
    machine.run("systemctl stop roundsman-worker@gated:2.service");
    machine.eventually(&format!("a stop is noticed after {after}"), |machine| {
        let states = machine.states();
        assert_eq!(states["gated:1"], "up", "after {after}");
        states["gated:2"] == "down"
    });
    machine.run("systemctl start roundsman-worker@gated:2.service");
    machine.eventually(&format!("a start is noticed after {after}"), |machine| {
        machine.states() == all_up()
    });
}

fn all_up() -> BTreeMap<String, String> {
    [1, 2].map(|worker| (format!("gated:{worker}"), "up".to_owned())).into()
}

/// systemd's jobs for workers: number and unit.
fn jobs(machine: &Machine) -> Vec<(String, String)> {
    let text = machine.run("systemctl list-jobs --no-legend 'roundsman-worker@*.service'");
    let mut words = text.lines().map(str::split_ascii_whitespace);
    let job = |line: &mut std::str::SplitAsciiWhitespace<'_>| {
        Some((line.next()?.to_owned(), line.next()?.to_owned()))
    };
    words.by_ref().filter_map(|mut line| job(&mut line)).collect()
}

/// The front's name on the bus.
fn front(machine: &Machine) -> String {
    name_of(machine, &machine.front_process().to_string())
}

/// A process's name on the bus: whoever asks is told.
fn name_of(machine: &Machine, process: &str) -> String {
    let process = process.trim();
    let list = "runuser -u stranger -- busctl list --unique --no-legend --no-pager";
    let name = machine.run(&format!("{list} | awk '$2 == {process} {{ print $1 }}'"));
    assert!(name.starts_with(':'), "process {process} has no name: {name:?}");
    name.trim().to_owned()
}

/// What the front takes of the machine's memory, in KiB.
fn memory(machine: &Machine) -> u64 {
    let process = machine.front_process();
    let text = machine.run(&format!("awk '/^Pss:/ {{ print $2 }}' /proc/{process}/smaps_rollup"));
    text.trim().parse().expect("a number")
}
