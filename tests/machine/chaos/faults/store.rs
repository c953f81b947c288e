//! What happens to the session store.

use super::Scene;

const PROCESS: &str = "p=$(systemctl show -p MainPID --value roundsman-session-store.service)";

pub(super) fn restart(scene: &mut Scene<'_>) {
    scene.run("systemctl restart roundsman-session-store.service");
}

pub(super) fn kill(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run(&format!("{PROCESS}; kill -9 $p; while [ -e /proc/$p ]; do sleep 0.01; done"));
    });
}

pub(super) fn pause(scene: &mut Scene<'_>) {
    scene.run(&format!("{PROCESS}; kill -STOP $p; sleep 2; kill -CONT $p"));
}

/// Its file system has no room.
pub(super) fn fill(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run(
            "dd if=/dev/zero of=/var/lib/roundsman-session/ballast bs=1M 2> /dev/null; sleep 2; \
             rm /var/lib/roundsman-session/ballast",
        );
        scene.rest(1000, 2000);
    });
}
