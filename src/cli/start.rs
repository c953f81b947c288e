//! `roundsman start`: from a file or a command to a running app, in one line.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::app_options::AppOptions;
use super::before::Before;
use super::deploy::{self, Options};
use super::edit::{self, Edit};
use super::failure::{Done, Failure};
use super::manage::{self, Machine, done, say};
use super::secrets::Secrets;
use super::{AdminSocket, describe, names, node, own_port, reach, rights, scale, taken, whose};
use crate::base::exit;
use crate::base::holder;
use crate::base::interrupts::Interrupts;
use crate::base::unit;
use crate::config::settings::{App, HostPattern, Listen, RouteTarget, Settings};
use crate::config::{cores, machine};
use crate::deploy::{record, release};
use crate::helper::Request;
use crate::helper::request::Verb as Asked;
use crate::start::command::{self, Plain};
use crate::start::error::InferError;
use crate::start::file::Change;
use crate::start::infer::{self, Found};
use crate::start::servers;
use crate::systemd::dbus::Verb;

/// Run a file, a directory or a command as an app, behind the front
///
/// Writes /etc/roundsman/apps/NAME.toml, makes the app start at boot, starts its workers and waits
/// until all are ready. If one does not get ready, it says why, and takes everything back.
///
/// For an app that is there already, its options are changed, and its workers replaced one after
/// the other. An app in another directory, or another file of it, is another app: give it a --name, or
/// have it take the other's place with --replace.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "roundsman start FILE|DIR|APP [OPTIONS] [-- ARGUMENTS...]\n       \
                            roundsman start --name APP [OPTIONS] -- COMMAND [ARGUMENTS...]\n       \
                            roundsman start ecosystem.config.js [--only APP,...] [--env NAME]")]
pub(super) struct Start {
    /// A Node or Python file, a program, a directory with a package.json, an app that was stopped, or an
    /// ecosystem file of PM2
    #[arg(value_name = "FILE|DIR|APP", add = names::apps())]
    what: Option<PathBuf>,
    /// Number of workers, or max for one a core [default: 1]
    #[arg(short = 'n', long, value_name = "N", short_alias = 'i', alias = "instances", value_parser = workers)]
    workers: Option<u16>,
    /// The app's name [default: from package.json, or the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Answer requests for this host only
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Answer requests below this path only
    #[arg(long = "path", value_name = "PATH")]
    prefix: Option<String>,
    /// Run as this user [default: whose the folder is, and all on the way to it]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// How the app takes connections; none for one that serves no HTTP, as a queue consumer or a bot
    #[arg(long, value_name = "HOW", value_parser = ["auto", "cluster", "fd", "port", "unix", "none"])]
    listen: Option<String>,
    /// Take the place of the app that has this name, though it is in another directory, another file, or
    /// another user's
    #[arg(long)]
    replace: bool,
    /// Set a variable for the app (repeatable); of an ecosystem file of PM2, NAME takes env_NAME too
    #[arg(short, long, value_name = "NAME=VALUE|NAME", value_parser = variable)]
    env: Vec<(String, Option<String>)>,
    /// Of an ecosystem file of PM2, start these apps only
    #[arg(long, value_name = "APP,...", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    options: AppOptions,
    /// Arguments for the file; without one, the command to run
    #[arg(last = true, value_name = "ARGUMENTS")]
    rest: Vec<String>,
    /// Run by the helper: an app that is configured, and stays enabled or not as it is
    #[arg(long, hide = true)]
    for_member: bool,
    /// Of a list: an app that is configured, whatever file has its name
    #[arg(skip)]
    is_one: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

/// A number of workers; PM2's `max` and 0 are one a core.
fn workers(text: &str) -> Result<u16, String> {
    if matches!(text, "max" | "auto" | "0") {
        let cores = cores::usable(Path::new("/"));
        return Ok(u16::try_from(cores).unwrap_or(u16::MAX).clamp(1, 250));
    }
    let number = text.parse().ok().filter(|number| (1..=250).contains(number));
    number.ok_or_else(|| "write a number from 1 to 250, or max".to_owned())
}

/// A variable, or the name of an environment of PM2's.
fn variable(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Some(value.to_owned()))),
        None if !text.is_empty() => Ok((text.to_owned(), None)),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// What is to be started.
#[derive(Debug)]
struct Planned {
    name: String,
    change: Change,
    /// Whether the change says all of what runs, and not only some of its settings.
    is_whole: bool,
}

// === impl Start ===

