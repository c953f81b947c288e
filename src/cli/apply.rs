//! `roundsman apply` and `roundsman diff`: make the machine as the files say, or see where it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Args;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::deploy::{self, Options};
use super::describe;
use super::failure::{Done, Failure};
use super::manage::{self, Machine, print, print_json, say};
use super::{AdminSocket, companions, rights};
use crate::base::exit;
use crate::base::interrupts;
use crate::base::unit;
use crate::base::unit::Instance;
use crate::config::settings::RouteTarget;
use crate::config::{Settings, fingerprint};
use crate::deploy::drift::{self, Present, Running, Step, steps};
use crate::systemd::dbus::Verb;

/// Make the machine as the files say: start, stop and replace workers, reload the front
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print what is to be done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

/// Show where the machine is not as the files say; exits with 1 if it is not
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Apply ===

impl Apply {
    /// Applies.
    pub(super) fn run(&self) -> ExitCode {
        if self.dry_run {
            return manage::run(async { self.steps().await.map(drop) });
        }
        rights::run_as_root("applying the files", async {
            let (machine, settings, steps) = self.steps().await?;
            let boot = |step: &Step| matches!(step, Step::Enable(_) | Step::Remove(_));
            if steps.iter().any(boot) {
                rights::may_write(&[Path::new(rights::BOOT)])?;
            }
            let was_so = steps.is_empty();
            // Always: balancing, routes and limits are the front's, and change without a step.
            machine.apply_files(settings.has_servers()).await?;
            let of_apps = steps.into_iter().filter(|step| step.app().is_some());
            let (removals, others) = of_apps.partition(|s| matches!(s, Step::Remove(_)));
            let settings = Rc::new(settings);
            let mut taken = side_by_side(&machine, &settings, others).await;
            taken.extend(side_by_side(&machine, &Rc::new(Settings::default()), removals).await);
            let names = |ended: End| {
                let ended = taken.iter().filter(|(_, end)| *end == ended);
                ended.map(|(what, _)| what.as_str()).collect::<Vec<_>>().join("; ")
            };
            let (left, failed) = (names(End::NotBegun), names(End::Failed));
            if !left.is_empty() {
                return Err(Failure::with(
                    exit::INTERRUPTED,
                    format!("interrupted before: {left}\nroundsman apply goes on"),
                ));
            }
            if !failed.is_empty() {
                let code = if interrupts::heard() { exit::INTERRUPTED } else { exit::FAILURE };
                return Err(Failure::with(code, format!("{failed} failed, see above")));
            }
            if !was_so {
                say("the machine is as the files say");
            }
            Ok(())
        })
    }

    /// What is to be done, shown.
    async fn steps(&self) -> Done<(Machine, Settings, Vec<Step>)> {
        let (settings, number) = settings()?;
        let machine = Machine::connect(&self.admin.path).await?;
        let steps = find(&machine, &self.admin.path, &settings, &number).await?;
        show(&steps, self.json);
        Ok((machine, settings, steps))
    }
}

// === impl Diff ===

impl Diff {
    /// Compares.
    pub(super) fn run(&self) -> ExitCode {
        manage::run(async {
            let (settings, number) = settings()?;
            let machine = Machine::connect(&self.admin.path).await?;
            let steps = find(&machine, &self.admin.path, &settings, &number).await?;
            show(&steps, self.json);
            if steps.is_empty() { Ok(()) } else { Err(Failure::new("")) }
        })
    }
}

/// What the files say, and a number for them.
fn settings() -> Done<(Settings, String)> {
    let loaded = manage::load();
    let number = fingerprint::of_files(&loaded.files);
    let settings = loaded.strict().map_err(|problems| {
        Failure::config(format!(
            "the configuration has errors; nothing was changed:\n{}",
            problems.render(false)
        ))
    })?;
    Ok((settings, number))
}

/// What is to be done.
async fn find(
    machine: &Machine,
    admin: &Path,
    settings: &Settings,
    number: &str,
) -> Done<Vec<Step>> {
    let mut names: BTreeSet<String> = settings.apps.keys().cloned().collect();
    for (unit, _) in machine.systemd.loaded(unit::ALL_SERVICES).await? {
        names.extend(Instance::of_service(&unit).map(|worker| worker.app));
    }
    let mut present = BTreeMap::new();
    for name in names {
        let mut workers = Vec::new();
        for number in machine.running(&name).await? {
            let stale = match settings.apps.get(&name) {
                Some(app) => describe::worker(machine, app, number, None).await?.stale,
                None => None,
            };
            workers.push(Running { number, stale });
        }
        let enabled = machine.systemd.is_enabled(&unit::target(&name)).await?;
        present.insert(name, Present { enabled, workers });
    }
    let mut all: Vec<Step> = of_front(machine, admin, settings, number).await.into_iter().collect();
    all.extend(steps(&settings.apps, &present));
    Ok(all)
}

