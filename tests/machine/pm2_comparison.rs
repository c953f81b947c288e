//! PM2's cases A to I, run against the real PM2 and against Roundsman: the same app, the same
//! clients, the same machine. `make bench-pm2` installs PM2 and prints the table.

use std::path::Path;
use std::time::Duration;

use crate::harness::{Clients, Debian, Machine, Tally};

/// Where `benches/pm2` has installed PM2.
const PM2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/pm2");

/// How long the clients go on after the deed: what is down for good is to be seen.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// Without a good answer for so long at the end, it is not coming back.
const FOR_GOOD: Duration = Duration::from_secs(3);

/// One case.
struct Case {
    name: &'static str,
    /// How the app behaves before and after the deploy; without a second one nothing is deployed.
    before: &'static str,
    after: Option<&'static str>,
    /// How PM2 starts and is told; how Roundsman is.
    pm2: (&'static str, &'static str),
    roundsman: (&'static str, &'static str),
}

const RELOAD: (&str, &str) = ("-i 2", "pm2 reload shop");
const OURS: (&str, &str) = ("workers = 2\n", "roundsman reload shop");

const CASES: &[Case] = &[
    Case {
        name: "A: reload, no signal handler, requests of 6 s",
        before: "well",
        after: Some("well"),
        pm2: RELOAD,
        roundsman: OURS,
    },
    Case {
        name: "B: reload, `server.close()`, requests of 6 s",
        before: "graceful",
        after: Some("graceful"),
        pm2: RELOAD,
        roundsman: OURS,
    },
    Case {
        name: "C: new code listens after 9 s",
        before: "well",
        after: Some("late:9000"),
        pm2: RELOAD,
        roundsman: OURS,
    },
    Case {
        name: "D: one process",
        before: "well",
        after: Some("well"),
        pm2: ("", "pm2 reload shop"),
        roundsman: ("", "roundsman reload shop"),
    },
    Case {
        name: "E: new code throws at load",
        before: "well",
        after: Some("throw"),
        pm2: RELOAD,
        roundsman: OURS,
    },
    Case {
        name: "F: app waits for the `shutdown` message",
        before: "message",
        after: Some("message"),
        pm2: ("-i 2 --shutdown-with-message", "pm2 reload shop"),
        roundsman: ("workers = 2\nshutdown = \"message\"\n", "roundsman reload shop"),
    },
    Case {
        name: "G: new code never says `ready`",
        before: "ready",
        after: Some("well"),
        pm2: ("-i 2 --wait-ready", "pm2 reload shop"),
        roundsman: (
            "workers = 2\nready = \"message\"\nstart-timeout = \"5s\"\n",
            "roundsman reload shop",
        ),
    },
    Case {
        name: "H: kill -9 of PM2's daemon; of the front",
        before: "well",
        after: None,
        pm2: ("-i 2", "kill -9 $(cat $PM2_HOME/pm2.pid)"),
        roundsman: (
            "workers = 2\n",
            "systemctl kill --kill-whom=main --signal=KILL roundsman.service",
        ),
    },
    Case {
        name: "H: kill -9 of PM2's daemon; of a worker's main process",
        before: "well",
        after: None,
        pm2: ("-i 2", "kill -9 $(cat $PM2_HOME/pm2.pid)"),
        roundsman: (
            "workers = 2\n",
            "systemctl kill --kill-whom=main --signal=KILL roundsman-worker@shop:1.service",
        ),
    },
    Case {
        name: "I: another app calls `process.send(null)`",
        before: "well",
        after: None,
        pm2: ("-i 2", "cd /srv/hostile && PORT=3001 pm2 start server.js --name hostile -i 1"),
        roundsman: ("workers = 2\n", "roundsman start hostile"),
    },
];

#[test]
#[ignore = "minutes, and needs PM2: make bench-pm2"]
fn pm2_comparison() {
    let machine = Machine::boot(Debian::Trixie);
    assert!(Path::new(PM2).exists(), "{PM2} is missing: make bench-pm2 installs it");
    machine.copy_in(PM2, "/opt/pm2");
    machine.run("ln -s /opt/pm2/node_modules/.bin/pm2 /usr/bin/pm2");
    app(&machine, "/srv/hostile", "hostile");
    machine.write(
        "/etc/roundsman/apps/hostile.toml",
        "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/hostile\"\n\
         route = [{ host = \"hostile\" }]\n",
    );
    println!("TABLE | case | PM2: lost | outage | exit | Roundsman: lost | outage | exit |");
    println!("TABLE | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for case in CASES {
        let theirs = with_pm2(&machine, case);
        let ours = with_roundsman(&machine, case);
        println!("TABLE | {} | {theirs} | {ours} |", case.name);
    }
}

fn app(machine: &Machine, directory: &str, behaviour: &str) {
    machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/deploy"), directory);
    machine.write(&format!("{directory}/version"), "it");
    machine.write(&format!("{directory}/behaviour"), behaviour);
}

fn with_pm2(machine: &Machine, case: &Case) -> String {
    const HOME: &str = "export PM2_HOME=/root/pm2;";
    app(machine, "/srv/shop", case.before);
    machine.run(&format!("{HOME} cd /srv/shop && pm2 start server.js --name shop {}", case.pm2.0));
    let cells = measured(machine, case, 3000, &format!("{HOME} {}", case.pm2.1));
    machine.try_run(&format!("{HOME} pm2 kill"));
    cells
}

fn with_roundsman(machine: &Machine, case: &Case) -> String {
    app(machine, "/srv/shop", case.before);
    machine.write(
        "/etc/roundsman/apps/shop.toml",
        &format!(
            "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/shop\"\n{}",
            case.roundsman.0
        ),
    );
    machine.run("roundsman start shop");
    let cells = measured(machine, case, 80, case.roundsman.1);
    machine.run("roundsman delete shop --yes; roundsman stop hostile");
    cells
}

/// Does the deed while clients ask; the cells for it.
fn measured(machine: &Machine, case: &Case, port: u16, deed: &str) -> String {
    machine.eventually("the app answers", |machine| {
        machine.try_run(&format!("curl -sSf -H 'Host: shop' http://127.0.0.1:{port}/")).ok()
    });
    let load = machine.load(Clients::new(8, 4).with(4, 1, 0).slow(Duration::from_secs(6)).on(port));
    load.goes_on_for(300);
    if let Some(behaviour) = case.after {
        machine.write("/srv/shop/behaviour", behaviour);
    }
    let said = machine.try_run(deed);
    std::thread::sleep(AFTERWARDS);
    let tally: Tally = load.stop();
    println!("{}, port {port}: {said}\n{tally}", case.name);
    let code = match said.status.code() {
        Some(code) if case.after.is_some() => code.to_string(),
        _ => "–".to_owned(),
    };
    let outage = match tally.silent_at_end {
        silent if silent >= FOR_GOOD => "for good".to_owned(),
        _ => format!("{:.1} s", tally.outage.as_secs_f64()),
    };
    format!("{} | {outage} | {code}", tally.failed.len())
}
