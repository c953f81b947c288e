//! `rollback = true`: what a deploy that failed does to undo itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::{Done, Failure};
use super::manage::say;
use super::steps::show;
use crate::base::exit;
use crate::base::interrupts;
use crate::base::text;
use crate::deploy::execute::Executor;
use crate::deploy::progress::Progress;
use crate::deploy::release::{self, ReleaseError};
use crate::deploy::{Outcome, Plan, Roll};

/// Points the app's directory at the release that ran before, and replaces the workers that have
/// the new one: the failed one first, since it serves nobody, then those that were done already.
/// Returns that release.
pub(super) async fn put_back(
    executor: &Executor,
    failed: u16,
    roll: &Roll,
    before: Option<&Path>,
    settle: Duration,
) -> Done<PathBuf> {
    let app = &executor.app;
    let why = |error: ReleaseError| Failure::new(error.to_string());
    let directory = app
        .directory
        .as_deref()
        .ok_or_else(|| Failure::new(format!("{} has no directory", app.name)))?;
    // Never by age: what did not run before need not work.
    let to = before.ok_or_else(|| Failure::new("it ran this release before, too"))?.to_owned();
    release::still(directory, &to).map_err(why)?;
    release::switch(directory, &to).map_err(why)?;
    say(&format!("{} -> {}, since rollback = true", text::path(directory), text::path(&to)));

    let all: BTreeSet<u16> = (1..=app.workers).collect();
    let but = |left_out: &BTreeSet<u16>| all.difference(left_out).copied().collect();
    let failed: BTreeSet<u16> = all.get(&failed).copied().into_iter().collect();
    let surge = roll.surging();
    let mut done: BTreeSet<u16> = but(&failed);
    done.extend(&surge);
    let first = Plan { workers: all.clone(), done, surge, batch: 1, settle };
    let done: BTreeSet<u16> = but(&roll.done());
    let rest = Plan { workers: all.clone(), done, surge: BTreeSet::new(), batch: 1, settle };
    for plan in [first, rest] {
        if plan.done.len() == plan.workers.len() && plan.surge.is_empty() {
            continue;
        }
        let interrupted = || {
            let text = format!("it was interrupted; roundsman reload {} goes on", app.name);
            Failure::with(exit::INTERRUPTED, text)
        };
        if interrupts::heard() {
            return Err(interrupted());
        }
        let progress = Progress { release: Some(to.clone()), ..Progress::default() };
        match executor.run(plan, progress, |step| show(app, step)).await?.0 {
            Outcome::Done => {}
            Outcome::Interrupted => return Err(interrupted()),
            Outcome::Failed { worker, reason } => {
                let worker = app.instance(worker);
                return Err(Failure::new(format!("{worker} does not run it either: {reason}")));
            }
        }
    }
    Progress::clear(&executor.directory, &app.name);
    Ok(to)
}
