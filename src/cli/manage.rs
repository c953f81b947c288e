//! What the commands that change the machine have in common: how they end, the configuration,
//! systemd, and how starting workers is shown.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::task::LocalSet;

use super::failure::{Done, Failure};
use super::front_down;
use crate::base::exit;
use crate::base::file::{self, Links};
use crate::base::interrupts;
use crate::base::nearest;
use crate::base::paths;
use crate::base::text;
use crate::base::unit;
use crate::base::unit::Instance;
use crate::config::copy::{self, AppCopy};
use crate::config::settings::App;
use crate::config::{self, Loaded, Sources};
use crate::deploy::able;
use crate::deploy::front::Front;
use crate::deploy::progress::Lock;
use crate::deploy::sockets::Held;
use crate::deploy::surge;
use crate::systemd::dbus::{Systemd, UnitState, Verb};

/// The machine that is managed.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) systemd: Rc<Systemd>,
    pub(super) front: Front,
    held: OnceCell<Rc<Held>>,
}

/// Runs a command to its end; prints why it did not do it.
pub(super) fn run(command: impl Future<Output = Done>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                biased;
                done = command => done,
                () = interrupts::unheard() => {
                    Err(Failure::with(exit::INTERRUPTED, "interrupted"))
                }
            }
        }),
        Err(error) => Err(error.into()),
    };
    end(result)
}

/// Does something to this app; to each in turn where PM2's word for them is given and no app is called
/// so. The status is the first that is no success.
pub(super) fn each(target: &str, act: impl Fn(&str) -> ExitCode) -> ExitCode {
    let names = if target == "all" { load().app_names } else { BTreeSet::new() };
    if target != "all" || names.contains(target) {
        return act(target);
    }
    if names.is_empty() {
        return end(Err(Failure::new("there are no apps yet: roundsman start server.js")));
    }
    let well = ExitCode::from(exit::OK);
    names
        .iter()
        .map(|name| act(name))
        .fold(well, |first, code| if first == well { code } else { first })
}

/// The exit status of what a command came to; prints why it did not do it.
pub(super) fn end(result: Done) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(Failure { code, message, .. }) => {
            // The errors of files say themselves that they are some.
            match message.trim_end() {
                "" => {}
                text if text.starts_with("error") => say(text),
                text => say(&format!("error: {text}")),
            }
            ExitCode::from(code)
        }
    }
}

/// Prints a line for people. What is in it may be another user's word, as in all that follows. A terminal that is gone is no reason to stop in the middle.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", text::lines(line));
}

/// Prints that a command has done what it was asked to: for people, or as an object with `result`,
/// `app` and these further fields.
pub(super) fn done(as_json: bool, text: &str, result: &str, app: &str, more: &serde_json::Value) {
    if !as_json {
        return print(text);
    }
    let mut object = serde_json::json!({ "result": result, "app": app });
    if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
    print_json(&object);
}

/// Prints a result for programs.
pub(super) fn print_json(result: &impl Serialize) {
    print(&text::json(&serde_json::to_string_pretty(result).unwrap_or_default()));
}

/// Prints a result.
pub(super) fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{}", text::lines(text.trim_end_matches('\n')));
}

// === the configuration ===

/// The app with this name, from files without an error in what concerns it.
pub(super) fn app(loaded: &Loaded, name: &str) -> Done<App> {
    if let Some(app) = loaded.settings.apps.get(name) {
        return Ok(app.clone());
    }
    if loaded.app_names.contains(name) {
        return Err(Failure::config(format!(
            "the file of {name} has errors:\n{}",
            loaded.problems.render(false)
        )));
    }
    Err(no_app("app", name, loaded))
}

/// That there is no app of this name; `what` is what else it could have been.
pub(super) fn no_app(what: &str, name: &str, loaded: &Loaded) -> Failure {
    let names = || loaded.app_names.iter().map(String::as_str);
    let others = match names().collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => ". There are no apps yet: roundsman start server.js".to_owned(),
        all => match nearest::question(name, names()) {
            question if question.is_empty() => format!(". Apps: {all}"),
            question => format!("{question} Apps: {all}"),
        },
    };
    Failure::new(format!("there is no {what} \"{name}\"{others}"))
}

/// The same, or as it was when its files were right: what its units are made of until they are so again.
pub(super) fn app_as_it_is(loaded: &Loaded, name: &str) -> Done<App> {
    if !loaded.settings.apps.contains_key(name) && loaded.app_names.contains(name) {
        let path = AppCopy::path(Path::new("/"), name);
        let text = file::read_text(&path, Links::Refuse, copy::MOST).ok();
        let noted = text.and_then(|text| AppCopy::from_text(&text)?.app().ok());
        if let Some(app) = noted {
            return Ok(app);
        }
    }
    app(loaded, name)
}

/// The files as they are now, but for the extra workers of a deploy.
pub(super) fn sources() -> Sources {
    let drop_ins = surge::drop_ins(Path::new("/"));
    drop_ins.into_iter().fold(Sources::system(), |sources, path| sources.with_file(path, None))
}

/// What they say.
pub(super) fn load() -> Loaded {
    config::load(&sources())
}

/// Whether files can be put to work.
pub(super) fn room() -> Done {
    let words = "systemd has no room for the units of any app; nothing was changed";
    match able::no_room_for_units() {
        Some(why) => Err(Failure::with(exit::OS, format!("{words}\n{why}"))),
        None => Ok(()),
    }
}

