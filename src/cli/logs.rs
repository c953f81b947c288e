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
        for unit in self.units()? {
            command.arg("--unit").arg(unit);
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
        let Some(target) = self.target.as_deref() else {
            return Ok(vec![unit::ALL_SERVICES.to_owned()]);
        };
        if let Some((name, number)) = target.split_once(':') {
            let wrong = |_| Failure::new(format!("\"{number}\" is no worker's number, from 1"));
            return Ok(vec![unit::service(name, number.parse::<u16>().map_err(wrong)?)]);
        }
        let app = manage::app_as_it_is(&manage::load(), target)?;
        // One more than there are: a deploy's extra worker has something to say, too.
        let extra = surge::numbers(app.workers, 1);
        Ok((1..=app.workers).chain(extra).map(|number| unit::service(target, number)).collect())
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