impl Start {
    /// Starts.
    pub(super) fn run(&self) -> ExitCode {
        rights::run(|| self.request(), self.start())
    }

    /// The list of PM2's apps that is to be started, and the name of an environment in it.
    pub(super) fn list(&self) -> Done<Option<(&Path, Option<&str>)>> {
        let wrong = |why: &str| Err(Failure::with(exit::USAGE, why));
        let named =
            self.env.iter().find(|(_, value)| value.is_none()).map(|(name, _)| name.as_str());
        let list = self.what.as_deref().filter(|what| infer::is_ecosystem(what) && what.is_file());
        let Some(list) = list.filter(|_| !self.is_one) else {
            return match named {
                Some(name) => wrong(&format!(
                    "--env {name} says no value: write --env {name}=VALUE. A name alone is for an ecosystem file \
                     of PM2"
                )),
                None if !self.only.is_empty() => wrong("--only is for an ecosystem file of PM2"),
                None => Ok(None),
            };
        };
        let is_alone = self.with_no_options() && self.env.iter().all(|(_, value)| value.is_none());
        if is_alone && self.env.len() <= 1 {
            return Ok(Some((list, named)));
        }
        wrong(
            "an ecosystem file of PM2 says all of its apps: --only APP, --env NAME and --json can be given with it. \
             The rest is in the apps' files afterwards",
        )
    }

    /// Whether nothing is said but what is to be started.
    fn with_no_options(&self) -> bool {
        let options = [&self.name, &self.host, &self.prefix, &self.user, &self.listen];
        options.iter().all(|option| option.is_none())
            && self.workers.is_none()
            && self.options.is_empty()
            && self.rest.is_empty()
            && !self.replace
    }

    /// The command for an app that is there, by its name.
    pub(super) fn of_app(&self, name: &str) -> Self {
        let what = Some(PathBuf::from(name));
        Self { what, is_one: true, only: Vec::new(), env: Vec::new(), ..self.clone() }
    }

    /// The apps of a list that are meant, if not all.
    pub(super) fn only(&self) -> &[String] {
        &self.only
    }

    /// The admin socket of the front that it talks to.
    pub(super) fn admin(&self) -> &Path {
        &self.admin.path
    }

    /// Starts one app.
    pub(super) async fn start(&self) -> Done {
        let Planned { name, mut change, is_whole } = self.plan()?;
        let _lock = manage::lock(&name, false)?;
        let present = manage::load().settings.apps.remove(&name);
        let files = present.as_ref().map(|app| app.environment_files.clone());
        let secrets = Secrets::take(&name, &mut change, &files.unwrap_or_default())?;
        let edit = self.edit(&name, &change, is_whole, self.workers)?;
        let present = present.map(|app| app.workers);
        let is_background = change.listen.as_deref() == Some("none");
        if edit.is_new() && !is_background {
            taken::refuse_route(&manage::load(), &name, &change)?;
        }
        let settings = edit.judge()?;
        let app = edit.judge_app(&name)?;
        reach::accessible(&app, edit.is_new())?;
        let difference = edit.difference();
        // A command that only starts what is there has nothing to write.
        let writes = !difference.is_empty() || secrets.is_some();
        if writes {
            rights::may_write(&[Path::new(rights::BOOT)])?;
        }
        let machine = Machine::connect(&self.admin.path).await?;
        let before = Before::look(&machine, &name).await?;
        let workers = app.workers;
        if writes || before.running().len() < usize::from(workers) {
            could_be_up(&machine, &app, secrets.is_some()).await?;
        }
        if writes {
            warn(&app);
        }
        if edit.is_new() {
            say(&format!("{}:\n{difference}", edit.path().display()));
        } else if !difference.is_empty() {
            say(&format!("{} changes:\n{difference}", edit.path().display()));
        }
        if let Some(secrets) = &secrets {
            say(&secrets.note());
        }
        // Fewer workers come last: until the others run as they are to, none goes.
        let less = !before.is_empty() && workers < present.unwrap_or(workers);
        let (app, edit) = if less {
            let edit = self.edit(&name, &change, is_whole, None)?;
            (edit.judge_app(&name)?, edit)
        } else {
            (app, edit)
        };
        if let Some(secrets) = &secrets {
            secrets.write()?;
        }
        let (app, edit, brought) =
            self.bring_up_or_take(&machine, app, edit, &before, writes).await;
        if let Err(failure) = brought {
            if writes {
                say("taking everything back; Ctrl-C leaves it in the middle");
                if let Some(secrets) = &secrets {
                    secrets.undo();
                }
                before.put_back(&machine, &app, &edit).await;
            }
            return Err(failure);
        }
        let app = if less {
            let fewer = Change { workers: Some(workers), ..Change::default() };
            let edit = Edit::overlay(&name, &fewer)?;
            let after = edit.judge_app(&name)?;
            scale::scale(&machine, &edit, &app, &after).await?;
            after
        } else {
            app
        };
        record::remember(&app, release::current(&app).as_deref(), record::last(&app).as_deref());
        let plural = if app.workers == 1 { "worker" } else { "workers" };
        let count = format!("{} {plural}", app.workers);
        let addresses = addresses(&settings, &name, port(&machine).await);
        let where_ = if app.is_background() {
            "with listen = \"none\": it serves no HTTP".to_owned()
        } else if addresses.is_empty() {
            "behind the routes of other files".to_owned()
        } else {
            format!("behind {}", addresses.join(" and "))
        };
        done(
            self.json,
            &format!("{name} is up: {count} {where_}"),
            "started",
            &name,
            &json!({ "workers": app.workers, "addresses": addresses, "file": edit.path() }),
        );
        Ok(())
    }

