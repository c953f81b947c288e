//! What members of the group `roundsman` may and may not: start, stop, restart, deploy, scale and
//! roll back configured apps as root would; never become root, steer it, or change anything else.

use std::time::Duration;

use crate::harness::{Clients, Machine, Said, on_every_debian, on_every_debian_in_soak};
use crate::shop;

pub(super) fn by(machine: &Machine, user: &str, script: &str) -> Said {
    machine.try_by(user, script)
}

/// The shop with two workers, a member and a stranger.
pub(super) fn shop_with_users(machine: &Machine) {
    shop::install(machine, 2, shop::BELIEVED_SOON);
    machine.run("useradd -m -G roundsman member && useradd -m stranger");
}

/// Something that went as it must not; all are told at the end, so that one hides no other.
#[derive(Default)]
pub(super) struct Broken(Vec<String>);

impl Broken {
    pub(super) fn unless(&mut self, holds: bool, what: impl std::fmt::Display) {
        if !holds {
            self.0.push(what.to_string());
        }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} broken:\n\n{}", self.0.len(), self.0.join("\n\n"));
        }
    }
}

/// Ways to run something of one's own as root by a name that may be Roundsman's.
const TRANSIENT: [&str; 12] = [
    "systemd-run --unit=roundsman-anything.service",
    "systemd-run --unit=roundsman-foo@x.service",
    "systemd-run --unit=roundsman-worker@shop:9.service",
    "systemd-run --unit=roundsman-worker@shop:1.service",
    "systemd-run --unit=roundsman-worker@x:1.service --property=User=root",
    "systemd-run --unit=roundsman-app@shop.service",
    "systemd-run --unit=roundsman.service",
    "systemd-run --unit=roundsman-helper@1.service",
    "systemd-run --scope --unit=roundsman-worker@x:1",
    "systemd-run --on-active=1 --timer-property=AccuracySec=1us --unit=roundsman-worker@x:1",
    "systemd-run --path-property=PathExists=/ --unit=roundsman-worker@x:2",
    "systemd-run --socket-property=ListenStream=/run/proof.sock --unit=roundsman-worker@x:3",
];

/// The same by D-Bus, where a unit can bring others with it.
const BUS: &str = "busctl --system call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
    org.freedesktop.systemd1.Manager StartTransientUnit";

