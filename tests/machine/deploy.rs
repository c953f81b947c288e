//! Deploys under load: what PM2 loses requests at, nothing is lost at here, and new code that does
//! not work never takes the old code down.

use crate::harness::{Clients, Load, Machine, Package, on_every_debian};

/// Makes a release of the app in tests/apps/deploy, and points `current` at it.
fn release(machine: &Machine, version: &str, behaviour: &str) {
    let directory = format!("/srv/shop/releases/{version}");
    machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/deploy"), &directory);
    machine.write(&format!("{directory}/version"), version);
    machine.write(&format!("{directory}/behaviour"), behaviour);
    machine.run(&format!("ln -sfn releases/{version} /srv/shop/current"));
}

/// The app with so many workers, started in one line, and clients that ask all the time.
fn start(machine: &Machine, workers: u16, more: &str) -> Load {
    machine.install(&Package::built());
    release(machine, "one", "well");
    machine.run(&format!("cd /srv/shop/current && roundsman start server.js -n {workers} {more}"));
    let load = machine.load(Clients::new(16, 4));
    load.goes_on_for(200);
    load
}

/// The release that each worker runs, as `describe` says.
fn releases(machine: &Machine) -> Vec<String> {
    let text = machine.run("roundsman describe shop --json");
    let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let workers = value["workers"].as_array().expect("a list");
    let name = |worker: &serde_json::Value| {
        let release = worker["release"].as_str().unwrap_or("none");
        release.rsplit('/').next().unwrap_or_default().to_owned()
    };
    workers.iter().map(name).collect()
}

on_every_debian! {
    /// PM2's cases A, B and C: an app that handles no signal, requests of 6 s in flight, code that
    /// needs longer to listen than PM2 waits.
    fn a_good_deploy_loses_nothing(machine: &Machine) {
        let load = start(machine, 2, "");
        machine.run("for i in 1 2 3 4; do curl -sS http://127.0.0.1/slow > /tmp/slow$i 2>&1 & done; sleep 0.5");
        release(machine, "two", "well");
        machine.run("roundsman reload shop");
        load.goes_on_for(200);
        release(machine, "three", "late:5000");
        machine.run("roundsman reload shop");
        load.goes_on_for(200);
        let tally = load.stop();
        tally.assert_nothing_failed();
        for version in ["one", "two", "three"] {
            assert!(tally.bodies.contains_key(version), "{version}: {tally}");
        }
        assert_eq!(releases(machine), ["three", "three"]);
        for slow in 1..=4 {
            assert_eq!(machine.run(&format!("cat /tmp/slow{slow}")), "one", "a slow request");
        }
    }
}

on_every_debian! {
    /// PM2's case D: one worker. An extra one serves meanwhile, and is gone afterwards.
    fn one_worker_is_enough(machine: &Machine) {
        let load = start(machine, 1, "");
        release(machine, "two", "well");
        let said = machine.try_run("roundsman reload shop");
        assert!(said.ok() && said.stderr.contains("shop:2 starts, as an extra worker"), "{said}");
        load.goes_on_for(200);
        load.stop().assert_nothing_failed();
        assert_eq!(releases(machine), ["two"]);
        assert_ne!(machine.property("roundsman-worker@shop:2.service", "ActiveState"), "active");
        assert!(!machine.exists("/run/roundsman.d/apps/shop.toml.d"));

        // And back, in one word.
        machine.run("roundsman rollback shop");
        assert_eq!(releases(machine), ["one"]);
        assert_eq!(machine.curl("/"), "one");
    }
}

on_every_debian! {
    /// PM2's cases E and G, and one that it has no letter for: code that is broken at load, never
    /// listens, or crashes after it has. The old code serves on, and the status says so.
    fn a_broken_deploy_leaves_the_old_code_in_charge(machine: &Machine) {
        let load = start(machine, 2, "");
        machine.run("sed -i '$a start-timeout = \"5s\"' /etc/roundsman/apps/shop.toml");
        for (version, behaviour, reason) in [
            ("thrown", "throw", "release thrown is broken at load"),
            ("never", "never", "shop:1"),
            ("crashing", "crash:500", "release crashing crashes"),
        ] {
            release(machine, version, behaviour);
            let said = machine.try_run("roundsman reload shop");
            assert_eq!(said.status.code(), Some(1), "{said}");
            assert!(said.stderr.contains(reason), "{said}");
            assert!(said.stderr.contains("The deploy has stopped"), "{said}");
            load.goes_on_for(100);
            assert_eq!(machine.property("roundsman-worker@shop:2.service", "ActiveState"), "active");
        }
        // With an extra worker the first to fail is that one, and no other is touched.
        release(machine, "good", "well");
        machine.run("roundsman reload shop");
        release(machine, "thrown", "throw");
        let said = machine.try_run("roundsman reload shop --surge 1");
        assert_eq!(said.status.code(), Some(1), "{said}");
        assert!(said.stderr.contains("No other worker was touched"), "{said}");
        load.goes_on_for(100);
        let tally = load.stop();
        tally.assert_nothing_failed();
        assert!(!tally.bodies.contains_key("crashing"), "unproven code got requests: {tally}");
        assert_eq!(releases(machine), ["good", "good"]);
    }
}

on_every_debian! {
    /// An interrupted deploy leaves every worker serving and goes on where it was; one that was
    /// killed in the middle does, too; and two at once never mix.
    fn an_interrupted_deploy_is_resumed(machine: &Machine) {
        let load = start(machine, 3, "");
        for (signal, version) in [("INT", "two"), ("KILL", "three")] {
            release(machine, version, "late:1000");
            machine.run("roundsman reload shop > /tmp/reload 2>&1 & echo $! > /tmp/pid");
            machine.eventually("the deploy has begun", |machine| {
                machine.run("cat /tmp/reload").contains("restarts")
            });
            let busy = machine.try_run("roundsman reload shop");
            assert_eq!(busy.status.code(), Some(75), "{busy}");
            machine.run(&format!("kill -{signal} $(cat /tmp/pid)"));
            machine.eventually("it has ended", |machine| {
                !machine.try_run("kill -0 $(cat /tmp/pid)").ok()
            });
            load.goes_on_for(100);
            machine.run("roundsman reload shop --resume");
            assert_eq!(releases(machine), [version; 3]);
            load.goes_on_for(100);
        }
        load.stop().assert_nothing_failed();
        assert_eq!(machine.try_run("roundsman reload shop --resume").status.code(), Some(1));
    }
}
