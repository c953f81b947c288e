//! The one binary; the role is the subcommand. See `docs/internals/architecture.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    roundsman::cli::main()
}
