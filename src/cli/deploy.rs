//! The rolling deploy as commands run it: plan, progress on the terminal, and what it came to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::advice;
use super::failure::{Done, Failure};
use super::intruder;
use super::last_words::last_lines;
use super::manage::{Machine, print, print_json, say};
use super::own_port;
use super::put_back;
use super::steps::show;
use crate::base::exit;
use crate::base::paths;
use crate::base::text;
use crate::base::unit;
use crate::config::settings::App;
use crate::deploy::execute::{Executor, STOPPED, settle};
use crate::deploy::progress::Progress;
use crate::deploy::{Outcome, Plan, Roll, record, release, surge};
use crate::helper::request::Deploy;
use crate::supervise::crashes::Crashes;
use crate::systemd::dbus::UnitState;

/// How a deploy goes about it.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Options {
    /// Replace this many workers at a time [default: 1, or as many as --surge]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=250))]
    batch: Option<u16>,
    /// Start this many extra workers first and stop them last, so that capacity never falls
    /// [default: 1 when the app has one worker and serves HTTP, otherwise 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=50))]
    surge: Option<u16>,
    /// Believe a worker when it has been ready for this many seconds [default: two health checks,
    /// or 2 without a health check]
    #[arg(long, value_name = "SECONDS")]
    settle: Option<u16>,
    /// Go on where a deploy failed or was interrupted: leave the workers alone that are done
    #[arg(long)]
    resume: bool,
    /// Replace this worker only; may be given several times
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    worker: Vec<u16>,
    /// Run by roundsman-watch@APP.service
    #[arg(long, hide = true)]
    by_watch: bool,
    /// Wait for another command that is changing the app, instead of giving up
    #[arg(long)]
    pub(super) wait: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// Only these workers.
    pub(super) fn of_workers(worker: Vec<u16>) -> Self {
        Self { worker, ..Self::default() }
    }

    /// As the helper is asked for it.
    pub(super) fn request(&self) -> Done<Deploy> {
        if self.by_watch {
            return Err(super::rights::root_alone("--by-watch"));
        }
        Ok(Deploy {
            batch: self.batch,
            surge: self.surge,
            settle: self.settle,
            resume: self.resume,
            worker: self.worker.clone(),
            wait: self.wait,
        })
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    app: &'a str,
    result: &'static str,
    /// Workers that run the new code.
    done: BTreeSet<u16>,
    workers: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<PathBuf>,
    /// The release that it went back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    back: Option<PathBuf>,
}

/// Replaces the workers of an app, which must be locked.
pub(super) async fn deploy(machine: &Machine, app: &App, options: &Options) -> Done {
    let done = roll(machine, app, options).await;
    let interrupted = matches!(&done, Err(failure) if failure.code == exit::INTERRUPTED);
    // Its own process is what runs this; it looks at the files itself. Who has had to wait long
    // enough is not made to wait for it.
    if !options.by_watch && !interrupted {
        let settled = super::companions::settle(machine, app).await;
        return done.and(settled); // what became of the deploy is what is told
    }
    done
}

async fn roll(machine: &Machine, app: &App, options: &Options) -> Done {
    let (root, main_directory) = crate::deploy::execute::system();
    // Single workers are no deploy: what is noted of an unfinished one must stay.
    let single = !options.worker.is_empty();
    let directory = if single { main_directory.join("single") } else { main_directory.clone() };
    let runs = !machine.running(&app.name).await?.is_empty();
    if !runs {
        let target = machine.systemd.state(&unit::target(&app.name)).await?;
        if target != UnitState::Active || single {
            return Err(Failure::new(format!(
                "{0} does not run; start it: roundsman start {0}",
                app.name
            )));
        }
    }
    may_come_back(machine, app, options).await?;
    if !runs {
        return start_again(machine, app, options).await;
    }
    let release = release::current(app);
    let before = Progress::load(&main_directory, &app.name);
    let old = old_release(machine, app, release.as_deref()).await;
    let previous = old.clone().or_else(|| record::last(app));
    // Extra workers that a killed deploy has left go with this one.
    let left = before.as_ref().map(|before| before.surge.clone()).unwrap_or_default();
    if single {
        may_be_single(app, options, &left)?;
    }
    let progress = start(app, options, before, (release.clone(), previous))?;
    let plan = plan(app, options, &progress, &left);
    if plan.workers.is_subset(&plan.done) {
        say("every worker runs the new code already");
    }
    let executor = Executor {
        systemd: machine.systemd.clone(),
        front: machine.front.clone(),
        root,
        directory,
        app: app.clone(),
    };
    let previous = progress.previous.clone();
    let settle = plan.settle;
    let (outcome, roll) = executor.run(plan, progress, |step| show(app, step)).await?;
    if let Some(now) = executor.moved_to(release.as_deref())
        && matches!(outcome, Outcome::Done | Outcome::Interrupted)
    {
        return Err(moved(app, &roll, &now));
    }
    if outcome == Outcome::Done && single {
        return single_done(app, options, &main_directory);
    }
    if outcome == Outcome::Done {
        record::remember(app, release.as_deref(), previous.as_deref());
    }
    let back = match &outcome {
        Outcome::Failed { worker, reason } if app.rollback && !single && reason != STOPPED => {
            Some(put_back::put_back(&executor, *worker, &roll, old.as_deref(), settle).await)
        }
        _ => None,
    };
    let code = code(app, release.as_deref());
    if options.json {
        print_report(app, &outcome, &roll, release, back.as_ref());
    }
    let name = &app.name;
    let done = roll.done().len();
    match outcome {
        Outcome::Done => {
            say(&format!("{name} is deployed: {done} of {done} workers run {code}"));
            Ok(())
        }
        Outcome::Interrupted => Err(Failure::with(
            exit::INTERRUPTED,
            format!(
                "interrupted: {done} of {} workers of {name} {} the new code, the others the old \
                 one.\nroundsman reload {name} --resume goes on",
                app.workers,
                run(done)
            ),
        )),
        Outcome::Failed { worker, reason } => {
            Err(failed(app, &roll, (worker, &reason), back.as_ref()))
        }
    }
}

