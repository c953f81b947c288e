//! Upgrading and removing the package.

use crate::harness::{Machine, Package, on_every_debian};

/// Every path that a package, an administrator or a service may leave something at. What the
/// system itself writes all the time (logs, caches, the package manager's and PID 1's own books)
/// is nobody's leftover.
const PATHS: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp \
    -o -path /var/tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/apt \
    -o -path /var/lib/dpkg -o -path /run/systemd -o -path /run/udev -o -path /run/credentials \
    -o -path /run/dbus \\) -prune -o -print; find /run -path /run/systemd -prune -o -print | sort -u";

on_every_debian! {
    /// Whatever was configured, enabled and running: after a purge nothing of it is left, except
    /// the system user, which is Debian's rule.
    fn purge_leaves_nothing(machine: &Machine) {
        let before = machine.run(PATHS);
        machine.install(&Package::built());
        machine.write("/etc/roundsman/apps/hello.toml", "command = [\"node\", \"hello.js\"]\n");
        machine.run("systemctl daemon-reload && systemctl enable roundsman-app@hello.target");
        machine.run("systemctl enable roundsman-https.socket");

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
        let units = machine.run("systemctl list-units --all --no-legend -t service,socket,target 'roundsman*'");
        assert!(units.is_empty(), "units are still known:\n{units}");
    }
}
