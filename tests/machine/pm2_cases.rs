//! The cases in which PM2 loses requests or takes a site down that are no deploys: F, H and I.
//! A to E and G are in `deploy.rs`.

use std::time::Duration;

use crate::harness::{Clients, Failed, Machine, on_every_debian_in_soak};
use crate::shop::{install, install_as, load, release, releases, runs, worker};

on_every_debian_in_soak! {
    /// F: an app that waits for the message `shutdown` gets it, at a reload and at a restart, and
    /// no signal that it does not handle.
    fn f_the_shutdown_message(machine: &Machine) {
        install_as(machine, "message", 2, "shutdown = \"message\"\n");
        let clients = Clients::new(12, 4).with(2, 2, 0).slow(Duration::from_millis(1500)).unhurried();
        let load = machine.load(clients);
        load.goes_on_for(200);
        release(machine, "two", "message");
        machine.run("roundsman reload shop");
        release(machine, "three", "message");
        machine.run("roundsman reload shop");
        machine.run("roundsman restart shop:1");
        machine.run("systemctl restart roundsman-worker@shop:2.service");
        load.goes_on_for(100);
        let tally = load.stop();
        println!("F, reloads and restarts by message: {tally}");
        tally.assert_nothing_failed();
        assert_eq!(releases(machine), ["three", "three"]);
        for number in [1, 2] {
            let journal = machine.journal(&format!("-u roundsman-worker@shop:{number}.service"));
            let count = |text: &str| journal.iter().filter(|entry| entry["MESSAGE"] == text).count();
            assert_eq!(count("message: \"shutdown\""), 3, "{journal:#?}");
            assert_eq!(count("closing down"), 3, "{journal:#?}");
        }
        // It had all the time that it wanted, and was not signalled.
        for number in [1, 2] {
            assert_eq!(worker(machine, number, "Result"), "success");
            // Who has to be killed has an entry of its main process, which is an error.
            let unit = format!("roundsman-worker@shop:{number}.service");
            let complaints = machine.journal(&format!("--priority warning -u {unit}"));
            assert!(complaints.is_empty(), "{complaints:#?}");
        }
    }
}

on_every_debian_in_soak! {
    /// H: no process whose death takes others with it. PM2's daemon has no counterpart; of those
    /// that there are, a worker's main process and the front are killed in turn.
    fn h_whatever_is_killed_the_others_live(machine: &Machine) {
        install(machine, 3, "");
        let before = runs(machine, 3);
        // What can be asked again is, by the front: nothing is lost with a worker.
        let load = machine.load(Clients::new(12, 4));
        load.goes_on_for(200);
        for number in [1, 2] {
            let kill = "systemctl kill --kill-whom=main --signal=KILL";
            machine.run(&format!("{kill} roundsman-worker@shop:{number}.service"));
            load.goes_on_for(200);
            // With a second one dead meanwhile only one would be left, and that is not risked.
            machine.is_up_again(&format!("shop:{number}"));
        }
        let tally = load.stop();
        println!("H, kill -9 of two of three workers' main processes: {tally}");
        tally.assert_nothing_failed();
        machine.eventually("they are back", |machine| {
            [1, 2].iter().all(|number| worker(machine, *number, "ActiveState") == "active")
        });
        let after = runs(machine, 3);
        assert_eq!(after[2], before[2], "worker 3 has not noticed");
        assert!(after[0] != before[0] && after[1] != before[1], "they were killed");

        // The front carries the requests: those in flight in it end with it, and no other.
        let load = machine.load(Clients::new(12, 4));
        load.goes_on_for(200);
        machine.run("systemctl kill --kill-whom=main --signal=KILL roundsman.service");
        load.goes_on_for(200);
        let tally = load.stop();
        println!("H, kill -9 of the front: {tally}");
        assert!(tally.failed.iter().all(Failed::is_lost_connection), "{tally}");
        assert!(tally.failed.len() <= 16, "at most one request of each client: {tally}");
        assert_eq!(runs(machine, 3), after, "no worker has noticed");
        machine.run("systemctl start roundsman-session-store.service");
        machine.run("systemctl kill --kill-whom=main --signal=KILL roundsman-session-store.service");
        machine.eventually("the store has been killed and is back", |machine| {
            let unit = "roundsman-session-store.service";
            machine.property(unit, "NRestarts") == "1" && machine.property(unit, "ActiveState") == "active"
        });
        assert_eq!(runs(machine, 3), after, "no worker has noticed");
    }
}

on_every_debian_in_soak! {
    /// I: whatever an app sends over its channel, nobody else notices, and not even itself.
    fn i_hostile_messages_harm_nobody(machine: &Machine) {
        install(machine, 2, "drain-timeout = \"8s\"\n");
        machine.add_app(
            "hostile",
            "tests/apps/deploy",
            "command = [\"node\", \"server.js\"]\nworkers = 2\nroute = [{ host = \"hostile\" }]\n",
        );
        machine.write("/srv/hostile/version", "hostile");
        machine.write("/srv/hostile/behaviour", "hostile");
        machine.run("roundsman start hostile");
        let before = runs(machine, 2);
        let load = load(machine);
        load.goes_on_for(1000);
        let answer = machine.run("curl -sS -H 'Host: hostile' http://127.0.0.1/");
        assert_eq!(answer, "hostile", "it serves");
        let tally = load.stop();
        println!("I, beside an app that sends hostile messages: {tally}");
        tally.assert_nothing_failed();
        assert_eq!(runs(machine, 2), before);
        for number in [1, 2] {
            let unit = format!("roundsman-worker@hostile:{number}.service");
            assert_eq!(machine.property(&unit, "NRestarts"), "0", "its own worker lives, too");
        }
        assert_eq!(machine.property("roundsman.service", "NRestarts"), "0");
    }
}
