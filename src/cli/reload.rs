//! `roundsman reload`: put the present configuration to work.

use std::process::ExitCode;

use clap::Args;

use super::AdminSocket;

/// Put the present configuration to work; on errors print them and keep the old one
#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    admin: AdminSocket,
}

// === impl Reload ===

impl Reload {
    /// Reloads the front.
    pub(super) fn run(&self) -> ExitCode {
        self.admin.call::<(), serde_json::Value>("POST", "/v1/reload", None, |_| {})
    }
}
