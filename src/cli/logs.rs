//! `roundsman logs`: an app's part of the journal.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::failure::{Done, Failure};
use super::manage;
use super::names;
use crate::base::exit;
use crate::base::unit;
use crate::config::settings::App;
use crate::deploy::surge;

/// Where journald keeps what services say.
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// Show what an app's workers have logged, or those of all apps (journalctl)
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// An app, or one of its workers, as in shop or shop:2 [default: all apps]
    #[arg(value_name = "APP[:N]", add = names::apps())]
    target: Option<String>,
    /// Go on with new entries as they come
    #[arg(short, long)]
    follow: bool,
    /// Entries from this time on, as in "10 min ago", today, or "2026-11-22 18:00"
    #[arg(short = 'S', long, value_name = "TIME")]
    since: Option<String>,
    /// The last this many entries [default: 50, or all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    /// Print the journal's entries as JSON, one a line
    #[arg(long)]
    json: bool,
}

/// Where workers are.
const WORKERS: &str = "_SYSTEMD_SLICE=roundsman-workers.slice";

/// The service of systemd's that tells of crashes.
const CRASHES: &str = r"_SYSTEMD_SLICE=system-systemd\x2dcoredump.slice";

/// What these units have logged, what systemd says of them, and their crashes, as journalctl takes it.
/// Its own `--unit` believes everybody who says that a unit has crashed; here each part has a field
/// with "_", which the journal itself writes.
fn matches(units: &[String]) -> Vec<String> {
    let each = |field: &'static str| units.iter().map(move |unit| format!("{field}={unit}"));
    let or = || std::iter::once("+".to_owned());
    each("_SYSTEMD_UNIT")
        .chain(or())
        .chain(each("UNIT"))
        .chain(["_PID=1".to_owned()])
        .chain(or())
        .chain(each("COREDUMP_UNIT"))
        .chain([CRASHES.to_owned()])
        .collect()
}

// === impl Logs ===

impl Logs {
    /// Becomes journalctl.
    pub(super) fn run(&self) -> ExitCode {
        manage::end(self.command().and_then(|mut command| {
            let error = command.exec();
            Err(Failure::new(format!("cannot run journalctl: {error}")))
        }))
    }

    fn command(&self) -> Done<Command> {
        may_read()?;
        let mut command = Command::new("journalctl");
        command.args(matches(&self.units()?));
        if self.target.is_none() {
            // Also of apps that no file knows any more.
            command.args(["+", WORKERS]);
        }
        if self.follow {
            command.arg("--follow");
        }
        if let Some(since) = &self.since {
            command.arg("--since").arg(since);
        }
        match (self.lines, &self.since) {
            (Some(lines), _) => command.arg(format!("--lines={lines}")),
            (None, None) => command.arg("--lines=50"),
            (None, Some(_)) => &mut command,
        };
        if self.json {
            command.arg("--output=json");
        }
        Ok(command)
    }

    fn units(&self) -> Done<Vec<String>> {
        // One more than there are: a deploy's extra worker has something to say, too.
        let all = |app: &App| {
            let numbers = (1..=app.workers).chain(surge::numbers(app.workers, 1));
            numbers.map(|number| unit::service(&app.name, number)).collect::<Vec<_>>()
        };
        let loaded = manage::load();
        let Some(target) = self.target.as_deref() else {
            let mut units: Vec<String> = loaded.settings.apps.values().flat_map(all).collect();
            units.push("roundsman-worker@.service".to_owned()); // without any there is nothing to match
            return Ok(units);
        };
        if let Some((name, number)) = target.split_once(':') {
            let wrong = |_| Failure::new(format!("\"{number}\" is no worker's number, from 1"));
            return Ok(vec![unit::service(name, number.parse::<u16>().map_err(wrong)?)]);
        }
        Ok(all(&manage::app_as_it_is(&loaded, target)?))
    }
}

/// Fails where the journal of services is there and not for this user to read: journalctl would show
/// nothing, and not say why.
fn may_read() -> Done {
    let folders = JOURNALS.iter().filter_map(|path| fs::read_dir(path).ok()).flatten().flatten();
    let journals: Vec<PathBuf> = folders
        .map(|folder| folder.path().join("system.journal"))
        .filter(|path| fs::symlink_metadata(path).is_ok())
        .collect();
    let may = |path: &PathBuf| accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_ok();
    if journals.is_empty() || journals.iter().any(may) {
        return Ok(());
    }
    Err(Failure::with(
        exit::DENIED,
        "the journal of services is not for this user to read. Run this as root (sudo), or for good, \
         from the next login on: adduser NAME systemd-journal",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_what_is_asked_for_has_a_field_that_nobody_can_forge() {
        let asked = matches(&["a.service".to_owned(), "b.service".to_owned()]).join(" ");
        let parts = [
            "_SYSTEMD_UNIT=a.service _SYSTEMD_UNIT=b.service",
            "UNIT=a.service UNIT=b.service _PID=1",
            r"COREDUMP_UNIT=a.service COREDUMP_UNIT=b.service _SYSTEMD_SLICE=system-systemd\x2dcoredump.slice",
        ];
        assert_eq!(asked, parts.join(" + "));
        assert!(parts.iter().all(|part| part.starts_with('_') || part.contains(" _")));
    }
}
