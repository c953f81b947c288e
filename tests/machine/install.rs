//! Installing the package on a pristine machine, and the first app.

use crate::harness::{Machine, Package, on_every_debian, on_every_pristine_debian};

on_every_pristine_debian! {
    /// The units that the package ships are clean on this release's systemd: no unknown key, no
    /// missing program, and a front with next to nothing to attack.
    fn units_are_clean(machine: &Machine) {
        machine.install(&Package::built());
        let said = machine.try_run("systemd-analyze verify --man=no /usr/lib/systemd/system/roundsman*");
        assert!(said.ok() && said.stderr.is_empty(), "{said}");
        machine.expect_confined_front();
        for page in ["man8/roundsman.8.gz", "man5/roundsman.toml.5.gz"] {
            assert!(machine.exists(&format!("/usr/share/man/{page}")), "{page}, which units name");
        }
    }
}

on_every_pristine_debian! {
    /// Installed, the front serves: port 80 answers at once, and says how to add an app.
    fn front_serves_a_page_that_says_what_to_do(machine: &Machine) {
        machine.install(&Package::built());
        for unit in [
            "roundsman-http.socket",
            "roundsman-admin.socket",
            "roundsman-helper.socket",
            "roundsman-session.socket",
            "roundsman.service",
        ] {
            assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
            assert_eq!(machine.property(unit, "UnitFileState"), "enabled", "{unit}");
        }
        assert_eq!(machine.property("roundsman-https.socket", "ActiveState"), "inactive");
        let page = machine.run("curl --silent --include http://localhost/");
        assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
        assert!(page.contains("/etc/roundsman/apps"), "{page}");
        let failed = machine.run("systemctl --failed --no-legend");
        assert!(!failed.contains("roundsman"), "{failed}");
    }
}

on_every_debian! {
    /// Two workers of an unmodified app that was written for Node's cluster module answer in turn.
    fn workers_answer_in_turn(machine: &Machine) {
        machine.add_app("hello", "examples/hello", "command = [\"node\", \"server.js\"]\nworkers = 2\n");
        machine.run("systemctl enable --now roundsman-http.socket roundsman-app@hello.target");
        machine.eventually("both workers are up", |machine| {
            machine.property("roundsman.service", "StatusText").contains("2 of 2 workers")
        });

        let replies: Vec<String> = (0..6).map(|_| machine.curl("/")).collect();
        for pair in replies.windows(2) {
            assert_ne!(pair[0], pair[1], "not in turn: {replies:?}");
        }
        let status = machine.run("systemctl status --no-pager roundsman.service");
        assert!(status.contains("Status: \"serving 1 app"), "{status}");
    }
}

on_every_debian! {
    /// The first connection starts a front that does not run.
    fn first_connection_starts_the_front(machine: &Machine) {
        machine.start_hello(1);
        machine.run("systemctl stop roundsman.service");
        assert_eq!(machine.property("roundsman.service", "ActiveState"), "inactive");

        assert!(machine.curl("/").starts_with("Hello from worker 1"));
        assert_eq!(machine.property("roundsman.service", "ActiveState"), "active");
    }
}

on_every_pristine_debian! {
    /// Where another program has port 80, the commands say at once which one, and another port is one
    /// command away.
    fn who_has_the_port_is_named(machine: &Machine) {
        machine.run("systemd-run --unit=squatter python3 -m http.server 80");
        machine.eventually("port 80 is taken", |machine| !machine.curl("/").is_empty());

        machine.install(&Package::built());

        assert_eq!(machine.property("roundsman-http.socket", "ActiveState"), "failed");
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello"), "/srv/hello");
        for command in ["status", "reload", "start /srv/hello/server.js --name hello --user daemon"] {
            let said = machine.try_run(&format!("timeout 10 roundsman {command}"));
            assert_eq!(said.status.code(), Some(69), "{said}");
            for part in ["port 80 is taken by python3 (process ", "squatter.service", "roundsman listen 8080"] {
                assert!(said.stderr.contains(part), "no {part}: {said}");
            }
        }
        let said = machine.run("roundsman listen 8080");
        assert!(said.contains("http://localhost:8080/"), "{said}");
        machine.run("curl --silent --max-time 10 http://localhost:8080/");
        machine.run("roundsman status");
        let said = machine.try_run("roundsman listen 80");
        assert!(!said.ok() && said.stderr.contains("port 80 is taken by python3"), "{said}");
        machine.run("systemctl stop squatter && roundsman listen 80");
        assert!(machine.curl("/").contains("roundsman start"));
        // It comes by itself, too, when the port is free.
        machine.run("systemctl stop roundsman-http.socket && systemd-run --unit=squatter python3 -m http.server 80");
        machine.eventually("port 80 is taken", |machine| machine.curl("/").contains("Directory listing"));
        assert!(!machine.try_run("systemctl start roundsman-http.socket").ok());
        machine.run("systemctl stop squatter");
        machine.eventually("the front is back", |machine| machine.curl("/").contains("roundsman start"));
        machine.run("roundsman status");
        assert!(!machine.exists("/etc/systemd/system/roundsman-http.socket.d/50-roundsman-listen.conf"));
    }
}

on_every_debian! {
    /// A port is opened, moved and closed with its socket unit, while the front runs.
    fn sockets_can_be_changed(machine: &Machine) {
        machine.write(
            "/etc/systemd/system/roundsman-http.socket.d/port.conf",
            "[Socket]\nListenStream=\nListenStream=8080\n",
        );
        machine.run("systemctl daemon-reload && systemctl restart roundsman-http.socket");
        machine.run("curl --silent --max-time 10 http://localhost:8080/");
        assert!(!machine.try_run("curl --silent http://localhost:80/").ok(), "port 80 is closed");

        // The port is open (7 were a refused connection); why it says nothing is in the journal.
        machine.run("systemctl restart roundsman-https.socket");
        machine.run("curl --silent --max-time 10 https://localhost:443/; test $? != 7");
        machine.run("journalctl --unit roundsman | grep 'listener https has no certificate'");
        machine.run("curl --silent --max-time 10 http://localhost:8080/");
    }
}

on_every_debian! {
    /// An app that is enabled under a name that has no file is said to be missing.
    fn app_without_a_file_does_not_start(machine: &Machine) {
        let said = machine.try_run("systemctl start roundsman-app@nosuch.target");
        assert!(!said.ok() && said.stderr.contains("Assertion failed"), "{said}");
        assert_eq!(machine.property("roundsman-app@nosuch.target", "AssertResult"), "no");
    }
}
