//! What an administrator finds in the journal, and that the journal cannot stop the traffic.

use std::time::Duration;

use crate::harness::{Clients, Machine, on_every_debian, on_every_debian_in_soak};

on_every_debian! {
    /// Everything about an app, what it prints and what we say of it, has its name in a field.
    fn entries_of_an_app_have_its_fields(machine: &Machine) {
        machine.start_hello(2);
        let entries = machine.journal("ROUNDSMAN_APP=hello");
        for worker in ["hello:1", "hello:2"] {
            assert!(
                entries.iter().any(|entry| entry["ROUNDSMAN_WORKER"] == worker),
                "nothing from {worker}: {entries:#?}"
            );
        }
        let ready = machine.events("WORKER_READY");
        assert_eq!(ready.len(), 2, "each worker says that it is ready: {ready:#?}");
        for entry in &ready {
            assert_eq!(entry["PRIORITY"], "6", "good news is information: {entry:#?}");
            assert_eq!(entry["ROUNDSMAN_APP"], "hello");
        }
    }
}

on_every_debian! {
    /// What an app prints does not pass through us, and has the fields all the same.
    fn what_an_app_prints_has_its_fields(machine: &Machine) {
        let configuration = "command = [\"node\", \"server.js\", \"exits\"]\n";
        machine.add_app("bad", "tests/apps/misbehaving", configuration);
        machine.run("systemctl start --no-block roundsman-app@bad.target");
        machine.eventually("the app has printed something", |machine| {
            let entries = machine.journal("ROUNDSMAN_APP=bad _TRANSPORT=stdout");
            entries.iter().any(|entry| {
                entry["MESSAGE"] == "cannot go on"
                    && entry["ROUNDSMAN_WORKER"] == "bad:1"
                    && entry["_SYSTEMD_UNIT"] == "roundsman-worker@bad:1.service"
                    && entry["_COMM"] == "node"
            })
        });
    }
}

/// Sends to the journal until there is no room for more.
const FILL: &str = r#"
import socket
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.setblocking(False)
try:
    while True:
        journal.sendto(b"MESSAGE=full\n", "/run/systemd/journal/socket")
except BlockingIOError:
    pass
"#;

on_every_debian_in_soak! {
    /// A journal that does not take anything for ten seconds does not stop the traffic, nor the start of a front or
    /// of a worker.
    fn stopped_journal_stops_no_traffic(machine: &Machine) {
        machine.start_hello(2);
        let load = machine.load(Clients::new(16, 4));
        load.goes_on_for(500);

        machine.run("systemctl kill --kill-whom=main --signal=STOP systemd-journald.service");
        let stopped = load.elapsed();
        while load.elapsed() < stopped + Duration::from_secs(10) {
            load.goes_on_for(200);
        }
        machine.run(&format!("python3 -c '{FILL}'"));
        for unit in ["roundsman.service", "roundsman-worker@hello:1.service"] {
            let said = machine.try_run(&format!("timeout 30 systemctl restart {unit}"));
            assert!(said.ok(), "{unit}: {said}");
        }
        machine.run("systemctl kill --kill-whom=main --signal=CONT systemd-journald.service");

        load.goes_on_for(500);
        let tally = load.stop();
        tally.assert_nothing_failed();
        assert!(tally.slowest < Duration::from_secs(5), "{tally}");
    }
}
