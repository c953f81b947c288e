//! Restarts and reloads while clients ask: none of them may notice.

use std::time::Duration;

use crate::harness::{Clients, Failed, Load, Machine, on_every_debian, on_every_debian_in_soak};

/// How often each thing is done.
const TIMES: usize = 3;

/// How many more answers there are before the next thing is done.
const ANSWERS: u64 = 500;

/// How long a slow start takes: far longer than systemd needs for an answer.
const SLOW: Duration = Duration::from_secs(12);

/// Clients of each kind.
const KEPT_ALIVE: usize = 64;
const CONNECTING: usize = 8;
const HTTP2: usize = 4;

/// What they need of the front.
const TAKES_HTTP2: &str = "[listen.http]\nhttp2 = true\n";

fn start(machine: &Machine) -> Load {
    machine.start_hello(2);
    machine.write("/etc/roundsman/roundsman.toml", TAKES_HTTP2);
    machine.run("systemctl reload roundsman.service");
    machine.load(Clients::new(KEPT_ALIVE, CONNECTING).speaking_http2(HTTP2))
}

on_every_debian! {
    /// `systemctl restart` of the front loses no request, on new connections, on kept ones and on
    /// streams.
    fn restart_of_the_front_loses_nothing(machine: &Machine) {
        let load = start(machine);
        for _ in 0..TIMES {
            load.goes_on_for(ANSWERS);
            machine.run("systemctl restart roundsman.service");
        }
        load.goes_on_for(ANSWERS);
        // systemd may take its time before it starts the next one, as anybody can make it do.
        machine.write(
            "/run/systemd/system/roundsman.service.d/slow.conf",
            &format!("[Service]\nExecStartPre=/bin/sleep {}\n", SLOW.as_secs()),
        );
        machine.run("systemctl daemon-reload && systemctl restart roundsman.service");
        load.goes_on_for(ANSWERS);
        let tally = load.stop();
        println!("restarts, one of them slow: {tally}");
        tally.assert_nothing_failed();
        assert!(tally.outage < SLOW / 2, "the earlier front answers until then: {tally}");
    }
}

on_every_debian! {
    /// A good configuration is put to work, a bad one refused with its errors on the terminal, and
    /// neither loses a request.
    fn reload_of_the_front_loses_nothing(machine: &Machine) {
        let load = start(machine);
        for time in 0..TIMES {
            load.goes_on_for(ANSWERS);
            machine.write("/etc/roundsman/roundsman.toml", &format!("{TAKES_HTTP2}[limits]\nheaders = {}\n", 100 + time));
            machine.run("systemctl reload roundsman.service");

            load.goes_on_for(ANSWERS);
            machine.write("/etc/roundsman/roundsman.toml", "[limits]\nheadres = 100\n");
            let said = machine.try_run("roundsman reload");
            assert!(!said.ok() && said.stderr.contains("headres"), "{said}");
            assert!(!machine.try_run("systemctl reload roundsman.service").ok());
            assert_eq!(machine.property("roundsman.service", "ActiveState"), "active");
        }
        load.stop().assert_nothing_failed();
        let refusals = machine.events("RELOAD_REFUSED");
        assert_eq!(refusals.len(), 2 * TIMES, "each refusal is in the journal");
        assert!(refusals[0]["MESSAGE"].as_str().expect("text").contains("headres"), "{refusals:?}");
    }
}

on_every_debian_in_soak! {
    /// `systemctl restart` of a worker drains it first, so that nothing is lost.
    fn restart_of_a_worker_loses_nothing(machine: &Machine) {
        let load = start(machine);
        for _ in 0..TIMES {
            load.goes_on_for(ANSWERS);
            machine.run("systemctl restart roundsman-worker@hello:1.service");
        }
        load.goes_on_for(ANSWERS);
        let tally = load.stop();
        tally.assert_nothing_failed();
        for worker in ["Hello from worker 1,", "Hello from worker 2,"] {
            assert!(tally.bodies.keys().any(|body| body.starts_with(worker)), "{tally:?}");
        }
    }
}

on_every_debian_in_soak! {
    /// `kill -9` of the front loses what was in flight in that process and nothing else: every new
    /// connection is served.
    fn killed_front_loses_only_what_it_had(machine: &Machine) {
        machine.start_hello(2);
        let load = machine.load(Clients::new(KEPT_ALIVE, CONNECTING));
        for _ in 0..TIMES {
            load.goes_on_for(ANSWERS);
            machine.run("systemctl kill --kill-whom=main --signal=KILL roundsman.service");
        }
        load.goes_on_for(ANSWERS);
        let tally = load.stop();
        println!("kill -9 of the front, {TIMES} times: {tally}");
        assert!(tally.failed.iter().all(Failed::is_lost_connection), "{tally}");
        // Each client has at most one request in flight.
        assert!(tally.failed.len() <= TIMES * (KEPT_ALIVE + CONNECTING), "{tally}");
        assert_eq!(machine.property("roundsman.service", "NRestarts"), TIMES.to_string());
    }
}