/// The right to change an app.
pub(super) fn lock(app: &str, wait: bool) -> Done<Lock> {
    Lock::take(Path::new(paths::DEPLOYS), app, wait).map_err(Failure::from)
}

// === impl Machine ===

impl Machine {
    /// This machine.
    pub(super) async fn connect(admin: &Path) -> Done<Self> {
        let systemd = Rc::new(Systemd::connect().await?);
        Ok(Self { systemd, front: Front::new(admin), held: OnceCell::new() })
    }

    /// Fails when there is no front to serve an app, before anything is changed for it.
    pub(super) async fn could_serve(&self, app: &App) -> Done {
        if app.is_background() {
            return Ok(());
        }
        let answers = self.front.answers().await;
        answers.map_err(|error| front_down::explain(self.front.socket(), error))
    }

    /// Fails when something surely keeps these workers from starting; `again` is the command for when that
    /// is mended, where the workers may run.
    pub(super) async fn could_start(
        &self,
        app: &App,
        workers: impl IntoIterator<Item = u16>,
        again: Option<&str>,
    ) -> Done {
        let obstacles = able::obstacles(&self.systemd, app, workers).await?;
        if obstacles.is_empty() {
            return Ok(());
        }
        let (name, list) = (&app.name, obstacles.join("\n  "));
        Err(Failure::new(match again {
            None => format!("{name} cannot start as it is now; nothing was changed:\n  {list}"),
            Some(again) => format!(
                "{name} could not start again as it is now, so no worker was touched:\n  {list}\n\
                 When it is mended: {again}"
            ),
        }))
    }

    /// The listeners that systemd held when this was first asked: for looking at many workers.
    pub(super) async fn held(&self) -> &Held {
        self.held.get_or_init(async || Rc::new(Held::now(&self.systemd).await)).await
    }

    /// Puts the files to work: units by the generator, then the front. Where there is nothing that the
    /// front `serves`, one that does not run is left alone.
    pub(super) async fn apply_files(&self, serves: bool) -> Done {
        if let Some(why) = able::no_room_for_units() {
            return Err(Failure::with(
                exit::OS,
                format!(
                    "{why}\nsystemd has no room for the units of any app, so it was told of nothing"
                ),
            ));
        }
        self.systemd.daemon_reload().await?;
        let reloaded = self.front.reload(serves).await;
        reloaded.map_err(|error| front_down::explain(self.front.socket(), error))
    }

    /// The same for a change of one app, whatever errors the files of others have.
    pub(super) async fn apply_files_of(&self, app: &str, serves: bool) -> Done {
        self.systemd.daemon_reload().await?;
        let reloaded = self.front.reload_for(app, serves).await;
        reloaded.map_err(|error| front_down::explain(self.front.socket(), error))
    }

    /// Stops workers, draining them first, and waits until they have ended.
    pub(super) async fn stop_workers(&self, app: &App, numbers: &[u16]) -> Done {
        let all: Vec<String> = numbers.iter().flat_map(|number| app.units_of(*number)).collect();
        let stopped = self.systemd.jobs(Verb::Stop, &all).await;
        for unit in &all {
            self.systemd.reset_failed(unit).await?;
        }
        Ok(stopped?)
    }

    /// Stops everything of an app that systemd knows, whatever its file says, and waits until it has
    /// ended.
    pub(super) async fn stop_all(&self, app: &str) -> Done {
        self.systemd.job(Verb::Stop, &unit::target(app)).await?;
        let loaded = self.systemd.loaded(&unit::all_of_workers(app)).await?;
        let runs = |state| !matches!(state, UnitState::Inactive | UnitState::Failed);
        let units: Vec<String> =
            loaded.iter().filter(|(_, state)| runs(*state)).map(|(unit, _)| unit.clone()).collect();
        self.systemd.jobs(Verb::Stop, &units).await?;
        for (unit, _) in loaded {
            self.systemd.reset_failed(&unit).await?;
        }
        Ok(())
    }

    /// The workers of an app that systemd knows, also such that its file does not have any more.
    async fn workers(&self, app: &str) -> Done<Vec<(u16, UnitState)>> {
        let loaded = self.systemd.loaded(&unit::services(app)).await?;
        let mut workers: Vec<(u16, UnitState)> = loaded
            .into_iter()
            .filter_map(|(unit, state)| {
                let worker = Instance::of_service(&unit).filter(|worker| worker.app == app)?;
                Some((worker.number, state))
            })
            .collect();
        workers.sort_unstable_by_key(|(number, _)| *number);
        Ok(workers)
    }

    /// The workers that run, or are about to.
    pub(super) async fn running(&self, app: &str) -> Done<Vec<u16>> {
        let runs = |state| !matches!(state, UnitState::Inactive | UnitState::Failed);
        let workers = self.workers(app).await?.into_iter();
        Ok(workers.filter_map(|(number, state)| runs(state).then_some(number)).collect())
    }

    /// Those of them that are ready.
    pub(super) async fn serving(&self, app: &str) -> Done<Vec<u16>> {
        let workers = self.workers(app).await?.into_iter();
        let ready = workers.filter(|(_, state)| *state == UnitState::Active);
        Ok(ready.map(|(number, _)| number).collect())
    }
}
