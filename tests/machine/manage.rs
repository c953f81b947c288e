//! Starting, scaling, stopping and deleting apps with the commands for it.

use crate::harness::{Clients, Machine, on_every_debian, on_every_debian_in_soak};

fn app(machine: &Machine, behaviour: &str) {
    machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/deploy"), "/srv/shop");
    machine.write("/srv/shop/version", "one");
    machine.write("/srv/shop/behaviour", behaviour);
}

on_every_debian! {
    /// From nothing to served in one line; more and fewer workers without a lost request; and away
    /// again without a trace.
    fn an_apps_whole_life(machine: &Machine) {
        app(machine, "well");
        let out = machine.run("cd /srv/shop && roundsman start server.js -n 2 --env A=b");
        assert!(out.contains("shop is up: 2 workers behind http://localhost/"), "{out}");
        assert_eq!(machine.curl("/"), "one");
        assert_eq!(machine.run("systemctl is-enabled roundsman-app@shop.target").trim(), "enabled");

        let load = machine.load(Clients::new(8, 4));
        load.goes_on_for(100);
        machine.run("roundsman scale shop +2");
        load.goes_on_for(100);
        assert_eq!(machine.property("roundsman-worker@shop:4.service", "ActiveState"), "active");
        machine.run("roundsman scale shop -1");
        machine.run("roundsman scale shop 1");
        load.goes_on_for(100);
        assert_eq!(machine.property("roundsman-worker@shop:2.service", "ActiveState"), "inactive");
        machine.run("roundsman restart shop");
        load.goes_on_for(100);
        load.stop().assert_nothing_failed();
        assert!(!machine.try_run("roundsman scale shop -1").ok(), "an app has a worker");

        assert!(machine.run("roundsman logs shop:1").contains("shop"));
        machine.run("roundsman stop shop");
        assert_eq!(machine.property("roundsman-worker@shop:1.socket", "ActiveState"), "inactive");
        machine.run("roundsman start shop");
        assert_eq!(machine.curl("/"), "one");

        let asked = machine.try_run("roundsman delete shop");
        assert!(!asked.ok() && asked.stderr.contains("--yes"), "{asked}");
        machine.run("roundsman delete shop --yes");
        assert!(!machine.exists("/etc/roundsman/apps/shop.toml"));
        let units = machine.run("systemctl list-units --all --no-legend 'roundsman-worker@*' 'roundsman-app@*'");
        assert!(!units.contains("active running") && !units.contains("listening"), "{units}");

        // A file and its units are enough to be served.
        machine.write(
            "/etc/roundsman/apps/shop.toml",
            "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/shop\"\n",
        );
        machine.run("systemctl daemon-reload && systemctl enable --now roundsman-app@shop.target");
        machine.eventually("it is served", |machine| {
            machine.try_run("curl --silent --fail --max-time 5 http://localhost/").stdout == "one"
        });
    }
}

on_every_debian_in_soak! {
    /// An app that does not start says why, with its own words, and leaves nothing behind.
    fn a_start_that_fails_leaves_nothing(machine: &Machine) {
        app(machine, "throw");
        let said = machine.try_run("cd /srv/shop && roundsman start server.js -n 2");
        assert_eq!(said.status.code(), Some(1), "{said}");
        assert!(said.stderr.contains("release one is broken at load"), "{said}");
        assert!(!machine.exists("/etc/roundsman/apps/shop.toml"));
        assert!(!machine.try_run("systemctl is-enabled roundsman-app@shop.target").stdout.contains("enabled\n"));
        let units = machine.run("systemctl list-units --all --no-legend 'roundsman-worker@*'");
        assert!(!units.contains("running") && !units.contains("listening"), "{units}");

        // A change that fails leaves the app as it was.
        app(machine, "well");
        machine.run("cd /srv/shop && roundsman start server.js -n 2");
        let before = machine.run("cat /etc/roundsman/apps/shop.toml");
        let said = machine.try_run("cd /srv/shop && roundsman start --name shop -- node no-such-file.js");
        assert!(!said.ok() && said.stderr.contains("no-such-file"), "{said}");
        assert_eq!(machine.run("cat /etc/roundsman/apps/shop.toml"), before);
        assert_eq!(machine.curl("/"), "one");
        // And one that is wrong is not even tried.
        let said = machine.try_run("cd /srv/shop && roundsman start server.js --path nonsense");
        assert_eq!(said.status.code(), Some(78), "{said}");
        assert_eq!(machine.run("cat /etc/roundsman/apps/shop.toml"), before);
    }
}