fn print_report(
    app: &App,
    outcome: &Outcome,
    roll: &Roll,
    release: Option<PathBuf>,
    back: Option<&Done<PathBuf>>,
) {
    let (result, failed, reason) = match outcome {
        Outcome::Done => ("done", None, None),
        Outcome::Failed { worker, reason } => ("failed", Some(*worker), Some(reason.clone())),
        Outcome::Interrupted => ("interrupted", None, None),
    };
    let (done, back) = match back {
        Some(Ok(back)) => (BTreeSet::new(), Some(back.clone())),
        _ => (roll.done(), None),
    };
    let (app, workers) = (&app.name, app.workers);
    print_json(&Report { app, result, done, workers, failed, reason, release, back });
}

/// That a worker failed, for this reason, and what became of the way back.
fn failed(
    app: &App,
    roll: &Roll,
    (worker, reason): (u16, &str),
    back: Option<&Done<PathBuf>>,
) -> Failure {
    let name = &app.name;
    let others = others(app, roll, back);
    let code = match back {
        Some(Err(Failure { code: exit::INTERRUPTED, .. })) => exit::INTERRUPTED,
        _ => exit::FAILURE,
    };
    let lines = last_lines(&unit::service(name, worker));
    let text = format!(
        "{}: {reason}{}{lines}{}{}\nThe deploy has stopped. {others} When it is mended: roundsman reload {name}",
        app.instance(worker),
        intruder::told(app, worker),
        advice::about(&lines, app),
        own_port::beside(app, worker, &lines),
    );
    Failure::with(code, text)
}

/// That the app's link was pointed elsewhere while the deploy ran.
fn moved(app: &App, roll: &Roll, now: &Path) -> Failure {
    let name = &app.name;
    Failure::new(format!(
        "{} was pointed to {} meanwhile, so the deploy has stopped after {} of {} workers.\n\
         roundsman describe {name} says which runs what, roundsman reload {name} deploys the new release to all",
        text::path(app.directory.as_deref().unwrap_or(Path::new("the directory"))),
        text::path(now),
        roll.done().len(),
        app.workers,
    ))
}

/// Refuses to touch a worker that could not start again.
async fn may_come_back(machine: &Machine, app: &App, options: &Options) -> Done {
    let surge = options.surge.unwrap_or(surge::usual(app));
    let all: Vec<u16> = (1..=app.workers).chain(surge::numbers(app.workers, surge)).collect();
    let workers = if options.worker.is_empty() { &all } else { &options.worker };
    let then = format!("roundsman reload {}", app.name);
    machine.could_start(app, workers.iter().copied(), Some(&then)).await
}

/// An app of which no worker runs though nobody has stopped it: they were given up, or are done.
async fn start_again(machine: &Machine, app: &App, options: &Options) -> Done {
    let all: Vec<u16> = (1..=app.workers).collect();
    machine.start_workers(app, &all).await?;
    let release = release::current(app);
    record::remember(app, release.as_deref(), record::last(app).as_deref());
    let code = code(app, release.as_deref());
    if options.json {
        print_json(&Report {
            app: &app.name,
            result: "done",
            done: all.iter().copied().collect(),
            workers: app.workers,
            failed: None,
            reason: None,
            release,
            back: None,
        });
    }
    let (name, count) = (&app.name, all.len());
    say(&format!("{name} is deployed: {count} of {count} workers run {code}"));
    Ok(())
}

