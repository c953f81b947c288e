//! The units beside an app's workers that look after them: whether each runs as the app's file says.

use super::failure::Done;
use super::manage::{self, Machine, say};
use crate::base::unit;
use crate::config::fingerprint;
use crate::config::settings::App;
use crate::deploy::drift;
use crate::deploy::progress::Lock;
use crate::systemd::dbus::{UnitState, Verb};
use crate::watch::agent;

/// The right to change an app that is about to end. Its watch goes first, and with it the deploy that it
/// may have begun, which finishes the worker that it is at: else that deploy would have the app, and the
/// next one bring back what was stopped.
pub(super) async fn lock_to_end(machine: &Machine, app: &str) -> Done<Lock> {
    let watch = unit::watch(app);
    let unit = machine.systemd.unit(&watch).await?;
    let runs = !matches!(unit.state(), UnitState::Inactive | UnitState::Failed);
    if runs {
        if unit.text("StatusText").contains(agent::REPLACES) {
            say(&format!("{watch} finishes the worker that it is replacing"));
        }
        machine.systemd.job(Verb::Stop, &watch).await?;
    }
    let lock = manage::lock(app, false);
    if lock.is_err() && runs {
        // Somebody else has it, and the app goes on as it was.
        machine.systemd.job(Verb::Start, &watch).await?;
    }
    lock
}

/// Starts, restarts or stops them. For what starts together with the app, systemd does it; this is
/// for an app that runs already, after daemon-reload.
pub(super) async fn settle(machine: &Machine, app: &App) -> Done {
    let target = machine.systemd.unit(&unit::target(&app.name)).await?;
    let runs = target.state() == UnitState::Active;
    let watch = unit::watch(&app.name);
    let process = machine.systemd.unit(&watch).await?.main_pid();
    let settings = process.and_then(drift::of_process);
    let stale = settings.is_some_and(|settings| settings != fingerprint::of_watch(app));
    settle_one(machine, &watch, runs && app.is_watched(), stale).await?;
    let restart_at = !app.supervision.restart_at.is_empty();
    settle_one(machine, &unit::restart_timer(&app.name), runs && restart_at, false).await
}

async fn settle_one(machine: &Machine, unit: &str, wanted: bool, stale: bool) -> Done {
    let state = machine.systemd.unit(unit).await?.state();
    let verb = match (wanted, matches!(state, UnitState::Active | UnitState::Activating)) {
        (true, false) => Verb::Start,
        (true, true) if stale => Verb::Restart,
        (false, true) => Verb::Stop,
        _ => return Ok(()),
    };
    Ok(machine.systemd.job(verb, unit).await?)
}