on_every_debian_in_soak! {
    /// What is not well is said in words, at once, and is no other app's business. (More: `mistakes.rs`.)
    fn an_error_is_its_own_apps_business(machine: &Machine) {
        // A user that does not exist is no loop, and the reason is everywhere.
        app(machine, "well");
        machine.run("cd /srv/shop && roundsman start server.js");
        machine.write(
            "/etc/roundsman/apps/lost.toml",
            "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/shop\"\nuser = \"gone\"\n\
             route = [{ host = \"lost.example\" }]\n",
        );
        let said = machine.try_run("timeout 20 roundsman start lost");
        assert!(!said.ok() && said.stderr.contains("there is no user gone"), "{said}");
        machine.run("systemctl daemon-reload && systemctl reload roundsman && systemctl start roundsman-app@lost.target");
        let unit = "roundsman-worker@lost:1.service";
        machine.eventually("it has failed", |machine| machine.property(unit, "ActiveState") == "failed");
        let restarts = machine.property(unit, "NRestarts");
        assert_eq!(restarts, "0");
        machine.run("curl --silent --max-time 2 -H 'Host: lost.example' http://localhost/ || true");
        assert_eq!(machine.property(unit, "ActiveState"), "failed");
        let status = machine.run("roundsman status");
        assert!(status.contains("lost:1  failed") && status.contains("adduser --system"), "{status}");

        // A file with an error is its own app's business.
        machine.write("/etc/roundsman/apps/lost.toml", "command = 1\n");
        machine.write("/etc/roundsman/apps/new.toml", "commnd = []\n");
        machine.run("roundsman scale shop 2");
        machine.run("roundsman reload shop --settle 0");
        machine.run("cd /srv/shop && roundsman start server.js --name blog --host blog.example");
        assert_eq!(machine.run("curl --silent -H 'Host: blog.example' http://localhost/"), "one");
        assert_eq!(machine.try_run("roundsman reload").status.code(), Some(78));
        let said = machine.try_run("roundsman start new");
        assert_eq!(said.status.code(), Some(78), "{said}");
        let status = machine.run("roundsman status");
        assert!(status.contains("lost: its file has errors"), "{status}");
        machine.run("roundsman stop lost && roundsman delete lost --yes && roundsman delete new --yes");
        machine.run("roundsman reload && roundsman delete blog --yes");
        assert_eq!(machine.curl("/"), "one");
    }
}

on_every_debian_in_soak! {
    /// Members of the group may manage and deploy apps, without root and with systemctl as with
    /// roundsman; nobody else may. (What they may not is in `hostile_users/members.rs`.)
    fn the_group_may_manage_workers(machine: &Machine) {
        app(machine, "well");
        machine.run("cd /srv/shop && roundsman start server.js -n 2");
        machine.run("useradd -G roundsman alice && useradd bob");
        let by = |user: &str, command: &str| machine.try_by(user, command);
        let run = |number| machine.property(&format!("roundsman-worker@shop:{number}.service"), "InvocationID");

        for command in [
            "systemctl --no-ask-password restart roundsman-worker@shop:1.service",
            "systemctl --no-ask-password reload roundsman.service",
            "roundsman restart shop:2",
            "roundsman reload shop --settle 1",
            "roundsman reload shop --settle 1 --surge 1",
            "roundsman scale shop +1",
            "roundsman scale shop 2",
            "systemctl --no-ask-password stop roundsman-app@shop.target",
            "systemctl --no-ask-password start roundsman-app@shop.target",
            "roundsman stop shop",
            "roundsman start shop",
            "roundsman stop shop",
            "systemctl --no-ask-password start roundsman-app@shop.target",
        ] {
            let said = by("alice", command);
            assert!(said.ok(), "a member may: {said}");
        }
        assert_eq!(machine.curl("/"), "one");

        let before = (run(1), run(2));
        for command in [
            "systemctl --no-ask-password restart roundsman-worker@shop:1.service",
            "systemctl --no-ask-password stop roundsman-app@shop.target",
            "roundsman restart shop",
            "roundsman reload shop",
        ] {
            let said = by("bob", command);
            assert!(!said.ok(), "others may not: {said}");
        }
        assert_eq!(by("bob", "roundsman reload shop").status.code(), Some(77));
        let after = (run(1), run(2));
        assert_eq!(after, before);
    }
}
