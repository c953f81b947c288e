//! The one binary; the role is the subcommand. See `docs/internals/architecture.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    abort_on_panic();
    roundsman::cli::main()
}

/// A half-dead front is worse than a dead one also in the builds that are tested, which unwind.
fn abort_on_panic() {
    #[cfg(panic = "unwind")]
    {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            show(info);
            std::process::abort();
        }));
    }
}
