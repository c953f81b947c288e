//! The systemd generator: app files → worker units, at boot and at every `daemon-reload`.
//!
//! systemd.generator(7) sets the rules, and they are strict because the boot waits for it: no
//! bus, no network, nothing that may block, and never a failure. So: read the configuration,
//! compute a [`tree::Tree`] (a pure function), write it, say on the kernel log what is wrong, and
//! exit with 0 in any case.
//!
//! It takes nothing away from what runs: an app whose file has errors keeps the units that it had
//! ([`memory`]), and so do workers that run though their app has no file any more; addresses are
//! remembered. And it fails closed: no unit is wanted whose drop-in could not be written, and the templates
//! start nothing without a drop-in.

mod confinement;
mod kmsg;
mod memory;
mod service;
mod text;
pub mod tree;
mod valkey_unit;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io, panic, process, thread};

use kmsg::{Log, Priority};
use memory::Memory;
use tree::{Item, Tree, Unit};

use crate::base::file::write_atomically;
use crate::base::{origin, paths};
use crate::config::copy::AppCopy;
use crate::config::networks::Networks;
use crate::config::settings::App;
use crate::config::valkey::{self, Limits};
use crate::config::{Loaded, Sources, account, load};

/// The name under which systemd starts it.
const NAME: &str = "roundsman-generator";

/// Reading a hundred app files takes milliseconds. systemd itself would wait for 90 s.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// More would push the kernel's own messages out of its log.
const MAX_MESSAGES: usize = 50;

/// Whether this process was started as the generator.
pub fn is_called() -> bool {
    env::args_os().next().is_some_and(|name| Path::new(&name).file_name() == Some(OsStr::new(NAME)))
}

/// What systemd calls it with: `NORMAL EARLY LATE`, of which only the first is written to. In
/// front of them, for tests and for looking at what it would do, may be `--root DIR`.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    root: Option<PathBuf>,
    output: PathBuf,
}

/// Runs the generator.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse(env::args_os().skip(1));
    let log = match &arguments {
        Some(Arguments { root: None, .. }) => Log::kernel(),
        _ => Log::stderr(),
    };
    // Also under `panic = "abort"`: the hook runs first, and ends the process itself.
    panic::set_hook(Box::new(move |info| {
        log.write(Priority::Error, &format!("a bug: {info}"));
        process::exit(0);
    }));
    // Without this thread there is no limit, which is no reason not to go on.
    let _ = thread::Builder::new().spawn(move || {
        thread::sleep(TIME_LIMIT);
        log.write(Priority::Error, "gave up after 10 s: some workers may have no units");
        process::exit(0);
    });
    match arguments {
        Some(arguments) => generate(&arguments, log),
        None => log
            .write(Priority::Error, "usage: roundsman-generator [--root DIR] NORMAL [EARLY LATE]"),
    }
    ExitCode::SUCCESS
}