on_every_debian! {
    /// No name makes systemd run a member's command as root: polkit lets members start what cannot be
    /// a transient unit, whether the package's files are there or not.
    fn a_member_never_gets_a_command_of_their_own(machine: &Machine) {
        shop_with_users(machine);
        let before = shop::runs(machine, 2);
        let mut broken = Broken::default();
        for way in TRANSIENT {
            for user in ["member", "roundsman"] {
                let way = way.replacen("systemd-run", "systemd-run --no-ask-password", 1);
                let said = by(machine, user, &format!("{way} touch /run/proof"));
                broken.unless(!said.ok(), said);
            }
        }
        let command = "\"a(sasb)\" 1 /bin/touch 2 /bin/touch /run/proof false";
        // Refused by systemd, and not for how the call is written.
        let refused = |said: &Said| !said.ok() && said.stderr.contains("Call failed");
        for (unit, more, aux) in [
            ("roundsman-worker@shop:8.service", "", "0"),
            ("roundsman-app@shop.target", "", "0"),
            ("roundsman-app@other.target", "", "0"),
            ("roundsman.service", "", "0"),
            ("roundsman-worker@shop:8.service", "", "1 evil.service 1 ExecStart"),
            ("roundsman-app@shop.target", "", "1 roundsman-worker@x:8.service 1 ExecStart"),
            ("roundsman-evil.service", " User s root", "0"),
        ] {
            let aux = if aux == "0" { aux.to_owned() } else { format!("{aux} {command}") };
            let count = if more.is_empty() { 1 } else { 2 };
            let call = format!(
                "{BUS} 'ssa(sv)a(sa(sv))' {unit} replace {count} ExecStart {command}{more} {aux}"
            );
            let said = by(machine, "member", &call);
            broken.unless(refused(&said), said);
        }
        // And nothing else of systemd's: names that only look right, units that are not for them,
        // verbs that are not.
        for command in [
            "restart systemd-journald.service",
            "stop dbus.service",
            "stop roundsman.service",
            "restart roundsman.service",
            "stop roundsman-http.socket",
            "stop roundsman-admin.socket",
            "stop roundsman-helper.socket",
            "stop roundsman-apps.target",
            "stop roundsman-session-store.service",
            "start roundsman-app@..target",
            "start roundsman-app@shop:1.target",
            "start roundsman-worker@shop.service",
            "start roundsman-worker@shop:1.service",
            "start roundsman-worker@shop:01.service",
            "start roundsman-worker@shop:251.service",
            "kill roundsman-worker@shop:1.service",
            "freeze roundsman-worker@shop:1.service",
            "clean roundsman-worker@shop:1.service",
            "set-property roundsman-worker@shop:1.service MemoryMax=1M",
            "disable roundsman-app@shop.target",
            "daemon-reload",
        ] {
            let said = by(machine, "member", &format!("systemctl --no-ask-password {command}"));
            broken.unless(!said.ok(), said);
        }
        // One of root's own is done after the timer and the path unit above would have been.
        machine.run("systemd-run --quiet --on-active=1 --timer-property=AccuracySec=1us touch /run/later");
        machine.eventually("a later timer has gone off", |machine| machine.exists("/run/later"));
        broken.unless(!machine.exists("/run/proof"), "root has run a command of a member's");
        broken.unless(shop::runs(machine, 2) == before, "a worker was restarted meanwhile");

        // Nor while the package is removed: dpkg takes one file after the other, and the rules may be
        // the last.
        let template = "/usr/lib/systemd/system/roundsman-worker@.service";
        machine.run(&format!("mv {template} /root/template && systemctl daemon-reload"));
        for unit in ["roundsman-worker@zz:1.service", "roundsman-worker@shop:9.service"] {
            let call = format!("{BUS} 'ssa(sv)a(sa(sv))' {unit} replace 1 ExecStart {command} 0");
            let said = by(machine, "member", &call);
            broken.unless(refused(&said), said);
        }
        machine.run(&format!("mv /root/template {template} && systemctl daemon-reload"));
        machine.run("sleep 0.5"); // what a started unit would have taken
        broken.unless(!machine.exists("/run/proof"), "root has run a command of a member's");

        // What docs/commands.md promises.
        for command in [
            "stop roundsman-worker@shop:2.service",
            "restart roundsman-worker@shop:2.service",
            "restart roundsman-worker@shop:1.service",
            "reset-failed roundsman-worker@shop:1.service",
            "reload roundsman.service",
            "stop roundsman-app@shop.target",
            "start roundsman-app@shop.target",
        ] {
            let command = format!("systemctl --no-ask-password {command}");
            let said = by(machine, "member", &command);
            broken.unless(said.ok(), said);
            let said = by(machine, "stranger", &command);
            broken.unless(!said.ok(), said);
            let said = by(machine, "roundsman", &command);
            broken.unless(!said.ok(), said);
        }
    }
}

/// Where locks and progress of deploys are.
const DEPLOY: &str = "/run/roundsman/deploy";

