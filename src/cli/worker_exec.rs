//! `roundsman worker-exec`: not for people; see `worker::stage`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use crate::worker::stage::Stage;

/// Become the app of a worker (used by the worker itself)
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct WorkerExec {
    /// The process that must not be outlived
    #[arg(long, value_name = "PID")]
    parent: u32,
    /// Make standard input descriptor 3
    #[arg(long)]
    listener: bool,
    /// Keep it from what would hold up others who close its descriptors
    #[arg(long)]
    confined: bool,
    /// Let it reach no processes but its own
    #[arg(long)]
    alone: bool,
    /// The app
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl WorkerExec {
    /// Returns only if the app cannot be run.
    pub(super) fn run(self) -> ExitCode {
        let Self { parent, listener, confined, alone, command } = self;
        ExitCode::from(Stage { parent, listener, confined, alone, command }.run())
    }
}