fn generate(arguments: &Arguments, log: Log) {
    let root = arguments.root.as_deref().unwrap_or(Path::new("/"));
    let memory = Memory::below(root);
    let running = root.join(paths::WORKERS.trim_start_matches('/'));
    let mut names = paths::apps_in(&running);
    let remembered = memory.networks();
    let loaded = load(&Sources::system_below(root).with_networks(remembered.clone()));
    for problem in loaded.problems.iter().take(MAX_MESSAGES) {
        let priority = if problem.is_error() { Priority::Error } else { Priority::Warning };
        log.write(priority, &problem.to_string());
    }
    if loaded.problems.iter().nth(MAX_MESSAGES).is_some() {
        log.write(Priority::Error, "and more: see `roundsman check`");
    }
    names.retain(|name| !loaded.app_names.contains(name));
    let (without_file, names) = (names, loaded.app_names.iter());
    let all: BTreeSet<String> = names.chain(&without_file).cloned().collect();
    note_networks(&loaded, remembered, &all, &memory, log);
    let apps = apps(&loaded, &all, root, &memory, log);
    let limits = limits(&loaded, &memory, log);
    let with_valkey = with_valkey(&apps, &limits, root, &memory, log);
    let units: Vec<Unit<'_>> = apps
        .iter()
        .map(|(app, source)| Unit {
            app,
            source: source.as_deref(),
            has_file: loaded.app_names.contains(&app.name),
            running: paths::workers_in(&running, &app.name),
            valkey: with_valkey.contains(&*app.name).then_some(limits),
        })
        .collect();
    let session = session(&loaded, &memory, log);
    let tree = tree::tree(&units, session.as_deref(), origin::is_roots);
    for (app, _) in &apps {
        for (name, path) in &app.supervision.credentials {
            if !origin::is_roots(path) {
                let path = path.display();
                let message = format!(
                    "{}: credentials.{name}: others than root may change {path} or a directory above it",
                    app.name
                );
                log.write(Priority::Error, &message);
            }
        }
    }
    if let Err((path, error)) = write(&tree, &arguments.output) {
        log.write(Priority::Error, &format!("{}: {error}", path.display()));
    }
}

/// Writes down which network each of these apps has, for the front and the next time.
fn note_networks(
    loaded: &Loaded,
    mut remembered: Networks,
    names: &BTreeSet<String>,
    memory: &Memory,
    log: Log,
) {
    remembered.retain(|name, _| names.contains(name));
    remembered.extend(loaded.networks.clone());
    if let Err(error) = memory.note_networks(&remembered) {
        log.write(Priority::Error, &format!("cannot note the apps' networks: {error}"));
    }
}

/// Every app of these that can have units: as its files say, or as they said when they were last right.
fn apps(
    loaded: &Loaded,
    names: &BTreeSet<String>,
    root: &Path,
    memory: &Memory,
    log: Log,
) -> Vec<(App, Option<PathBuf>)> {
    memory.keep_only(names);
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let mut apps: Vec<(App, Option<PathBuf>)> = Vec::new();
    for name in names {
        let found = match loaded.settings.apps.get(name) {
            Some(app) => {
                let source = loaded
                    .app_files
                    .get(name)
                    .and_then(|path| Some(Path::new("/").join(path.strip_prefix(root).ok()?)));
                let copy = AppCopy::of(loaded, app, source.clone());
                match memory.note(&copy) {
                    Ok(()) => Some((app.clone(), source)),
                    Err(error) => {
                        let message = format!("{name}: cannot note its settings: {error}");
                        log.write(Priority::Error, &message);
                        last_right(name, memory, log, "the errors")
                    }
                }
            }
            None if loaded.app_names.contains(name) => last_right(name, memory, log, "the errors"),
            None => last_right(name, memory, log, "its file went away"),
        };
        let Some((app, source)) = found else { continue };
        let user = account::user(&app);
        let is_taken = app.user.is_none()
            && (apps.iter().any(|(other, _)| account::user(other) == user)
                || users.lines().any(|line| line.split(':').next() == Some(&*user)));
        if is_taken {
            let message = format!(
                "{name}: no units: its user would be {user}, which is another's: give it a `user`"
            );
            log.write(Priority::Error, &message);
            continue;
        }
        apps.push((app, source));
    }
    apps
}

/// An app whose files cannot be used, as it was before.
fn last_right(
    name: &str,
    memory: &Memory,
    log: Log,
    before: &str,
) -> Option<(App, Option<PathBuf>)> {
    let noted = memory.app(name).and_then(|copy| Some((copy.app().ok()?, copy.source)));
    let message = match noted {
        Some(_) => format!("{name}: its units stay as they were before {before}"),
        None => format!("{name}: no units until its errors are mended"),
    };
    log.write(Priority::Warning, &message);
    noted
}