on_every_debian_in_soak! {
    /// Nothing that a member can write steers, holds up or hangs what root does: root's deploy, and
    /// the one that a timer runs at night.
    fn a_member_steers_nothing_of_roots(machine: &Machine) {
        shop_with_users(machine);
        let mut broken = Broken::default();
        let empty = "\"done\":[],\"release\":null,\"previous\":null";
        let plants = [
            ("a progress that never ends", format!("mkfifo {DEPLOY}/shop.json")),
            ("a progress elsewhere", format!("ln -s /dev/zero {DEPLOY}/shop.json")),
            ("60,000 workers", format!("echo '{{{empty},\"surge\":[60000]}}' > {DEPLOY}/shop.json")),
            ("a lock", format!("umask 0; : >> {DEPLOY}/shop.lock; flock {DEPLOY}/shop.lock sleep infinity > /dev/null 2>&1 &")),
            ("a lock elsewhere", format!("ln -sf /etc/passwd {DEPLOY}/shop.lock")),
            ("a lock that never opens", format!("rm -f {DEPLOY}/shop.lock; mkfifo {DEPLOY}/shop.lock")),
            ("a folder of one's own", format!("mv {DEPLOY}/single {DEPLOY}/x; mkdir {DEPLOY}/single")),
        ];
        for (what, plant) in plants {
            let planted = by(machine, "member", &plant);
            let left = machine.run(&format!("find {DEPLOY} -user member"));
            broken.unless(left.is_empty(), format!("a member makes {what}: {left}"));
            let denied = planted.stderr.contains("ermission denied");
            broken.unless(denied, format!("not refused: {planted}"));
            for deploy in [
                "timeout --kill-after=1 25 roundsman reload shop --settle 0",
                "timeout --kill-after=1 25 systemctl start roundsman-restart@shop.service",
            ] {
                let said = machine.try_run(deploy);
                broken.unless(said.ok(), format!("{what} reaches root: {said}"));
                machine.try_run("systemctl kill --signal=KILL roundsman-restart@shop.service");
                let said = machine.try_run("roundsman check");
                broken.unless(said.ok(), format!("{what} breaks the configuration: {said}"));
            }
            // For the next one.
            machine.run(&format!(
                "pkill -u member; rm -rf /run/roundsman.d/apps/shop.toml.d {DEPLOY}/shop.* {DEPLOY}/x; \
                 mkdir -p {DEPLOY}/single; systemctl daemon-reload; roundsman apply"
            ));
        }

        // What an older version let them make there is as harmless.
        machine.run(&format!(
            "cd {DEPLOY}; mkfifo shop.json; : > shop.lock; chmod 660 shop.lock
             chown member:roundsman shop.json shop.lock
             flock shop.lock sleep infinity > /dev/null 2>&1 &"
        ));
        machine.eventually("the lock is held", |machine| {
            !machine.try_run(&format!("flock --nonblock {DEPLOY}/shop.lock true")).ok()
        });
        let said = machine.try_run("timeout --kill-after=1 25 roundsman reload shop --settle 0");
        broken.unless(said.ok(), format!("leftovers reach root: {said}"));
        let lock = machine.run(&format!("stat -c '%U %a' {DEPLOY}/shop.lock"));
        broken.unless(lock.trim() == "root 600", format!("the lock is {lock}"));

        // A refused command has done nothing, and says what to do.
        let before = shop::runs(machine, 2);
        for command in [
            "roundsman delete shop --yes",
            "roundsman start /srv/shop/current/server.js --name shop -n 3",
            "roundsman start --name shop -- /bin/true",
            "roundsman start shop --user root",
            "roundsman apply",
        ] {
            let said = by(machine, "member", command);
            broken.unless(said.status.code() == Some(77), format!("refused with 77: {said}"));
            broken.unless(said.stderr.contains("root"), format!("it says what to do: {said}"));
            broken.unless(machine.curl("/") == "one", format!("the app is served after {command}"));
        }
        broken.unless(shop::runs(machine, 2) == before, "a refused command touched a worker");
        // The same where it is a file system that does not let root.
        machine.run("mount --bind /etc/roundsman /etc/roundsman && mount -o remount,bind,ro /etc/roundsman");
        for command in ["roundsman delete shop --yes", "roundsman scale shop 1"] {
            let said = machine.try_run(command);
            broken.unless(!said.ok(), format!("nothing can be written: {said}"));
            broken.unless(machine.curl("/") == "one", format!("the app is served after {command}"));
        }
        broken.unless(shop::runs(machine, 2) == before, "a refused command touched a worker");
    }
}

/// What a member is told of a path, which is to be the same whether it is there or not.
pub(super) fn rollback_to(machine: &Machine, to: &str) -> String {
    let said = by(machine, "member", &format!("roundsman rollback shop --to {to}"));
    said.stderr.replace(to, "PATH")
}

/// Has a member deploy, and sends a signal to the command when it has said this.
fn interrupt(machine: &Machine, signal: &str, line: &str) {
    machine.run(
        "rm -f /tmp/said; touch /tmp/said; chmod 666 /tmp/said
         runuser -u member -- env --default-signal=INT roundsman reload shop --settle 1 > /tmp/said 2>&1 &",
    );
    machine.eventually(line, |machine| machine.run("cat /tmp/said").contains(line));
    machine.run(&format!("kill -{signal} $(pgrep -u member -x roundsman)"));
    machine.eventually("the command has ended", |machine| {
        !machine.try_run("pgrep -u member -x roundsman").ok()
    });
}