/// Whether a front that runs has these files at work; one that cannot be asked is not asked.
async fn of_front(
    machine: &Machine,
    admin: &Path,
    settings: &Settings,
    number: &str,
) -> Option<Step> {
    let status = describe::status(machine, admin).await?;
    if status.configuration.as_deref() == Some(number) {
        return None;
    }
    let served = status.upstreams.into_iter().map(|upstream| upstream.name).collect();
    let apps = settings.apps.values().filter(|app| !app.is_background());
    let apps = apps.map(|app| RouteTarget::App(app.name.clone()));
    let upstreams = settings.upstreams.keys().cloned().map(RouteTarget::Upstream);
    let wanted = apps.chain(upstreams).map(|target| target.to_string()).collect();
    Some(Step::Reload(drift::of_front(&served, &wanted)))
}

fn show(steps: &[Step], as_json: bool) {
    if as_json {
        let list: Vec<_> = steps
            .iter()
            .map(|step| {
                let kind = match step {
                    Step::Reload(_) => "reload",
                    Step::Remove(_) => "remove",
                    Step::Enable(_) => "enable",
                    Step::Start(..) => "start",
                    Step::Stop(..) => "stop",
                    Step::Roll(..) => "replace",
                };
                json!({ "step": kind, "app": step.app(), "text": step.to_string() })
            })
            .collect();
        print_json(&list);
    } else if steps.is_empty() {
        print("the machine is as the files say");
    } else {
        for step in steps {
            print(&step.to_string());
        }
    }
}

/// So many apps at a time: while its only worker is replaced, an app needs memory for a second one.
const AT_A_TIME: usize = 8;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    /// The command was told to end before it.
    NotBegun,
}

/// Takes the steps, those of an app one after the other, and the apps beside each other: one that
/// fails, or takes its time, is no reason to leave the others as they are.
async fn side_by_side(
    machine: &Machine,
    settings: &Rc<Settings>,
    steps: Vec<Step>,
) -> Vec<(String, End)> {
    let mut apps: BTreeMap<String, Vec<Step>> =
        settings.apps.keys().map(|name| (name.clone(), Vec::new())).collect();
    for step in steps {
        let name = step.app().unwrap_or_default().to_owned();
        apps.entry(name).or_default().push(step);
    }
    let places = Rc::new(Semaphore::new(AT_A_TIME));
    let mut tasks = JoinSet::new();
    for (name, steps) in apps {
        let (machine, settings) = (machine.clone(), Rc::clone(settings));
        let places = Rc::clone(&places);
        tasks.spawn_local(async move {
            let _place = places.acquire().await; // nobody closes it
            of_app(&machine, &settings, &name, &steps).await
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// All that is to be done for one app.
async fn of_app(
    machine: &Machine,
    settings: &Settings,
    name: &str,
    steps: &[Step],
) -> Vec<(String, End)> {
    let failed = |failure: &Failure| say(&format!("error: {}", failure.message));
    let mut ends = Vec::new();
    for step in steps {
        let end = if interrupts::heard() {
            End::NotBegun
        } else {
            let taken = take(machine, settings, step).await.inspect_err(failed);
            if taken.is_ok() { End::Done } else { End::Failed }
        };
        ends.push((step.to_string(), end));
    }
    if let Some(app) = settings.apps.get(name).filter(|_| !interrupts::heard())
        && companions::settle(machine, app).await.inspect_err(failed).is_err()
    {
        ends.push((name.to_owned(), End::Failed));
    }
    ends
}

async fn take(machine: &Machine, settings: &Settings, step: &Step) -> Done {
    let app = |name: &str| {
        settings.apps.get(name).ok_or_else(|| Failure::new(format!("there is no app {name}")))
    };
    match step {
        Step::Reload(_) => Ok(machine.front.reload(settings.has_servers()).await?),
        Step::Remove(name) => {
            let _lock = companions::lock_to_end(machine, name).await?;
            machine.systemd.job(Verb::Stop, &unit::target(name)).await?;
            let mut all = Vec::new();
            for number in machine.running(name).await? {
                all.extend([unit::service(name, number), unit::socket(name, number)]);
            }
            machine.systemd.jobs(Verb::Stop, &all).await?;
            Ok(machine.systemd.disable(&unit::target(name)).await?)
        }
        Step::Enable(name) => Ok(machine.systemd.enable(&unit::target(name)).await?),
        Step::Start(name, numbers) => {
            let _lock = manage::lock(name, false)?;
            machine.start_workers(app(name)?, numbers).await?;
            Ok(machine.systemd.job(Verb::Start, &unit::target(name)).await?)
        }
        Step::Stop(name, numbers) => {
            let _lock = manage::lock(name, false)?;
            machine.stop_workers(app(name)?, numbers).await
        }
        Step::Roll(name, _) => {
            let _lock = manage::lock(name, false)?;
            deploy::deploy(machine, app(name)?, &Options::default()).await
        }
    }
}