/// What `[session]` says of every app's Valkey server.
fn limits(loaded: &Loaded, memory: &Memory, log: Log) -> Limits {
    let limits = Limits::of(&loaded.settings.front.session);
    if !loaded.front_is_right {
        return memory.limits().unwrap_or(limits);
    }
    // Nobody needs it before.
    if loaded.settings.apps.values().any(App::has_valkey)
        && let Err(error) = memory.note_limits(limits)
    {
        log.write(Priority::Warning, &format!("cannot note [session]: {error}"));
    }
    limits
}

/// The apps that have a Valkey server: by their files, or since it runs and they may just have left it. What
/// each needs is noted.
fn with_valkey<'a>(
    apps: &'a [(App, Option<PathBuf>)],
    limits: &Limits,
    root: &Path,
    memory: &Memory,
    log: Log,
) -> BTreeSet<&'a str> {
    let wanted = apps.iter().map(|(app, _)| app);
    let wanted = wanted.filter(|app| app.has_valkey() || valkey::runs(root, &app.name));
    let noted = wanted.filter(|app| match memory.note_valkey(&app.name, limits) {
        Ok(()) => true,
        Err(error) => {
            let message = format!("{}: cannot note its Valkey server: {error}", app.name);
            log.write(Priority::Error, &message);
            false
        }
    });
    let names = noted.map(|app| &*app.name).collect();
    memory.keep_only_valkey(&names);
    names
}

/// Where the session store listens beside its socket.
fn session(loaded: &Loaded, memory: &Memory, log: Log) -> Option<String> {
    if !loaded.front_is_right {
        return memory.session_listen();
    }
    let listen = loaded.settings.front.session.listen.map(|address| address.to_string());
    if let Err(error) = memory.note_session(listen.as_deref()) {
        log.write(Priority::Warning, &format!("cannot note [session]: {error}"));
    }
    listen
}

/// Writes as much as can be; gives the first error. Links come last, and only to what is whole.
fn write(tree: &Tree, below: &Path) -> Result<(), (PathBuf, io::Error)> {
    let mut result = Ok(());
    let mut failed = Vec::new();
    let mut fail = |path: &Path, error| {
        if result.is_ok() {
            result = Err((below.join(path), error));
        }
    };
    let parent = |path: &Path| path.parent().map_or(Ok(()), fs::create_dir_all);
    for (path, item) in tree {
        let Item::File(text) = item else { continue };
        let whole = below.join(path);
        if let Err(error) =
            parent(&whole).and_then(|()| write_atomically(&whole, text.as_bytes(), 0o644))
        {
            failed.push(tree::unit_of(path).to_owned());
            fail(path, error);
        }
    }
    for (path, item) in tree {
        let Item::Link(target) = item else { continue };
        if failed.iter().any(|unit| path.file_name() == Some(unit)) {
            continue;
        }
        let whole = below.join(path);
        let linked = parent(&whole).and_then(|()| std::os::unix::fs::symlink(target, &whole));
        if let Err(error) = linked {
            fail(path, error);
        }
    }
    result
}

// === impl Arguments ===

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut first = arguments.next()?;
        let mut root = None;
        if first == "--root" {
            root = Some(arguments.next()?.into());
            first = arguments.next()?;
        }
        Some(Self { root, output: first.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Option<Arguments> {
        Arguments::parse(arguments.iter().map(Into::into))
    }

    #[test]
    fn the_first_directory_counts() {
        let normal = Some(Arguments { root: None, output: "/run/n".into() });
        assert_eq!(parse(&["/run/n", "/run/e", "/run/l"]), normal);
        assert_eq!(parse(&["/run/n"]), normal);
        let below = Some(Arguments { root: Some("/r".into()), output: "/run/n".into() });
        assert_eq!(parse(&["--root", "/r", "/run/n", "/run/e", "/run/l"]), below);
        for bad in [&[] as &[&str], &["--root"], &["--root", "/r"]] {
            assert_eq!(parse(bad), None);
        }
    }
}