    /// The same for an app that may turn out to choose itself where it listens: it is taken there, if it is new
    /// and nobody has said where it listens; first with one worker, if several are in each other's way.
    async fn bring_up_or_take(
        &self,
        machine: &Machine,
        mut app: App,
        mut edit: Edit,
        before: &Before,
        writes: bool,
    ) -> (App, Edit, Done) {
        let may = edit.is_new() && self.listen.is_none() && !self.options.has_port();
        let mut tried = Vec::new();
        loop {
            let brought = self.bring_up(machine, &app, &edit, before, writes).await;
            let chosen = brought.as_ref().err().and_then(|failure| failure.chosen);
            let Some(chosen) = chosen.filter(|chosen| may && !tried.contains(chosen)) else {
                return (app, edit, brought);
            };
            // What still has the port is in the way of who gets it.
            let all: Vec<u16> = (1..=app.workers).collect();
            let stopped = machine.stop_workers(&app, &all).await;
            match stopped.and_then(|()| own_port::taken(chosen, &app, &edit)) {
                Ok(taken) => (app, edit) = taken,
                Err(failure) => return (app, edit, Err(failure)),
            }
            tried.push(chosen);
        }
    }

    /// What members may have done: an app that is there started as it is.
    fn request(&self) -> Done<Request> {
        self.admin.only_default()?;
        let root = || rights::root_alone("starting anything but an app that is there");
        let name = self.what.as_ref().and_then(|what| what.to_str()).ok_or_else(root)?;
        let as_it_is = self.with_no_options() && self.env.is_empty();
        // Whether it is configured, the helper knows: an app's file need not be for all to read.
        if !as_it_is || unit::name_fault(name).is_some() {
            return Err(root());
        }
        if Path::new(name).exists() {
            let here =
                format!("\"{name}\" is a file or folder here (cd / to start the app): running it");
            return Err(rights::root_alone(&here));
        }
        Ok(Request { app: name.to_owned(), verb: Asked::Start, json: self.json })
    }

    /// Whether this is the name of an app that is configured, and no path.
    fn is_app(&self, what: &str) -> bool {
        let is_named = self.for_member || self.is_one;
        let bare = !what.contains('/') && (is_named || !Path::new(what).exists());
        bare && manage::load().app_files.contains_key(what)
    }

