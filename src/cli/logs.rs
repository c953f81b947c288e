//! `roundsman logs`: an app's part of the journal.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::Args;

use super::failure::{Done, Failure};
use super::manage;
use super::names;
use crate::base::unit;
use crate::deploy::surge;

/// Show what an app's workers have logged (journalctl)
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// An app, or one of its workers, as in shop or shop:2
    #[arg(value_name = "APP[:N]", add = names::apps())]
    target: String,
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
        let mut command = Command::new("journalctl");
        let (name, number) = match self.target.split_once(':') {
            Some((name, number)) => {
                let number = number.parse::<u16>().map_err(|_| {
                    Failure::new(format!("\"{number}\" is no worker's number, from 1"))
                })?;
                (name, Some(number))
            }
            None => (self.target.as_str(), None),
        };
        if let Some(number) = number {
            command.arg("--unit").arg(unit::service(name, number));
        } else {
            let app = manage::app(&manage::load(), name)?;
            // One more than there are: a deploy's extra worker has something to say, too.
            let extra = surge::numbers(app.workers, 1);
            for number in (1..=app.workers).chain(extra) {
                command.arg("--unit").arg(unit::service(name, number));
            }
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
}
