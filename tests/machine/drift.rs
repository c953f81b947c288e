//! What `apply` and `diff` know of a machine and mend, and what no other app's mistake may take away:
//! sockets and addresses of workers that run.

use crate::harness::{Machine, on_every_debian, on_every_debian_in_soak};

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

        // With a daemon-reload while /run is full, systemd would lose them all.
        let room = |bytes: &str| format!("mount -o remount,size={bytes} /run");
        machine.run(&room("$(($(du -s --block-size=1 /run | cut -f1) + 65536))"));
        let scaled = machine.try_run("roundsman scale app7 2");
        machine.run(&room("1G"));
        let is_refused = scaled.status.code() == Some(71) && scaled.stderr.contains("/run is full");
        assert!(is_refused, "{scaled}");
        assert_eq!(machine.run("roundsman diff").trim(), "the machine is as the files say");

        // What only the front has is a difference, too.
        let upstream = "/etc/roundsman/upstreams/api.toml";
        machine.write(upstream, "servers = [{ address = \"127.0.0.1:1\" }]\nroute = [{ host = \"api\" }]\n");
        let diff = machine.try_run("roundsman diff");
        assert!(diff.status.code() == Some(1) && diff.stdout.contains("upstream:api is new"), "{diff}");
        machine.run(&format!("roundsman apply && roundsman diff && rm {upstream}"));
        let dry = machine.run("roundsman apply --dry-run");
        assert!(dry.contains("upstream:api is in no file any more"), "{dry}");
        machine.run("roundsman apply && roundsman diff");

        // Nobody waits for an app that was stopped, and everybody for one that starts.
        machine.run("roundsman stop app30");
        let status = "curl --silent --max-time 10 -o /dev/null -w '%{http_code}' -H 'Host: app30' http://localhost/";
        machine.eventually("a 503 without a wait", |machine| machine.try_run(status).stdout == "503");
        machine.run("systemctl start --no-block roundsman-app@app30.target");
        machine.eventually("it is back", |machine| machine.try_run(status).stdout == "200");
    }
}

on_every_debian_in_soak! {
    /// A program that has systemd extend its time again and again is waited for three times its
    /// TimeoutStopSec= and ten seconds, also where a command waits for its app's target.
    fn nobody_waits_for_ever_for_one_that_does_not_end(machine: &Machine) {
        add(machine, "slow");
        machine.write(
            "/etc/systemd/system/roundsman-worker@slow:1.service.d/slow.conf",
            "[Service]\nTimeoutStopSec=2s\nNotifyAccess=all\nExecStop=\nExecStop=+/bin/sh -c \
             'while :; do systemd-notify EXTEND_TIMEOUT_USEC=60000000; sleep 0.2; done'\n",
        );
        machine.run("systemctl daemon-reload");
        machine.start_app("slow");
        let said = machine.try_run("roundsman stop slow");
        let unit = "roundsman-worker@slow:1.service";
        assert_eq!(said.status.code(), Some(1), "{said}");
        assert!(said.stderr.contains(&format!("{unit}: the stop has not ended within 16s")), "{said}");
        let way_out = format!("systemctl kill --signal=KILL '{unit}'");
        assert!(said.stderr.contains(&way_out), "{said}");
        machine.run(&way_out);
        machine.eventually("it has ended", |machine| {
            machine.worker("slow:1", "ActiveState") != "deactivating"
        });
    }
}
