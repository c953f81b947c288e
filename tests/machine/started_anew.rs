//! systemd is started anew, or reads its files again, just when a command asks it for something: the command waits,
//! and does what it was asked to.

use crate::harness::{Machine, on_every_debian_in_soak};

/// What systemd does all the time meanwhile.
const BUSY: [&str; 2] = ["systemctl daemon-reexec", "systemctl daemon-reload"];

/// What people ask for. (`systemctl reload` breaks off then.)
const COMMANDS: [&str; 11] = [
    "roundsman reload",
    "roundsman status",
    "roundsman describe hello",
    "roundsman reload hello --settle 0",
    "roundsman scale hello 3",
    "roundsman diff",
    "roundsman apply",
    "roundsman scale hello 2",
    "roundsman restart hello",
    "roundsman stop hello",
    "roundsman start hello",
];

on_every_debian_in_soak! {
    /// Every command ends well.
    fn commands_wait_for_a_systemd_that_is_started_anew(machine: &Machine) {
        machine.start_hello(2);
        let busy = BUSY.map(|busy| format!("{busy}; sleep 0.2")).join("; ");
        machine.write("/root/busy", &format!("until test -e /root/enough; do {busy}; done; touch /root/ended"));
        machine.run("systemd-run --quiet --unit=busy sh /root/busy");
        let mut failed = Vec::new();
        for command in COMMANDS {
            let said = machine.try_run(command);
            if !said.ok() {
                failed.push(format!("{said}"));
            }
        }
        // By a file: systemctl, too, would ask just when nobody answers.
        machine.run("touch /root/enough; until test -e /root/ended; do sleep 0.1; done");
        assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), COMMANDS.len(), failed.join("\n"));
    }
}
