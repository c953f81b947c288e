//! Deploys under load: what PM2 loses requests at, nothing is lost at here, and new code that does
//! not work never takes the old code down. Clients of every kind ask meanwhile.

use crate::harness::{Machine, on_every_debian_in_soak};
use crate::shop::{install, load, release, releases, runs, start, worker};

on_every_debian_in_soak! {
    /// PM2's cases A, B and C: an app that handles no signal, requests of 2 s in flight, code that
    /// needs longer to listen than PM2 waits (3 s). And while it goes on, more workers and fewer.
    fn a_good_deploy_loses_nothing(machine: &Machine) {
        let load = start(machine, 2, "");
        release(machine, "two", "well");
        machine.run("roundsman reload shop");
        load.goes_on_for(200);
        release(machine, "three", "late:3500");
        machine.run("roundsman scale shop 3");
        machine.run("roundsman reload shop --batch 2");
        load.goes_on_for(200);
        machine.run("roundsman scale shop 2");
        load.goes_on_for(200);
        let tally = load.stop();
        println!("deploys of good and of slow code, scaled up and down: {tally}");
        tally.assert_nothing_failed();
        for version in ["one", "two", "three"] {
            assert!(tally.bodies.contains_key(version), "{version}: {tally}");
        }
        assert!(tally.closed > 0, "WebSockets that outlive a drain are closed: {tally}");
        assert_eq!(releases(machine), ["three", "three"]);
    }
}

on_every_debian_in_soak! {
    /// PM2's case D: one worker. An extra one serves meanwhile, and is gone afterwards.
    fn one_worker_is_enough(machine: &Machine) {
        let load = start(machine, 1, "");
        release(machine, "two", "well");
        let said = machine.try_run("roundsman reload shop");
        assert!(said.ok() && said.stderr.contains("shop:2 starts, as an extra worker"), "{said}");
        load.goes_on_for(200);
        let tally = load.stop();
        println!("a deploy of an app with one worker: {tally}");
        tally.assert_nothing_failed();
        assert_eq!(releases(machine), ["two"]);
        assert_eq!(worker(machine, 2, "ActiveState"), "inactive");
        assert!(!machine.exists("/run/roundsman.d/apps/shop.toml.d"));

        // And back, in one word.
        machine.run("roundsman rollback shop");
        assert_eq!(releases(machine), ["one"]);
        assert_eq!(machine.curl("/"), "one");
    }
}

on_every_debian_in_soak! {
    /// PM2's cases E and G, and one that it has no letter for: code that is broken at load, never
    /// listens, or crashes after it has. The old code serves on, and the status says so.
    fn a_broken_deploy_leaves_the_old_code_in_charge(machine: &Machine) {
        let load = start(machine, 2, "start-timeout = \"5s\"\n");
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
            assert_eq!(worker(machine, 2, "ActiveState"), "active");
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
        println!("deploys of broken code: {tally}");
        tally.assert_nothing_failed();
        assert!(!tally.bodies.contains_key("crashing"), "unproven code got requests: {tally}");
        assert_eq!(releases(machine), ["good", "good"]);
    }
}

on_every_debian_in_soak! {
    /// With `rollback = true` a deploy that fails undoes itself: the link leads to the old release
    /// again, every worker serves it, and the status still says that it has failed.
    fn a_failed_deploy_goes_back_by_itself(machine: &Machine) {
        let load = start(machine, 2, "rollback = true\nstart-timeout = \"5s\"\n");
        let untouched = runs(machine, 2);
        release(machine, "thrown", "throw");
        let said = machine.try_run("roundsman reload shop");
        assert_eq!(said.status.code(), Some(1), "{said}");
        for expected in ["release thrown is broken at load", "back on the release before"] {
            assert!(said.stderr.contains(expected), "{expected}: {said}");
        }
        assert_eq!(releases(machine), ["one", "one"]);
        assert_eq!(runs(machine, 2)[1], untouched[1], "worker 2 was not touched");
        assert_eq!(machine.run("readlink /srv/shop/current").trim(), "releases/one");
        assert!(!machine.run("roundsman describe shop").contains("unfinished"));

        // Worker 1 is well with it and has it already when worker 2 fails: both go back.
        release(machine, "first", "only:1");
        let said = machine.try_run("roundsman reload shop --json");
        assert_eq!(said.status.code(), Some(1), "{said}");
        let report: serde_json::Value = serde_json::from_str(&said.stdout).expect("it is JSON");
        assert_eq!(report["failed"], 2, "{report}");
        assert_eq!(report["back"], "/srv/shop/releases/one", "{report}");
        assert_eq!(releases(machine), ["one", "one"]);

        // An extra worker fails before anybody is touched.
        release(machine, "thrown", "throw");
        let before = runs(machine, 2);
        let said = machine.try_run("roundsman reload shop --surge 1");
        assert_eq!(said.status.code(), Some(1), "{said}");
        assert_eq!((releases(machine), runs(machine, 2)), (vec!["one".to_owned(); 2], before));
        load.goes_on_for(100);
        let tally = load.stop();
        println!("deploys that go back: {tally}");
        tally.assert_nothing_failed();
    }
}

on_every_debian_in_soak! {
    /// What has no end of its own gets drain-timeout and then a proper one: server-sent events end
    /// as a whole response, and a long poll is answered by another worker.
    fn what_outlives_a_drain_ends_in_good_order(machine: &Machine) {
        install(machine, 2, "drain-timeout = \"2s\"\nstop-timeout = \"3s\"\n");
        machine.run(
            "exec > /dev/null 2>&1
             for i in 1 2; do (curl -sSN http://127.0.0.1/events > /tmp/events$i; echo $? > /tmp/ended$i) & done
             (curl -sS 'http://127.0.0.1/slow?ms=30000' > /tmp/poll; echo $? > /tmp/polled) &",
        );
        machine.eventually("both streams have begun", |machine| {
            machine.run("cat /tmp/events1 /tmp/events2").matches("data: one").count() > 4
        });
        let load = load(machine);
        release(machine, "two", "well");
        machine.run("roundsman reload shop");
        load.goes_on_for(100);
        machine.eventually("the streams and the poll have ended", |machine| {
            machine.try_run("cat /tmp/ended1 /tmp/ended2 /tmp/polled").stdout == "0\n0\n0\n"
        });
        // A curl that ends with 0 has seen the last chunk.
        assert_eq!(machine.run("cat /tmp/poll"), "two");
        let tally = load.stop();
        println!("conversations that outlive a drain: {tally}");
        tally.assert_nothing_failed();
        assert!(tally.closed > 0, "{tally}");
    }
}
