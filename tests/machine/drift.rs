//! What `apply` and `diff` know of a machine and mend, and what no other app's mistake may take away:
//! sockets and addresses of workers that run.

use crate::harness::{Machine, on_every_debian};

/// An app behind a TCP listener of its own network, for its own host.
fn add(machine: &Machine, name: &str) {
    let file = format!(
        "command = [\"node\", \"server.js\"]\ntransport = \"tcp\"\nroute = [{{ host = \"{name}\" }}]\n"
    );
    machine.add_app(name, "examples/hello", &file);
}

fn file(name: &str) -> String {
    format!("/etc/roundsman/apps/{name}.toml")
}

#[track_caller]
fn assert_serves(machine: &Machine, name: &str) {
    let asked =
        format!("curl --silent --fail --max-time 20 --header 'Host: {name}' http://localhost/");
    let said = machine.try_run(&asked);
    assert!(said.ok(), "{name}: {said}");
}

/// Kills the main process, as the kernel might, and waits for the next one.
fn crash(machine: &Machine, name: &str) {
    let (worker, pid) =
        (format!("{name}:1"), |machine: &Machine, worker: &str| machine.worker(worker, "MainPID"));
    let before = pid(machine, &worker);
    machine.run(&format!("kill -9 {before}"));
    machine.eventually("the worker is back", |machine| {
        pid(machine, &worker) != before && machine.worker(&worker, "ActiveState") == "active"
    });
}

fn listens_on(machine: &Machine, name: &str) -> String {
    machine.property(&format!("roundsman-worker@{name}:1.socket"), "Listen")
}

on_every_debian! {
    /// `app7` and `app30` would have the same network. And a `daemon-reload`, as each installation of a
    /// package does one, comes while a file is away, or while all that is known of it is lost.
    fn what_runs_keeps_its_socket_and_its_address_or_gets_them_back(machine: &Machine) {
        // One whose stop goes on for ever is left behind, and holds up nobody: its own command ends
        // after three times its TimeoutStopSec= and ten seconds.
        add(machine, "slow");
        machine.start_app("slow");
        machine.write(
            "/etc/systemd/system/roundsman-worker@slow:1.service.d/slow.conf",
            "[Service]\nTimeoutStopSec=1s\nNotifyAccess=all\nExecStop=\nExecStop=+/bin/sh -c \
             'while :; do systemd-notify EXTEND_TIMEOUT_USEC=5000000; sleep 0.5; done'\n",
        );
        machine.run("systemctl daemon-reload");
        machine.run("(roundsman stop slow; echo status $?) > /tmp/slow 2>&1 < /dev/null &");

        add(machine, "app7");
        machine.start_app("app7");
        let before = listens_on(machine, "app7");
        add(machine, "app30");
        machine.start_app("app30");
        assert_eq!(listens_on(machine, "app7"), before);
        assert_ne!(listens_on(machine, "app30"), before);
        for name in ["app7", "app30"] {
            assert_serves(machine, name);
        }

        machine.run(&format!("mv {} /root && systemctl daemon-reload", file("app7")));
        machine.run(&format!("mv /root/app7.toml {} && systemctl daemon-reload", file("app7")));
        machine.run("rm /run/roundsman.networks && systemctl daemon-reload");
        assert_eq!(listens_on(machine, "app7"), before);
        crash(machine, "app7");
        assert_serves(machine, "app7");
        assert_eq!(machine.run("roundsman diff").trim(), "the machine is as the files say");

        machine.run(&format!("mv {} /root && rm -r /run/roundsman.generator", file("app7")));
        machine.run(&format!("systemctl daemon-reload && mv /root/app7.toml {}", file("app7")));
        machine.run("systemctl daemon-reload && systemctl reload roundsman");
        let lost = "app7:1 runs with a socket that systemd has lost: its next start would fail";
        let diff = machine.try_run("roundsman diff");
        assert!(diff.status.code() == Some(1) && diff.stdout.contains(lost), "{diff}");
        assert!(!diff.stdout.contains("app30"), "{diff}");
        let check = machine.try_run("roundsman check");
        assert!(check.ok() && check.stderr.contains(lost), "{check}");
        let status = machine.run("roundsman status");
        assert!(status.contains(&lost.replace("app7:1 ", "app7:1: ")), "{status}");
        assert!(status.contains("roundsman apply mends it"), "{status}");
        machine.run("roundsman apply");
        assert_eq!(machine.run("roundsman diff").trim(), "the machine is as the files say");
        crash(machine, "app7");
        assert_serves(machine, "app7");
        assert_serves(machine, "app30");

        machine.eventually("nobody waits for ever", |machine| {
            machine.run("cat /tmp/slow").contains("status 1")
        });
        let said = machine.run("cat /tmp/slow");
        let what = "roundsman-worker@slow:1.service: the stop has not ended within 13s";
        assert!(said.contains(what), "{said}");
        assert!(said.contains("systemctl kill --signal=KILL 'roundsman-worker@slow:1.service'"), "{said}");
        machine.run("systemctl kill --signal=KILL 'roundsman-worker@slow:1.service'");
    }
}
