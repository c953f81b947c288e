//! `mode = "handoff"`: workers are given connections.

use std::time::Duration;

use crate::harness::{Clients, Failed, Kind, Machine, on_every_debian, on_every_debian_in_soak};

/// Clients that keep their connection.
const KEPT: usize = 8;

const APP: &str = "command = [\"node\", \"handed.js\"]\nworkers = 2\nmode = \"handoff\"\n";

on_every_debian! {
    /// The app sees the client and may speak TLS; a restart of a worker or of the front loses no
    /// connection, and neither does a crash, but for what the dead app had accepted.
    fn connections_are_handed_to_workers_and_none_is_lost(machine: &Machine) {
        machine.add_app("shop", "tests/apps", APP);
        machine.start_app("shop");
        let pair = [machine.curl("/"), machine.curl("/")];
        assert!(pair.iter().all(|body| body.contains("shop:")) && pair[0] != pair[1], "{pair:?}");
        let body = machine.run("curl -s --interface 127.0.0.5 http://127.0.0.1/");
        assert!(body.contains("127.0.0.5"), "{body}");

        let load = machine.load(Clients::new(0, 8));
        for _ in 0..2 {
            load.goes_on_for(100);
            machine.run("systemctl restart roundsman-worker@shop:1.service");
            load.goes_on_for(100);
            machine.run("systemctl restart roundsman.service");
        }
        load.goes_on_for(100);
        load.stop().assert_nothing_failed();

        let load = machine.load(Clients::new(0, 8));
        load.goes_on_for(100);
        machine.run("systemctl kill --kill-whom=all --signal=KILL roundsman-worker@shop:2.service");
        let killed = load.elapsed();
        load.goes_on_for(200);
        let tally = load.stop();
        println!("kill -9 of one of two workers: {tally}");
        for failed in &tally.failed {
            // Taken by the app before it died.
            assert!(failed.asked <= killed && failed.is_lost_connection(), "{failed:?}: {tally}");
            assert!(killed <= failed.seen + Duration::from_secs(2), "{failed:?}");
        }
    }
}

on_every_debian_in_soak! {
    /// TLS on a listener of the app's own, next to another app's HTTP; and nobody but the front
    /// hands connections in.
    fn an_app_has_a_listener_of_its_own_and_speaks_tls(machine: &Machine) {
        machine.start_hello(1);
        machine.run(
            "mkdir -p /etc/systemd/system/roundsman.service.d && cd /etc/systemd/system && \
             printf '[Socket]\\nListenStream=8443\\nFileDescriptorName=own\\nService=roundsman.service\\n\
             [Install]\\nWantedBy=sockets.target\\n' > roundsman-own.socket && \
             printf '[Service]\\nSockets=roundsman-own.socket\\n' > roundsman.service.d/own.conf && \
             mkdir -p /srv/shop && cd /srv/shop && openssl req -x509 -newkey ec -pkeyopt \
             ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -keyout key.pem \
             -out cert.pem 2>&1 && chmod a+r key.pem",
        );
        let app = "command = [\"node\", \"handed.js\", \"key.pem\", \"cert.pem\"]\nmode = \"handoff\"\n\
                   listener = \"own\"\n";
        machine.add_app("shop", "tests/apps", app);
        // systemd starts no socket of a service that runs.
        machine.run(
            "systemctl daemon-reload && systemctl enable roundsman-own.socket && \
             systemctl stop roundsman.service && \
             systemctl start roundsman-own.socket roundsman.service && \
             systemctl enable --now roundsman-app@shop.target",
        );
        machine.eventually("TLS from the app", |machine| {
            machine.run("curl -sk https://127.0.0.1:8443/ || true").contains("\"encrypted\":true")
        });
        assert!(machine.curl("/").contains("Hello"));

        machine.run("useradd -G roundsman alice");
        let said = machine.run(
            "runuser -u alice -- node -e \"require('net').connect('/run/roundsman-workers/shop:1/control.sock')\
             .on('data', (d) => { console.log(String(d)); process.exit(); }).write('handoff\\n')\"",
        );
        assert!(said.starts_with("denied"), "{said}");

        // What cannot go together is said before anything is changed.
        machine.write("/etc/roundsman/routes/bad.toml", "[[route]]\nto = \"app:shop\"\n");
        let said = machine.try_run("roundsman check");
        assert!(!said.ok() && said.stdout.contains("no requests can be sent to app:shop")
            || said.stderr.contains("no requests can be sent to app:shop"), "{said}");
    }
}

on_every_debian_in_soak! {
    /// Connections that are kept belong to the workers: the front's restart and death touch none. A
    /// deploy loses no new connection, and of a kept one at most the request that meets its end.
    fn restarts_and_deploys_under_kept_connections(machine: &Machine) {
        machine.add_app("shop", "tests/apps", &format!("{APP}stop-timeout = \"6s\"\n"));
        machine.start_app("shop");

        let load = machine.load(Clients::new(KEPT, 4));
        for _ in 0..3 {
            load.goes_on_for(200);
            machine.run("systemctl restart roundsman.service");
            load.goes_on_for(200);
            machine.run("systemctl reload roundsman.service");
        }
        load.goes_on_for(200);
        let tally = load.stop();
        println!("three restarts and reloads of the front: {tally}");
        tally.assert_nothing_failed();

        let load = machine.load(Clients::new(KEPT, 4));
        load.goes_on_for(200);
        machine.run("roundsman reload shop");
        load.goes_on_for(200);
        let tally = load.stop();
        println!("a deploy: {tally}");
        // Node has closed it, or ended, when the request came: the race that every client of
        // kept connections knows. Nobody but the app could have told the client before.
        let met_the_end = |failed: &&Failed| failed.client == Kind::Kept && failed.is_lost_connection();
        let lost = tally.failed.iter().filter(met_the_end).count();
        assert_eq!(lost, tally.failed.len(), "{tally}");
        assert!(lost <= 2 * KEPT, "at most one for each client and worker: {tally}");
        assert_eq!(tally.answers.len(), 2, "both kinds of clients were answered: {tally}");

        let load = machine.load(Clients::new(KEPT, 4));
        load.goes_on_for(200);
        let before = load.elapsed();
        machine.run("systemctl kill --kill-whom=main --signal=KILL roundsman.service");
        let killed = load.elapsed();
        load.goes_on_for(200);
        let tally = load.stop();
        println!("kill -9 of the front: {tally}");
        for failed in &tally.failed {
            // It was with the front, and no worker had it yet.
            assert!(failed.client == Kind::Connecting && failed.is_lost_connection(), "{tally}");
            assert!(failed.asked <= killed && before <= failed.seen, "{tally}");
        }
    }
}
