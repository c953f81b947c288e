//! Where the machine is not as the files say: what `apply` does and `diff` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::file::{Links, read, read_text};
use crate::base::unit;
use crate::config::copy::{self, AppCopy, CREDENTIAL};
use crate::config::fingerprint::{self, VARIABLE};
use crate::config::settings::App;

/// A worker that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// Its number.
    pub number: u16,
    /// Why it does not run what it would run if it were started now.
    pub stale: Option<String>,
}

/// An app as it is on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Its workers that run, extra ones of a deploy left out.
    pub workers: Vec<Running>,
}

/// One step from the machine to the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The front has other files at work than there are now; with what it lacks and has too many.
    Reload(Vec<String>),
    /// An app without a file: stop all of it, for good.
    Remove(String),
    /// An app that does not start at boot.
    Enable(String),
    /// Workers that do not run.
    Start(String, Vec<u16>),
    /// Workers that the file does not have.
    Stop(String, Vec<u16>),
    /// Workers that run something older, each with the reason.
    Roll(String, Vec<(u16, String)>),
}

/// The steps, app by app; nothing when the machine is as the files say.
pub(crate) fn steps(
    apps: &BTreeMap<String, App>,
    present: &BTreeMap<String, Present>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, app) in apps {
        let none = Present::default();
        let present = present.get(name).unwrap_or(&none);
        if !present.enabled {
            steps.push(Step::Enable(name.clone()));
        }
        let runs = |number: &u16| present.workers.iter().any(|worker| worker.number == *number);
        let missing: Vec<u16> = (1..=app.workers).filter(|number| !runs(number)).collect();
        let (wanted, extra): (Vec<_>, Vec<_>) =
            present.workers.iter().partition(|worker| worker.number <= app.workers);
        if !extra.is_empty() {
            let numbers = extra.iter().map(|worker| worker.number).collect();
            steps.push(Step::Stop(name.clone(), numbers));
        }
        if !missing.is_empty() {
            steps.push(Step::Start(name.clone(), missing));
        }
        let stale: Vec<(u16, String)> = wanted
            .iter()
            .filter_map(|worker| Some((worker.number, worker.stale.clone()?)))
            .collect();
        if !stale.is_empty() {
            steps.push(Step::Roll(name.clone(), stale));
        }
    }
    for (name, present) in present {
        if !apps.contains_key(name) && (present.enabled || !present.workers.is_empty()) {
            steps.push(Step::Remove(name.clone()));
        }
    }
    steps
}

