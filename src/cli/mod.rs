//! The command line: one file per subcommand.

use std::process::ExitCode;

use clap::Parser;

/// A systemd-native HTTP application cluster.
#[derive(Debug, Parser)]
#[command(name = "roundsman", version, about)]
pub struct Cli {}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    ExitCode::SUCCESS
}