    /// The app's name, and what its file is to say.
    fn plan(&self) -> Done<Planned> {
        let found = match &self.what {
            None => command_here(&self.rest, self.listen.as_deref())?,
            Some(what) => {
                if let Some(name) = what.to_str().filter(|name| self.is_app(name)) {
                    let mut change = self.options();
                    let app = manage::load().settings.apps.remove(name);
                    let is_node = app.is_some_and(|app| app.listen == Listen::Cluster);
                    self.options.add_to(&mut change, is_node)?;
                    return Ok(Planned { name: name.to_owned(), change, is_whole: false });
                }
                if self.for_member {
                    return Err(Failure::new("members of the group start what is configured"));
                }
                if let Some(words) = self.typed(what) {
                    command_here(&words, self.listen.as_deref())?
                } else {
                    let path = absolute(what)?;
                    let mut found = infer::find(&path).map_err(|error| not_found(what, &error))?;
                    found.command.extend(self.rest.iter().cloned());
                    found
                }
            }
        };
        for script in &found.left_out {
            say(&format!(
                "the script \"{script}\" of package.json is not run: run it before each start"
            ));
        }
        let name = self.name.clone().or_else(|| found.name.clone()).ok_or_else(|| {
            Failure::new("there is no name to be found for it; give it one with --name")
        })?;
        let loaded = manage::load();
        let is_new = !loaded.app_files.contains_key(&name) && !edit::path(&name).exists();
        // Only once: with a link on the way it may lead elsewhere the next time.
        let whose = match &self.user {
            None => Some(whose::look(&found.paths())?),
            Some(_) => None,
        };
        if !self.replace {
            let directory = &found.directory;
            let of_directory = whose::look(std::slice::from_ref(directory))?;
            let file = self.what.as_deref().filter(|what| self.name.is_none() && what.is_file());
            taken::refuse(&loaded, &name, file, directory, whose.as_ref(), &of_directory)?;
        }
        let mut change = self.options();
        // Another's code does not run as the one whose place it takes.
        if let Some(whose) = whose.filter(|_| is_new || self.replace) {
            change.user = whose::user(&found.directory, &whose)?;
        }
        change.workers = self.workers.or(is_new.then_some(1));
        change.listen = self.listen.clone().or(found.listen.filter(|_| is_new).map(str::to_owned));
        // What is said on its own counts more than what stood before the command.
        let own = std::mem::take(&mut change.environment);
        change.environment = [found.environment, own].concat();
        let is_node = found.command.first().is_some_and(|program| node::is_node(program));
        self.options.add_to(&mut change, is_node)?;
        change.command = Some(servers::with_variables(node::resolve(found.command)?));
        change.directory = Some(found.directory.display().to_string());
        Ok(Planned { name, change, is_whole: true })
    }

    /// The words of a command that is given where a file could be: `npm -- start`, `"npm start"`.
    fn typed(&self, what: &Path) -> Option<Vec<String>> {
        let text = what.to_str()?;
        if what.exists() || (text.contains('/') && !text.contains(' ')) {
            return None;
        }
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        // What a package manager starts is run without it, so that it need not even be there.
        let is_known =
            matches!(text, "npm" | "yarn" | "pnpm" | "npx") || node::find(text).is_some();
        let is_command = words.len() > 1 || is_known;
        words.extend(self.rest.iter().cloned());
        is_command.then_some(words)
    }

    /// The change of the app's file, with this number of workers; `is_whole` is whether it says all of
    /// what runs.
    fn edit(
        &self,
        name: &str,
        change: &Change,
        is_whole: bool,
        workers: Option<u16>,
    ) -> Done<Edit> {
        if !is_whole {
            return Edit::overlay(name, &Change { workers, ..change.clone() });
        }
        // A new app has a number in any case.
        let workers = workers.or(change.workers.filter(|_| self.workers.is_none()));
        Edit::change(name, &Change { workers, ..change.clone() })
    }

    /// What the options say that are about no file.
    fn options(&self) -> Change {
        let route = (self.host.is_some() || self.prefix.is_some())
            .then(|| (self.host.clone(), self.prefix.clone()));
        Change {
            workers: self.workers,
            user: self.user.clone(),
            listen: self.listen.clone(),
            route,
            environment: self
                .env
                .iter()
                .filter_map(|(n, v)| Some((n.clone(), v.clone()?)))
                .collect(),
            ..Change::default()
        }
    }

    /// Files in place, units made, workers started, or replaced where they ran already.
    async fn bring_up(
        &self,
        machine: &Machine,
        app: &App,
        edit: &Edit,
        before: &Before,
        writes: bool,
    ) -> Done {
        {
            let mut interrupts = Interrupts::new()?;
            tokio::select! {
                begun = self.begin(machine, app, edit, before, writes) => begun?,
                () = interrupts.recv() => {
                    return Err(Failure::with(exit::INTERRUPTED, "interrupted"));
                }
            }
        }
        let run: Vec<u16> =
            before.running().iter().copied().filter(|number| *number <= app.workers).collect();
        let mut replace = writes && !run.is_empty();
        for number in run {
            replace |= describe::worker(machine, app, number, None).await?.stale.is_some();
        }
        // It listens to signals itself: a worker that is under way is finished.
        if replace {
            deploy::deploy(machine, app, &Options::default()).await?;
        }
        // What the file did not have before, either.
        let mut extra = machine.running(&app.name).await?;
        extra.retain(|number| *number > app.workers);
        if !extra.is_empty() {
            machine.stop_workers(app, &extra).await?;
        }
        Ok(())
    }

