//! What happens to single workers, and to all of an app.

use super::Scene;
use crate::chaos::site::{APPS, App, QUEUE, SHOP};

/// A worker of any app.
fn any(scene: &mut Scene<'_>) -> (&'static App, String) {
    let app = *scene.random.one_of(&APPS);
    let number = scene.random.between(1, u64::from(app.workers));
    let worker = format!("{}:{number}", app.name);
    scene.note(worker.clone());
    (app, worker)
}

/// Sets `all`, the worker's processes, and `shim`, the first of them.
fn processes(worker: &str) -> String {
    let unit = format!("roundsman-worker@{worker}.service");
    format!(
        "g=$(systemctl show -p ControlGroup --value {unit}); all=$(cat /sys/fs/cgroup$g/cgroup.procs); \
         shim=$(systemctl show -p MainPID --value {unit}); \
         apps=$(echo $all | tr ' ' '\\n' | grep -vx $shim)"
    )
}

/// Waits until none of them is left: what they had in flight is lost by then.
const UNTIL_GONE: &str = "for p in $all; do while [ -e /proc/$p ]; do sleep 0.01; done; done";

fn kill(scene: &mut Scene<'_>, whom: &str) {
    let (app, worker) = any(scene);
    scene.trouble(Some(app), |scene| {
        scene.run(&format!("{}; kill -9 {whom}; {UNTIL_GONE}", processes(&worker)));
    });
}

pub(super) fn kill_shim(scene: &mut Scene<'_>) {
    kill(scene, "$shim");
}

pub(super) fn kill_app(scene: &mut Scene<'_>) {
    kill(scene, "$apps");
}

pub(super) fn kill_all(scene: &mut Scene<'_>) {
    kill(scene, "$all");
}

pub(super) fn restart(scene: &mut Scene<'_>) {
    let (_, worker) = any(scene);
    scene.run(&format!("systemctl restart roundsman-worker@{worker}.service"));
}

/// All workers of an app at once: its clients wait.
pub(super) fn restart_app(scene: &mut Scene<'_>) {
    let app = *scene.random.one_of(&APPS);
    scene.note(app.name);
    scene.run(&format!("roundsman restart {}", app.name));
}

/// Shorter than its watchdog.
pub(super) fn pause(scene: &mut Scene<'_>) {
    let (_, worker) = any(scene);
    scene.run(&format!("{}; kill -STOP $apps; sleep 2; kill -CONT $apps", processes(&worker)));
}

/// Until its watchdog ends it. One that serves nobody, or a program that is not Node, is not asked.
pub(super) fn hang(scene: &mut Scene<'_>) {
    let worker = format!("shop:{}", scene.random.between(1, u64::from(SHOP.workers)));
    scene.note(worker.clone());
    scene.trouble(Some(&SHOP), |scene| {
        scene.run(&format!(
            "{}; kill -STOP $apps; for i in $(seq 3000); do [ -e /proc/$shim ] || break; sleep 0.01; done; \
             [ ! -e /proc/$shim ] && {UNTIL_GONE}",
            processes(&worker)
        ));
    });
}

/// A request that ends the worker which it comes to: it may be tried on one more, and no other.
pub(super) fn poison(scene: &mut Scene<'_>) {
    const RUNS: &str =
        "for n in 1 2 3; do systemctl show -p InvocationID --value roundsman-worker@shop:$n; done";
    let before = scene.run(RUNS);
    scene.trouble(Some(&SHOP), |scene| {
        let mark = scene.random.next();
        let curl = "curl -s -o /dev/null -w '%{http_code}' --max-time 30";
        let status = scene.run(&format!("{curl} 'http://127.0.0.1/exit?{mark}' || true"));
        scene.note(format!("answered with {status}"));
    });
    scene.wait_for("the workers", "systemctl is-active roundsman-worker@shop:1 roundsman-worker@shop:2 roundsman-worker@shop:3");
    let after = scene.run(RUNS);
    let ended = before.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
    scene.note(format!("{ended} of {} workers ended", SHOP.workers));
    if scene.is_alone && ended > 2 {
        scene.complaints.push(format!("one request ended {ended} workers"));
    }
}

/// Stops an app, and starts it again.
pub(super) fn stop(scene: &mut Scene<'_>) {
    let app = *scene.random.one_of(&APPS[..5]);
    assert_ne!(*app, QUEUE, "jobs wait for it");
    scene.note(app.name);
    scene.trouble(Some(app), |scene| {
        scene.run(&format!("roundsman stop {}", app.name));
        scene.rest(0, 1500);
        scene.run(&format!("roundsman start {}", app.name));
    });
}
