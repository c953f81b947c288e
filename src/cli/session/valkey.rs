//! `roundsman session valkey-exec`: not for people; what roundsman-valkey@APP.service starts.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::base::exit;
use crate::cli::failure::{Done, Failure};
use crate::config::valkey;
use crate::sys::{be_alone, can_be_alone};
use crate::systemd::notify;

/// Become the Valkey server of an app (used by its unit)
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct ValkeyExec {}

impl ValkeyExec {
    /// Returns only if the server cannot be run.
    pub(super) fn run() -> Done {
        let credentials: Option<OsString> = std::env::var_os("CREDENTIALS_DIRECTORY");
        let configuration = credentials.map(|path| PathBuf::from(path).join(valkey::CONFIGURATION));
        let configuration = configuration.ok_or_else(|| {
            Failure::with(exit::USAGE, "this is for roundsman-valkey@APP.service: start that")
        })?;
        let Some(program) = valkey::program() else {
            let text = "there is no Valkey server on this machine: apt install valkey-server (Debian 12: redis-server)";
            notify::status(text);
            return Err(Failure::with(exit::UNAVAILABLE, text));
        };
        // It runs as the app's user, and what an app finds to do to it must not lead to that user's
        // processes outside of the app's sandbox.
        if can_be_alone().is_ok() {
            be_alone().map_err(|error| {
                Failure::with(
                    exit::OS,
                    format!("cannot keep it from its user's processes: {error}"),
                )
            })?;
        }
        let error = Command::new(&program).arg(configuration).exec();
        Err(Failure::with(exit::OS, format!("{}: {error}", program.display())))
    }
}
