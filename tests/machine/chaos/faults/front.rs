//! What happens to the front.

use super::Scene;
use crate::chaos::site::FRONT;

/// The front itself: the child of the main process.
const CHILD: &str = "p=$(systemctl show -p MainPID --value roundsman.service); \
    c=$(cat /proc/$p/task/$p/children 2>/dev/null); c=${c%% *}";

const FILE: &str = "/etc/roundsman/roundsman.toml";

const RESTART: &str = "systemctl restart roundsman.service";

pub(super) fn restart(scene: &mut Scene<'_>) {
    scene.run(RESTART);
}

pub(super) fn restart_thrice(scene: &mut Scene<'_>) {
    for _ in 0..3 {
        scene.run(RESTART);
        scene.rest(0, 500);
    }
}

pub(super) fn reload(scene: &mut Scene<'_>) {
    let headers = scene.random.between(60, 120);
    let text = FRONT.replace("headers = 100", &format!("headers = {headers}"));
    scene.site.machine.write(FILE, &text);
    scene.run("systemctl reload roundsman.service");
    scene.rest(0, 500);
    scene.site.machine.write(FILE, FRONT);
    scene.run("roundsman reload");
}

pub(super) fn refuse_reload(scene: &mut Scene<'_>) {
    scene.site.machine.write(FILE, &format!("{FRONT}headres = 1\n"));
    scene.is_refused("roundsman reload", 78);
    scene.site.machine.write(FILE, FRONT);
    scene.run("roundsman reload");
}

/// The next connection starts it again.
pub(super) fn stop(scene: &mut Scene<'_>) {
    scene.run("systemctl stop roundsman.service");
    scene.wait_for("a front", "systemctl is-active roundsman.service");
}

/// To the version that it has not.
pub(super) fn upgrade(scene: &mut Scene<'_>) {
    let version = scene.run("dpkg-query -W -f '${Version}' roundsman");
    let package = if version.starts_with("999") { "this" } else { "next" };
    scene.note(format!("to {package}.deb"));
    scene.run(&format!("dpkg -i /root/{package}.deb"));
}

pub(super) fn pause(scene: &mut Scene<'_>) {
    scene.run(&format!("{CHILD}; kill -STOP $c; sleep 2; kill -CONT $c"));
}

pub(super) fn kill_main(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run(&format!("{CHILD}; kill -9 $p; while [ -e /proc/$c ]; do sleep 0.01; done"));
    });
    scene.wait_for("the next front", "systemctl is-active roundsman.service");
}

pub(super) fn kill_child(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run(&format!("{CHILD}; kill -9 $c; while [ -e /proc/$c ]; do sleep 0.01; done"));
    });
    scene.wait_for("the next front", "systemctl is-active roundsman.service");
}

/// One that finishes what it has, beside the next.
pub(super) fn kill_earlier(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run(&format!(
            "{CHILD}; {RESTART}; kill -9 $c 2> /dev/null; while [ -e /proc/$c ]; do sleep 0.01; done"
        ));
    });
}

pub(super) fn open_anew(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run("systemctl restart roundsman-http.socket");
    });
    scene.wait_for("a front", "systemctl is-active roundsman.service");
}
