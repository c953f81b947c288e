//! The stage between the shim and the app: the child process before it becomes the app.
//!
//! A variable that names the app's own process id (`LISTEN_PID`) and a descriptor with a certain
//! number (3) can only be prepared in the child itself. Between fork and exec that would be unsafe
//! code; so the child first runs this program once more, which prepares both and then becomes the
//! app. It also ties the app's life to the shim's: without a shim nobody speaks on its channel. And it
//! takes from the app the way to the processes of its user that are not its own, which no unit file can:
//! through `/proc/PID/root` and `/proc/PID/mem` of one outside the unit everything leads out of it.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// What the shells return for a command that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What to prepare.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The shim.
    pub parent: u32,
    /// Standard input is the listener, to become descriptor 3.
    pub listener: bool,
    /// The app reaches no processes but its own.
    pub alone: bool,
    /// The app.
    pub command: Vec<OsString>,
}

/// Says why there is no app, for the journal; one that is gone is no reason to die of it.
fn say(why: &str) {
    let _ = writeln!(io::stderr(), "error: {why}");
}

impl Stage {
    /// Becomes the app; returns an exit code only if that is not possible.
    pub(crate) fn run(self) -> u8 {
        let Some((program, arguments)) = self.command.split_first() else {
            say("no command to run");
            return NOT_FOUND;
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Err(error) = self.tie() {
            say(&format!("cannot prepare the app's process: {error}"));
            return NOT_EXECUTABLE;
        }
        if self.alone
            && let Err(error) = crate::sys::be_alone()
        {
            say(&format!("cannot keep the app from its user's other processes: {error}"));
            return NOT_EXECUTABLE;
        }
        let error = if self.listener {
            command.stdin(Stdio::null()).env("LISTEN_PID", std::process::id().to_string());
            crate::sys::exec_with_stdin_as_three(&mut command)
        } else {
            command.exec()
        };
        say(&format!("cannot run {}: {error}", program.display()));
        match error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        }
    }

    /// Ties the app's life to the shim's.
    fn tie(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let parent = i32::try_from(self.parent).ok().and_then(Pid::from_raw);
        if getppid() != parent {
            return Err(io::Error::other("the shim has died")); // before the line above took effect
        }
        Ok(())
    }
}