on_every_debian_in_soak! {
    /// A member deploys, scales, goes back, stops and starts as root does: with extra workers,
    /// without losing a request, and with Ctrl-C.
    fn a_member_deploys_as_root_does(machine: &Machine) {
        shop_with_users(machine);
        let member = |command: &str| {
            let said = by(machine, "member", command);
            assert!(said.ok(), "{said}");
            said
        };
        member("roundsman session stats");
        let said = by(machine, "stranger", "roundsman session stats");
        assert!(!said.ok(), "{said}");
        let load = machine.load(Clients::new(6, 2).with(2, 1, 0).slow(Duration::from_millis(700)).unhurried());
        load.goes_on_for(100);
        shop::release(machine, "two", "well");
        let said = member("roundsman reload shop --settle 1");
        assert!(said.stderr.contains("shop is deployed: 2 of 2"), "{said}");
        assert_eq!(shop::releases(machine), ["two", "two"]);
        shop::release(machine, "three", "well");
        let said = member("roundsman reload shop --settle 1 --surge 1 --json");
        assert!(said.stderr.contains("shop:3 starts, as an extra worker"), "{said}");
        assert!(said.stdout.contains("\"result\": \"done\""), "{said}");
        assert_eq!(shop::releases(machine), ["three", "three"]);
        member("roundsman rollback shop --settle 1");
        assert_eq!(shop::releases(machine), ["two", "two"]);
        member("roundsman rollback shop --to /srv/shop/releases/one --settle 1");
        assert_eq!(shop::releases(machine), ["one", "one"]);
        member("roundsman scale shop +1");
        assert_eq!(shop::worker(machine, 3, "ActiveState"), "active");
        member("roundsman scale shop 2");
        assert_eq!(shop::worker(machine, 3, "ActiveState"), "inactive");
        member("roundsman restart shop:2");
        load.goes_on_for(100);

        // Ctrl-C finishes the worker under way; a client that is killed is one that types it.
        for (signal, version) in [("INT", "four"), ("KILL", "five")] {
            shop::release(machine, version, "late:300");
            interrupt(machine, signal, "shop:1 restarts");
            machine.eventually("the helper has ended", |machine| {
                machine.run("systemctl list-units --all --no-legend 'roundsman-helper@*'").is_empty()
            });
            assert_eq!(shop::releases(machine), [version, "one"], "{signal}");
            if signal == "INT" {
                let said = machine.run("cat /tmp/said");
                assert!(said.contains("--resume goes on"), "{said}");
            }
            member("roundsman reload shop --settle 1 --resume");
            assert_eq!(shop::releases(machine), [version, version], "{signal}");
            member("roundsman rollback shop --to /srv/shop/releases/one --settle 1");
        }
        // Two at once never mix.
        machine.run("roundsman reload shop --settle 5 > /tmp/roots 2>&1 &");
        machine.eventually("root deploys", |machine| machine.run("cat /tmp/roots").contains("drains"));
        let said = by(machine, "member", "roundsman reload shop");
        assert_eq!(said.status.code(), Some(75), "{said}");
        member("roundsman reload shop --settle 1 --wait");
        let tally = load.stop();
        println!("a member's deploys: {tally}");
        tally.assert_nothing_failed();

        // A stop can be undone by whoever may stop; what starts at boot is root's to say.
        machine.run("systemctl disable roundsman-app@shop.target");
        member("roundsman stop shop");
        assert_eq!(shop::worker(machine, 1, "ActiveState"), "inactive");
        member("roundsman start shop");
        assert_eq!(machine.curl("/"), "one");
        assert_ne!(machine.try_run("systemctl is-enabled roundsman-app@shop.target").stdout.trim(), "enabled");
        let journal = machine.run("journalctl -u 'roundsman-helper@*' --no-pager");
        assert!(journal.contains("user member"), "who asked for what is in the journal: {journal}");
    }
}
