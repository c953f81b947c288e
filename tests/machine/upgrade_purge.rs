//! Upgrading and removing the package.

use crate::harness::{
    Clients, Machine, Package, on_every_debian, on_every_debian_in_soak, on_every_pristine_debian,
};

/// Every path that a package, an administrator or a service may leave something at. What the
/// system itself writes all the time (logs, caches, the package manager's and PID 1's own books)
/// is nobody's leftover.
const PATHS: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp \
    -o -path /var/tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/apt \
    -o -path /var/lib/dpkg -o -path /run/systemd -o -path /run/udev -o -path /run/credentials \
    -o -path /run/dbus \\) -prune -o -print; find /run -path /run/systemd -prune -o -print | sort -u";

on_every_pristine_debian! {
    /// Whatever was configured, enabled and running: after a purge nothing of it is left, except
    /// the system users, which is Debian's rule; and the next installation starts the same app.
    fn purge_leaves_nothing(machine: &Machine) {
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello"), "/srv/hello");
        let before = machine.run(PATHS);
        machine.install(&Package::built());
        let start = "roundsman start /srv/hello/server.js --name hello -n 2";
        machine.run(start);
        machine.run("roundsman drain hello:2");
        machine.run("systemctl enable roundsman-https.socket");
        // Of extra workers.
        machine.run("mkdir -p /run/roundsman.d/apps/hello.toml.d");

        machine.run("apt-get purge -y roundsman");

        let after = machine.run(PATHS);
        let before: Vec<&str> = before.lines().collect();
        let left: Vec<&str> = after
            .lines()
            .filter(|path| !before.contains(path))
            // What sysusers keeps as it edits the user database.
            .filter(|path| !["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-"].contains(path))
            .collect();
        assert!(left.is_empty(), "left behind: {left:#?}");
        // Those that run, listen or have failed.
        let units = machine.run("systemctl list-units --no-legend -t service,socket,target 'roundsman*'");
        assert!(units.is_empty(), "units are still there:\n{units}");

        machine.install(&Package::built());
        machine.run(start);
        assert!(machine.curl("/").starts_with("Hello from worker"));
    }
}

/// What dpkg has begun goes on when it is killed.
const SCRIPTS_END: &str = "while pgrep -f 'info/[r]oundsman[.]' > /dev/null; do sleep 0.1; done";

on_every_debian! {
    /// An upgrade under load restarts the front alone, and loses no request; nor does a downgrade, a second
    /// installation of the same, or an upgrade that ends in the middle and is taken up again.
    fn upgrade_loses_nothing(machine: &Machine) {
        machine.start_hello(2);
        let started = |unit: &str| machine.property(unit, "ActiveEnterTimestampMonotonic");
        let untouched = [
            "roundsman-http.socket",
            "roundsman-admin.socket",
            "roundsman-helper.socket",
            "roundsman-session.socket",
            "roundsman-worker@hello:1.service",
            "roundsman-worker@hello:2.socket",
        ];
        let before = untouched.map(started);
        let front = started("roundsman.service");
        // As an older version had it: its group could write there.
        machine.run("chmod 2770 /run/roundsman/deploy && chgrp roundsman /run/roundsman/deploy");
        let load = machine.load(Clients::new(64, 8));
        load.goes_on_for(500);

        machine.install(&Package::next_version());

        load.goes_on_for(500);
        let version = |machine: &Machine| machine.run("dpkg-query -W -f '${Version}' roundsman");
        assert_eq!(version(machine), "999.0.0");
        // Back, the same once more, and an upgrade that ends in the middle: before its scripts, and within them.
        let [old, new] = [Package::built(), Package::next_version()].map(|package| machine.bring(&package));
        for order in [
            format!("dpkg -i {old}"),
            format!("dpkg -i {old}"),
            format!("dpkg --unpack {new}"),
            "systemctl daemon-reload; dpkg --configure -a".to_owned(),
            format!("dpkg -i {old}; timeout --signal=KILL 1 dpkg -i {new}; {SCRIPTS_END}; dpkg --configure -a; dpkg -i {new}"),
        ] {
            machine.run(&order);
            load.goes_on_for(200);
        }
        load.stop().assert_nothing_failed();
        assert_eq!(version(machine), "999.0.0");
        assert_eq!(machine.run("stat -c '%a %U %G' /run/roundsman/deploy"), "755 root root\n");
        assert_ne!(started("roundsman.service"), front, "the new version runs");
        assert_eq!(untouched.map(started), before, "nothing else was restarted: {untouched:?}");
    }
}

on_every_debian_in_soak! {
    /// Removing the package stops all of it, even under load, and closes the port; it can be installed again.
    fn removal_stops_everything(machine: &Machine) {
        // The front that clients have woken once more is not asked to wait for workers to come back.
        machine.write("/etc/roundsman/roundsman.toml", "[timeouts]\nshutdown = \"2s\"\n");
        machine.run("systemctl restart roundsman.service");
        machine.start_hello(2);
        let load = machine.load(Clients::new(4, 4));
        load.goes_on_for(200);

        machine.run("apt-get remove -y roundsman");

        drop(load);
        assert!(!machine.try_run("pgrep -x roundsman").ok(), "a process is left");
        assert!(!machine.try_run("pgrep -x node").ok(), "an app is left");
        assert!(machine.curl("/").is_empty(), "the port is open");
        assert!(machine.exists("/etc/roundsman/apps/hello.toml"), "only purge takes the files");

        // What the removal has masked is there again.
        machine.install(&Package::built());
        assert_eq!(machine.property("roundsman-http.socket", "ActiveState"), "active");
        machine.start_app("hello");
        assert!(machine.curl("/").starts_with("Hello from worker"));
    }
}