    /// The part of it before workers that run are touched.
    async fn begin(
        &self,
        machine: &Machine,
        app: &App,
        edit: &Edit,
        before: &Before,
        writes: bool,
    ) -> Done {
        if writes {
            edit.write()?;
        }
        machine.apply_files_of(&app.name, !app.is_background()).await?;
        if !self.for_member {
            machine.systemd.enable(&unit::target(&app.name)).await?;
        }
        let new: Vec<u16> =
            (1..=app.workers).filter(|number| !before.running().contains(number)).collect();
        if !new.is_empty() {
            machine.start_workers(app, &new).await?;
        }
        // What else it wants: the watch and the timer. And so the app is stopped with it.
        Ok(machine.systemd.job(Verb::Start, &unit::target(&app.name)).await?)
    }
}

/// Says what is unwise about it.
fn warn(app: &App) {
    for (title, help) in machine::warnings(app) {
        say(&format!("warning: {title}: {help}"));
    }
}

/// Fails when something surely keeps the app from serving, before anything is changed for it.
async fn could_be_up(machine: &Machine, app: &App, has_secrets: bool) -> Done {
    let mut app = app.clone();
    // What is yet to be written is not missing.
    let own = Secrets::path(&app.name);
    app.environment_files.retain(|file| !has_secrets || *file != own);
    machine.could_start(&app, 1..=app.workers, None).await?;
    machine.could_serve(&app).await
}

/// A command, in this directory, with `listen` if that was said.
fn command_here(words: &[String], said: Option<&str>) -> Done<Found> {
    if words.is_empty() {
        return Err(Failure::with(
            exit::USAGE,
            "what is to be started? A file or a folder (roundsman start . for this one), or after -- a \
             command: roundsman start --help",
        ));
    }
    let directory = absolute(Path::new("."))?;
    // What takes connections in a way that was said is told of no other one.
    let plain = match command::plain(words, &directory, said.is_none()) {
        // Nothing is said to what serves nobody but that it shall end, which all its processes hear.
        Err(_) if said == Some("none") => Plain { command: words.to_vec(), ..Plain::default() },
        plain => plain.map_err(|error| Failure::new(error.to_string()))?,
    };
    if plain.command != words {
        say(&format!("what runs is: {}", plain.command.join(" ")));
    }
    let name = directory.file_name().and_then(|name| name.to_str()).and_then(infer::app_name);
    let Plain { command, environment, listen, left_out } = plain;
    Ok(Found { command, directory, listen, name, environment, left_out })
}

/// Why it is not known what to start; a bare name could have been an app's.
fn not_found(what: &Path, error: &InferError) -> Failure {
    let bare = what.to_str().filter(|text| !text.contains(['/', '.']));
    match (error, bare) {
        (InferError::NotThere(_, None), Some(name)) => {
            manage::no_app("file, folder or app", name, &manage::load())
        }
        _ => Failure::new(error.to_string()),
    }
}

/// The path from the root on. Links stay: what is `current` today is another release tomorrow.
fn absolute(path: &Path) -> Done<PathBuf> {
    let physical = std::env::current_dir()?;
    let id = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    // What the shell calls this directory, as long as it is this directory.
    let logical = std::env::var_os("PWD").map(PathBuf::from).filter(|pwd| pwd.is_absolute());
    let here = logical.filter(|pwd| id(pwd) == id(&physical)).unwrap_or(physical);
    let joined = here.join(path);
    if joined.components().any(|part| part == std::path::Component::ParentDir) {
        // `..` behind a link is not what it looks like.
        return Ok(fs::canonicalize(&joined).unwrap_or(joined));
    }
    Ok(joined.components().collect())
}

/// The front's port, where it is not the usual one.
async fn port(machine: &Machine) -> Option<u16> {
    let socket = machine.systemd.unit("roundsman-http.socket").await.ok()?;
    let ports = socket.listens_on().into_iter().filter_map(|address| holder::port(&address));
    ports.into_iter().next().filter(|port| *port != 80)
}

/// Where the app answers, for people.
fn addresses(settings: &Settings, name: &str, port: Option<u16>) -> Vec<String> {
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    settings
        .routes
        .iter()
        .filter(|route| matches!(&route.target, RouteTarget::App(app) if app == name))
        .map(|route| {
            let host = match &route.host {
                HostPattern::Exact(host) => host.clone(),
                HostPattern::Wildcard(domain) => format!("*.{domain}"),
                HostPattern::Any => "localhost".to_owned(),
            };
            format!("http://{host}{port}{}", route.path)
        })
        .collect()
}
