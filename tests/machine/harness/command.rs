//! Running commands, and saying all there is to say when one fails.

use std::ffi::OsStr;
use std::process::{Command, ExitStatus, Stdio};

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Runs it to its end.
    pub(crate) fn by(command: &mut Command) -> Self {
        let line = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
        Self {
            command: line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Whether it ended with status 0.
    pub(crate) fn ok(&self) -> bool {
        self.status.success()
    }

    /// Its standard output; a panic with everything it said when it failed.
    #[track_caller]
    pub(crate) fn expect_ok(self) -> String {
        assert!(self.ok(), "{self}");
        self.stdout
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "`{command}`: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Runs a program of this machine, which must succeed; its standard output.
#[track_caller]
pub(crate) fn host(program: &str, arguments: &[&OsStr]) -> String {
    Said::by(Command::new(program).args(arguments)).expect_ok()
}
