//! What happens to systemd, its bus and its journal.

use super::Scene;
use crate::chaos::site::{APPS, SHOP};

/// What systemd makes of a file with a mistake: nothing that runs changes.
pub(super) fn reload_broken(scene: &mut Scene<'_>) {
    let app = *scene.random.one_of(&APPS);
    let file = format!("/etc/roundsman/apps/{}.toml", app.name);
    scene.note(app.name);
    scene.run(&format!(
        "cp {file} /root/good.toml; echo 'comand = 1' >> {file}; systemctl daemon-reload"
    ));
    scene.rest(0, 800);
    scene.run(&format!("cp /root/good.toml {file}; systemctl daemon-reload"));
}

/// The same without the file, and with a crash in between.
pub(super) fn reload_missing(scene: &mut Scene<'_>) {
    let file = format!("/etc/roundsman/apps/{}.toml", SHOP.name);
    scene.run(&format!("mv {file} /root/away.toml; systemctl daemon-reload"));
    scene.rest(0, 800);
    scene.run(&format!("mv /root/away.toml {file}; systemctl daemon-reload"));
}

pub(super) fn reloads(scene: &mut Scene<'_>) {
    scene.run("for i in 1 2 3 4 5; do systemctl daemon-reload; done");
}

pub(super) fn reexec(scene: &mut Scene<'_>) {
    scene.run("systemctl daemon-reexec");
}

pub(super) fn restart_bus(scene: &mut Scene<'_>) {
    scene.run("systemctl restart dbus.service");
}

pub(super) fn stop_journal(scene: &mut Scene<'_>) {
    scene.run(
        "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service; \
         sleep 1.5; \
         systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service",
    );
}

pub(super) fn pause_journal(scene: &mut Scene<'_>) {
    scene.run(
        "p=$(systemctl show -p MainPID --value systemd-journald.service); \
         kill -STOP $p; sleep 2; kill -CONT $p",
    );
}

/// From outside: within its machine nobody can.
pub(super) fn pause_systemd(scene: &mut Scene<'_>) {
    let leader = scene.site.machine.leader().to_string();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args([name, &leader]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the machine runs");
    };
    signal("-STOP");
    scene.rest(1000, 3000);
    signal("-CONT");
}
