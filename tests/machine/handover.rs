//! Restarts and upgrades of the front while there is something in flight that takes its time: nobody
//! new waits for it, and nothing of it is cut.

use std::time::Duration;

use crate::harness::{Clients, Load, Machine, Package, on_every_debian, on_every_debian_in_soak};
use crate::shop;

const FRONT: &str = "roundsman.service";

/// What has no end of its own has so long; a download takes longer than that, in all.
const SHUTDOWN: &str = "[listen.http]\nhttp2 = true\n[timeouts]\nshutdown = \"8s\"\n";

/// Far less than what is in flight takes. The aim is 100 ms, which is printed: a machine that tests run
/// on has other things to do.
const PATIENCE: Duration = Duration::from_secs(3);

/// What goes on for long, each in a curl of its own: how it ended is in a file.
const DOWNLOAD: &str = "/download?ms=5000";
const EVENTS: &str = "/events";

/// The app, with something of every kind in flight, and clients who are new each time.
struct Traffic {
    /// The longest wait of a new request while nothing was restarted.
    before: Duration,
    new: Load,
    old: Load,
}

impl Traffic {
    fn start(machine: &Machine) -> Self {
        shop::install(machine, 2, "");
        machine.write("/etc/roundsman/roundsman.toml", SHUTDOWN);
        machine.run("systemctl reload roundsman.service");
        let old = Clients::new(4, 0).with(2, 2, 2).speaking_http2(2).unhurried();
        let old = machine.load(old.slow(Duration::from_secs(3)));
        let new = machine.load(Clients::new(0, 4));
        new.goes_on_for(600);
        let before = new.stop().slowest;
        let traffic = Self { before, new: machine.load(Clients::new(0, 4)), old };
        traffic.goes_on();
        traffic
    }

    fn goes_on(&self) {
        self.new.goes_on_for(100);
        self.old.goes_on_for(100);
    }

    fn end(self, what: &str) {
        self.goes_on();
        let (new, old) = (self.new.stop(), self.old.stop());
        println!(
            "{what}: the longest wait of a new request was {:?}, without them {:?}",
            new.slowest, self.before
        );
        new.assert_nothing_failed();
        old.assert_nothing_failed();
        assert!(new.slowest < PATIENCE, "{new}");
        assert!(old.closed > 0, "the WebSockets were told, and opened again: {old}");
    }
}

/// Begins something long and waits until it is with the app.
fn begin(machine: &Machine, name: &str, path: &str) {
    machine.run(&format!(
        "curl -sN -o /root/{name} -w '%{{http_code}} %{{exitcode}} %{{size_download}}' \
         'http://localhost{path}' > /root/{name}.end 2>&1 &"
    ));
    machine.eventually("it has begun", |machine| {
        machine.try_run(&format!("test -s /root/{name}")).ok()
    });
}

/// How it ended: the status, what curl thinks of the end, and how much came.
fn end(machine: &Machine, name: &str) -> (u16, u16, u64) {
    machine
        .eventually("it ends", |machine| !machine.run(&format!("cat /root/{name}.end")).is_empty());
    let said = machine.run(&format!("cat /root/{name}.end"));
    let mut words = said.split_whitespace();
    let mut next = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    (next() as u16, next() as u16, next())
}