/// What has been deployed, by its folder where there are several: after `rollback` it is not the new code.
fn code(app: &App, release: Option<&Path>) -> String {
    let behind_a_link = release.filter(|release| app.directory.as_deref() != Some(release));
    behind_a_link.map_or_else(|| "the new code".to_owned(), text::path)
}

/// How the app's other workers are after one has failed.
fn others(app: &App, roll: &Roll, back: Option<&Done<PathBuf>>) -> String {
    let done = roll.done().len();
    let others = match (done, roll.surging().is_empty()) {
        _ if matches!(back, Some(Ok(_))) => {
            format!("The app is back on the release before; every worker {}.", app.does())
        }
        (0, true) if app.workers == 1 && surge::usual(app) == 0 => {
            "systemd goes on trying to start it: roundsman rollback goes back.".to_owned()
        }
        (0, true) => {
            format!("No other worker was touched: the old code {}.", app.does())
        }
        (0, false) => {
            format!("An extra worker {} in its place, the others run the old code.", app.does())
        }
        _ => {
            let all = app.workers;
            format!("{done} of {all} workers {} the new code, the others the old one.", run(done))
        }
    };
    match back {
        Some(Err(why)) => format!("{others} It could not go back: {}.", why.message),
        _ => others,
    }
}

/// What this many of them do.
fn run(workers: usize) -> &'static str {
    if workers == 1 { "runs" } else { "run" }
}

/// Whether single workers can be replaced: that they exist, and that no extra one serves already.
fn may_be_single(app: &App, options: &Options, left: &BTreeSet<u16>) -> Done {
    if let Some(number) = options.worker.iter().find(|n| !(1..=app.workers).contains(n)) {
        let (wrong, last) = (app.instance(*number), app.instance(app.workers));
        return Err(Failure::new(format!("there is no worker {wrong}; the last one is {last}")));
    }
    if !left.is_empty() {
        return Err(Failure::new(format!(
            "an unfinished deploy of {0} has left an extra worker in charge; roundsman reload {0} ends it",
            app.name
        )));
    }
    Ok(())
}

/// What is said of single workers that were replaced, and noted in an unfinished deploy.
fn single_done(app: &App, options: &Options, directory: &Path) -> Done {
    if let Some(mut unfinished) = Progress::load(directory, &app.name) {
        unfinished.done.extend(&options.worker);
        unfinished.save(directory, &app.name)?;
    }
    let names: Vec<String> = options.worker.iter().map(|number| app.instance(*number)).collect();
    if options.json {
        let done = serde_json::json!({ "app": app.name, "result": "done", "done": options.worker });
        print(&done.to_string());
    }
    say(&format!("{} {} replaced", names.join(", "), if names.len() == 1 { "is" } else { "are" }));
    Ok(())
}

/// Where it begins.
fn start(
    app: &App,
    options: &Options,
    before: Option<Progress>,
    (release, previous): (Option<PathBuf>, Option<PathBuf>),
) -> Done<Progress> {
    let new = Progress { release, previous, ..Progress::default() };
    match (options.resume, before) {
        (true, None) => Err(Failure::new(format!(
            "there is no unfinished deploy of {0} to resume; roundsman reload {0} begins one",
            app.name
        ))),
        (true, Some(before)) if before.release != new.release => Err(Failure::new(format!(
            "the unfinished deploy of {0} was of another release ({1}); roundsman reload {0} deploys \
             the present one to all workers",
            app.name,
            text::path(before.release.as_deref().unwrap_or(Path::new("none")))
        ))),
        (true, Some(before)) => Ok(Progress { done: before.done, ..new }),
        (false, _) => Ok(new),
    }
}

fn plan(app: &App, options: &Options, progress: &Progress, left: &BTreeSet<u16>) -> Plan {
    let workers: BTreeSet<u16> = (1..=app.workers).collect();
    let surge = options.surge.unwrap_or(surge::usual(app));
    let mut extra = surge::numbers(app.workers, surge);
    extra.extend(left.difference(&workers));
    let mut done: BTreeSet<u16> = if options.worker.is_empty() {
        progress.done.intersection(&workers).copied().collect()
    } else {
        workers.iter().filter(|number| !options.worker.contains(number)).copied().collect()
    };
    if done == workers {
        done.extend(&extra); // nothing is left to do but to stop them
    }
    Plan {
        done,
        workers,
        surge: extra,
        batch: usize::from(options.batch.unwrap_or(surge.max(1))),
        settle: options.settle.map_or_else(|| settle(app), |s| Duration::from_secs(s.into())),
    }
}

/// The release that the workers run now, if it is another one than they shall run.
async fn old_release(machine: &Machine, app: &App, new: Option<&Path>) -> Option<PathBuf> {
    let running = machine.running(&app.name).await.ok()?;
    let runs = |worker: u16| Crashes::release(Path::new(paths::CRASHES), &app.instance(worker));
    running.into_iter().filter_map(runs).find(|runs| Some(&**runs) != new)
}
