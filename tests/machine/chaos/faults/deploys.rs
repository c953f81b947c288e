//! Deploys of code of every quality, and what may happen to a deploy.

use super::Scene;

/// Ways to deploy; the last one takes code for good that has only just started.
const WAYS: [&str; 4] = ["", "--batch 2", "--surge 1", "--settle 0"];

fn reload(scene: &mut Scene<'_>, ways: &[&str]) -> String {
    let way = *scene.random.one_of(ways);
    scene.note(way);
    format!("roundsman reload shop --wait {way}")
}

fn deploy(scene: &mut Scene<'_>, behaviour: &str) {
    let release = scene.site.release(behaviour);
    let command = reload(scene, &WAYS);
    let said = scene.site.machine.try_run(&command);
    scene.expect(&said, said.ok());
    scene.site.runs(&release);
    if !said.ok() {
        // Something else has come in between: what is left is deployed.
        scene.run("roundsman reload shop --wait");
    }
}

pub(super) fn good(scene: &mut Scene<'_>) {
    deploy(scene, "well");
}

pub(super) fn slow(scene: &mut Scene<'_>) {
    deploy(scene, "late:2000");
}

/// New code that fails: the command says so, and one word takes it back.
fn fail(scene: &mut Scene<'_>, behaviour: &str) {
    let before = scene.site.running();
    scene.site.release(behaviour);
    let command = reload(scene, &WAYS[..3]);
    scene.is_refused(&command, 1);
    // The command may have failed with another worker than the first, by what happens beside it.
    let back = format!("roundsman rollback shop --wait --to /srv/shop/releases/{before}");
    scene.run(&back);
}

pub(super) fn broken(scene: &mut Scene<'_>) {
    fail(scene, "throw");
}

pub(super) fn crashing(scene: &mut Scene<'_>) {
    fail(scene, "crash:300");
}

/// Ends the command in the middle, in this way, and goes on with it.
fn end_early(scene: &mut Scene<'_>, signal: &str) {
    let release = scene.site.release("well");
    let moment = scene.random.between(0, 4000);
    scene.note(format!("after {moment} ms"));
    scene.run(&format!(
        "env --default-signal=INT roundsman reload shop --wait > /dev/null 2>&1 & p=$!; \
         sleep {}.{:03}; kill -{signal} $p 2> /dev/null; wait $p; true",
        moment / 1000,
        moment % 1000
    ));
    scene.site.runs(&release);
    let said = scene.site.machine.try_run("roundsman reload shop --wait --resume");
    if said.stderr.contains("no unfinished deploy") {
        scene.run("roundsman reload shop --wait");
    } else {
        scene.expect(&said, said.ok());
    }
}

pub(super) fn interrupted(scene: &mut Scene<'_>) {
    end_early(scene, "INT");
}

pub(super) fn killed(scene: &mut Scene<'_>) {
    end_early(scene, "KILL");
}

/// To the release before, and to the present one again.
pub(super) fn roll_back(scene: &mut Scene<'_>) {
    let present = scene.site.running();
    let release = scene.site.release("well");
    scene.run("roundsman reload shop --wait --settle 0 --batch 2");
    scene.site.runs(&release);
    scene.run("roundsman rollback shop --wait");
    scene.site.runs(&present);
}

/// More workers, fewer, and as before.
pub(super) fn scale(scene: &mut Scene<'_>) {
    let first = scene.random.between(1, 5);
    scene.note(format!("{first}"));
    scene.run(&format!("roundsman scale shop {first}"));
    scene.rest(0, 500);
    scene.run("roundsman scale shop 3");
}