/// All processes of the unit.
fn processes(machine: &Machine) -> Vec<u32> {
    let group = "/sys/fs/cgroup/roundsman.slice/roundsman.service";
    let listed = machine.try_run(&format!("cat {group}/cgroup.procs")).stdout;
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

/// What a download of 5 s is in all, where nothing is missing.
const WHOLE: u64 = 50 * 64 * 1024;

on_every_debian! {
    /// One restart, an upgrade, and three restarts in a row: what is in flight ends in its own time.
    fn nobody_new_waits_for_what_is_in_flight(machine: &Machine) {
        let traffic = Traffic::start(machine);
        for (what, times) in [("a restart", 1), ("three restarts in a row", 3)] {
            begin(machine, "download", DOWNLOAD);
            begin(machine, "events", EVENTS);
            for _ in 0..times {
                machine.run("systemctl restart roundsman.service");
                traffic.new.goes_on_for(20);
            }
            assert_eq!(end(machine, "download"), (200, 0, WHOLE), "{what}");
            let (status, ended, _) = end(machine, "events");
            assert_eq!((status, ended), (200, 0), "{what}: the stream ends as streams do");
        }
        begin(machine, "download", DOWNLOAD);
        machine.install(&Package::next_version());
        assert_eq!(end(machine, "download"), (200, 0, WHOLE), "an upgrade");
        traffic.end("restarts and an upgrade");

        // A socket that is opened anew takes the front along, and no front may have the old one then.
        begin(machine, "download", DOWNLOAD);
        machine.run("systemctl restart roundsman-http.socket");
        assert!(machine.curl("/").contains("one"));
        assert_eq!(end(machine, "download"), (200, 0, WHOLE), "the socket was restarted");

        machine.eventually("the earlier ones have ended", |machine| processes(machine).len() == 2);
        let warned = machine.run("journalctl --no-pager -u roundsman.service -p warning");
        assert!(!warned.contains("left-over"), "systemd knows of them: {warned}");
    }
}

on_every_debian_in_soak! {
    /// A stop waits for all that is in flight, also for that of an earlier front; a worker's stop does
    /// too; and a front that is killed takes nothing of an earlier one's along, nor the other way round.
    fn what_is_in_flight_at_an_earlier_front_is_not_forgotten(machine: &Machine) {
        shop::install(machine, 1, "");
        machine.write("/etc/roundsman/roundsman.toml", SHUTDOWN);
        machine.run("systemctl reload roundsman.service");

        // The app does not wait for anybody when it is told to end.
        begin(machine, "download", DOWNLOAD);
        machine.run("systemctl restart roundsman.service");
        machine.run("systemctl restart roundsman-worker@shop:1.service");
        assert_eq!(end(machine, "download"), (200, 0, WHOLE), "the worker was restarted");

        // Longer than two starts of the front take on a machine with other things to do.
        machine.write("/etc/roundsman/roundsman.toml", &SHUTDOWN.replace("8s", "60s"));
        machine.run("systemctl reload roundsman.service");
        begin(machine, "download", "/download?ms=20000");
        let earlier = machine.front_process();
        machine.run("systemctl restart roundsman.service");
        for whom in ["front", "main"] {
            let front = machine.front_process();
            match whom {
                "front" => machine.run(&format!("kill -9 {front}")),
                _ => machine.run("systemctl kill --kill-whom=main --signal=KILL roundsman.service"),
            };
            machine.eventually("systemd has started another", |machine| {
                machine.property(FRONT, "ActiveState") == "active" && !processes(machine).contains(&front)
            });
        }
        assert_eq!(machine.property(FRONT, "NRestarts"), "2");
        assert!(processes(machine).contains(&earlier), "it goes on");
        assert_eq!(end(machine, "download").1, 0, "the front was killed twice");
        machine.write("/etc/roundsman/roundsman.toml", SHUTDOWN);
        machine.run("systemctl reload roundsman.service");

        begin(machine, "download", DOWNLOAD);
        let earlier = machine.front_process();
        machine.run("systemctl restart roundsman.service");
        let load = machine.load(Clients::new(4, 4));
        load.goes_on_for(100);
        machine.run(&format!("kill -9 {earlier}"));
        load.goes_on_for(100);
        load.stop().assert_nothing_failed();
        assert_ne!(end(machine, "download").1, 0, "it was with the one that was killed");
        assert_eq!(machine.property(FRONT, "NRestarts"), "0", "and that is all");

        begin(machine, "download", DOWNLOAD);
        machine.run("systemctl restart roundsman.service");
        machine.run("systemctl stop roundsman-http.socket roundsman.service");
        assert!(processes(machine).is_empty(), "they have all ended");
        assert_eq!(end(machine, "download"), (200, 0, WHOLE), "the front was stopped");
        assert_eq!(machine.property(FRONT, "Result"), "success");
    }
}