/// What the front serves (as its status names it) and no file has, and the contrary.
pub(crate) fn of_front(served: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Vec<String> {
    let gone = served.difference(wanted).map(|name| format!("{name} is in no file any more"));
    let new = wanted.difference(served).map(|name| format!("{name} is new"));
    gone.chain(new).collect()
}

impl Step {
    /// The app that it is about, if it is about one.
    pub(crate) fn app(&self) -> Option<&str> {
        match self {
            Self::Reload(_) => None,
            Self::Remove(app)
            | Self::Enable(app)
            | Self::Start(app, _)
            | Self::Stop(app, _)
            | Self::Roll(app, _) => Some(app),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &[u16]| match numbers {
            [one] => format!("worker {one}"),
            many => {
                let numbers: Vec<String> = many.iter().map(u16::to_string).collect();
                format!("workers {}", numbers.join(", "))
            }
        };
        match self {
            Self::Reload(what) => {
                f.write_str("the front does not have the files as they are now: reload it")?;
                what.iter().try_for_each(|what| write!(f, "\n    {what}"))
            }
            Self::Remove(app) => write!(f, "{app} has no file: stop it and all its workers"),
            Self::Enable(app) => write!(f, "{app} does not start at boot: enable it"),
            Self::Start(app, numbers) => write!(f, "{app}: start {}", list(numbers)),
            Self::Stop(app, numbers) => write!(f, "{app}: stop {}", list(numbers)),
            Self::Roll(app, stale) => {
                write!(f, "{app}: replace its workers one after the other:")?;
                for (number, reason) in stale {
                    write!(f, "\n    {app}:{number} {reason}")?;
                }
                Ok(())
            }
        }
    }
}

// === what a worker was started with ===

/// A file that systemd reads before each start and that has changed since then; `started` is in
/// microseconds since 1970. By its status change time, which no copy can take along.
pub(crate) fn newer_file(app: &App, started: u64) -> Option<&Path> {
    let files = app.environment_files.iter().chain(app.supervision.credentials.values());
    files.map(PathBuf::as_path).find(|path| {
        let changed = std::fs::metadata(path).ok().and_then(|data| {
            let seconds = u64::try_from(data.ctime()).ok()?;
            Some(seconds * 1_000_000 + u64::try_from(data.ctime_nsec()).ok()? / 1000)
        });
        changed.is_some_and(|changed| changed > started)
    })
}

/// What a worker was started with; `None` when that cannot be known. Root may know; `root` is where the
/// machine's files are.
pub(crate) fn of_worker(root: &Path, app: &App, number: u16) -> Option<String> {
    let directory = root.join("run/credentials").join(unit::service(&app.name, number));
    let text = read_text(&directory.join(CREDENTIAL), Links::Refuse, copy::MOST).ok()?;
    Some(AppCopy::from_text(&text)?.fingerprint)
}

/// Whether workers that are started now get what the app's files say, as far as the caller may know;
/// `root` is where the machine's files are.
pub(crate) fn is_generated(root: &Path, app: &App) -> bool {
    match read_text(&AppCopy::path(root, &app.name), Links::Refuse, copy::MOST) {
        Ok(text) => AppCopy::from_text(&text)
            .is_some_and(|copy| copy.fingerprint == fingerprint::of_worker(app)),
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// More than the kernel hands to a program by default.
const MOST_ENVIRONMENT: u64 = 4 * 1024 * 1024;

/// What a process was started with; `None` when that cannot be known.
pub(crate) fn of_process(pid: u32) -> Option<String> {
    // The process says where its environment is, and how long.
    let path = format!("/proc/{pid}/environ");
    let environment = read(Path::new(&path), Links::Refuse, MOST_ENVIRONMENT).ok()?;
    let prefix = format!("{VARIABLE}=");
    environment
        .split(|byte| *byte == 0)
        .find_map(|entry| Some(std::str::from_utf8(entry).ok()?.strip_prefix(&prefix)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn apps(text: &str) -> BTreeMap<String, App> {
        sample::shop(text).apps
    }

    fn present(enabled: bool, workers: &[(u16, Option<&str>)]) -> BTreeMap<String, Present> {
        let workers = workers
            .iter()
            .map(|(number, stale)| Running { number: *number, stale: stale.map(str::to_owned) })
            .collect();
        BTreeMap::from([("shop".to_owned(), Present { enabled, workers })])
    }

    #[test]
    fn every_difference_is_one_step() {
        let apps = apps("command = [\"/bin/x\"]\nworkers = 3\n");
        let shop = || "shop".to_owned();
        let all = [(1, None), (2, None), (3, None)];
        assert_eq!(steps(&apps, &present(true, &all)), []);
        assert_eq!(steps(&apps, &present(false, &all)), [Step::Enable(shop())]);
        assert_eq!(
            steps(&apps, &present(true, &[(2, None), (5, None)])),
            [Step::Stop(shop(), vec![5]), Step::Start(shop(), vec![1, 3])]
        );
        let stale = [(1, None), (2, Some("is old")), (3, None)];
        assert_eq!(
            steps(&apps, &present(true, &stale)),
            [Step::Roll(shop(), vec![(2, "is old".to_owned())])]
        );
        assert_eq!(steps(&BTreeMap::new(), &present(true, &all)), [Step::Remove(shop())]);
        assert_eq!(steps(&BTreeMap::new(), &present(true, &[])), [Step::Remove(shop())]);
        assert_eq!(steps(&BTreeMap::new(), &present(false, &all)), [Step::Remove(shop())]);
        assert_eq!(steps(&BTreeMap::new(), &present(false, &[])), []);
    }

    #[test]
    fn a_step_says_what_is_to_be_done_to_whom() {
        let shop = || "shop".to_owned();
        for (step, text) in [
            (Step::Remove(shop()), "shop has no file: stop it and all its workers"),
            (Step::Enable(shop()), "shop does not start at boot: enable it"),
            (Step::Start(shop(), vec![2]), "shop: start worker 2"),
            (Step::Stop(shop(), vec![2, 3]), "shop: stop workers 2, 3"),
            (
                Step::Roll(shop(), vec![(1, "is old".to_owned())]),
                "shop: replace its workers one after the other:\n    shop:1 is old",
            ),
        ] {
            assert_eq!(step.to_string(), text);
            assert_eq!(step.app(), Some("shop"), "{step}");
        }
    }

    #[test]
    fn workers_get_what_the_files_say_once_a_copy_of_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("etc/roundsman/apps")).unwrap();
        let file = directory.path().join("etc/roundsman/apps/shop.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            crate::config::load(&crate::config::Sources::system_below(directory.path()))
        };
        let loaded = load("command = [\"/bin/x\"]\n");
        let app = &loaded.settings.apps["shop"];
        assert!(!is_generated(directory.path(), app), "there is no copy");
        let path = AppCopy::path(directory.path(), "shop");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, AppCopy::of(&loaded, app, None).to_text()).unwrap();
        assert!(is_generated(directory.path(), app));
        let own = directory.path().join("run/credentials/roundsman-worker@shop:2.service");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::copy(&path, own.join(CREDENTIAL)).unwrap();
        assert_eq!(of_worker(directory.path(), app, 1), None);
        assert_eq!(of_worker(directory.path(), app, 2), Some(fingerprint::of_worker(app)));
        let changed = load("command = [\"/bin/y\"]\n");
        assert!(
            !is_generated(directory.path(), &changed.settings.apps["shop"]),
            "it is another one"
        );
    }

    #[test]
    fn a_process_says_what_it_was_started_with() {
        let sleep = || {
            let mut command = std::process::Command::new("sleep");
            command.arg("600").env_remove(VARIABLE);
            command
        };
        for (mut command, expected) in [(sleep(), None), (sleep(), Some("some-print"))] {
            let mut child = command.envs(expected.map(|value| (VARIABLE, value))).spawn().unwrap();
            // It is there a moment before its environment is.
            let environment = format!("/proc/{}/environ", child.id());
            while std::fs::read(&environment).unwrap().is_empty() {
                std::thread::yield_now();
            }
            let said = of_process(child.id());
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(said.as_deref(), expected);
        }
    }

    #[test]
    fn what_the_front_has_too_many_and_too_few_is_named() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let what = of_front(&names(&["app:a", "upstream:b"]), &names(&["app:a", "app:c"]));
        assert_eq!(what, ["upstream:b is in no file any more", "app:c is new"]);
        let step = Step::Reload(what);
        assert!(step.to_string().contains("reload it\n    upstream:b is in no"), "{step}");
    }

    #[test]
    fn a_file_that_changed_since_the_start_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        std::fs::write(&file, "A=1").unwrap();
        let text =
            format!("command = [\"/bin/x\"]\nenvironment-files = [{file:?}, \"/no/such\"]\n");
        let apps = apps(&text);
        let data = std::fs::metadata(&file).unwrap();
        let micros = |seconds: i64| u64::try_from(data.ctime() + seconds).unwrap() * 1_000_000;
        assert_eq!(newer_file(&apps["shop"], micros(-1)), Some(file.as_path()));
        assert_eq!(newer_file(&apps["shop"], micros(1)), None);
        let exactly = micros(0) + u64::try_from(data.ctime_nsec()).unwrap() / 1000;
        assert_eq!(newer_file(&apps["shop"], exactly), None);
        assert_eq!(newer_file(&apps["shop"], exactly - 1), Some(file.as_path()));
    }
}
