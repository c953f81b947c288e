//! Crashes of workers.

use std::time::Duration;

use crate::harness::{Clients, Machine, on_every_debian_in_soak};

on_every_debian_in_soak! {
    /// While the only worker of an app is down, requests wait for its successor: none that arrived
    /// after the crash fails.
    fn crash_of_the_only_worker_fails_no_later_request(machine: &Machine) {
        machine.start_hello(1);
        let unit = "roundsman-worker@hello:1.service";
        let load = machine.load(Clients::new(16, 4));
        let mut crashes = Vec::new();
        for _ in 0..3 {
            load.goes_on_for(300);
            machine.run(&format!("systemctl kill --kill-whom=all --signal=KILL {unit}"));
            crashes.push(load.elapsed());
        }
        load.goes_on_for(300);
        let tally = load.stop();
        println!("kill -9 of the only worker, three times: {tally}");
        for failed in &tally.failed {
            // Asked before the kill was done, and known to have failed about then.
            let in_flight = |crash: &Duration| failed.asked <= *crash && *crash <= failed.seen + SLACK;
            assert!(crashes.iter().any(in_flight), "{failed:?} was asked after the crash: {tally}");
        }
        assert!(machine.property(unit, "NRestarts").parse::<u32>().expect("a number") >= 3);
    }
}

/// What `systemctl kill` itself takes at most, between the kill and our noticing it.
const SLACK: Duration = Duration::from_secs(2);
