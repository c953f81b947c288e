//! `roundsman helper`: what `roundsman-helper.socket` starts for each member's command.

use std::process::ExitCode;

use clap::Args;

use super::manage;
use crate::helper::serve::serve;

/// Do as root what a member of the group asks for on standard input (run by systemd)
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Helper {}

// === impl Helper ===

impl Helper {
    /// Answers one connection.
    pub(super) fn run() -> ExitCode {
        manage::run(async {
            let is_configured = |app: &str| manage::load().app_files.contains_key(app);
            Ok(serve(is_configured).await?)
        })
    }
}
