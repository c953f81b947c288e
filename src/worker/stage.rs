//! The stage between the shim and the app: the child process before it becomes the app.
//!
//! A variable that names the app's own process id (`LISTEN_PID`) and a descriptor with a certain
//! number (3) can only be prepared in the child itself. Between fork and exec that would be unsafe
//! code; so the child first runs this program once more, which prepares both and then becomes the
//! app. It also ties the app's life to the shim's: without a shim nobody speaks on its channel. And it
//! takes from the app the way to the processes of its user that are not its own, which no unit file can:
//! through `/proc/PID/root` and `/proc/PID/mem` of one outside the unit everything leads out of it.
//!
//! Until then nothing of the app's may run. Its variables could have the dynamic linker load its libraries
//! into this program (`LD_PRELOAD`, `LD_LIBRARY_PATH`, `LD_AUDIT`), so they come under names that mean
//! nothing to anybody.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::environment::Environment;

/// What the shells return for a command that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What the names of the app's variables begin with on their way through the stage.
const APPS: &[u8] = b"app:";

/// What to prepare.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The shim.
    pub parent: u32,
    /// Standard input is the listener, to become descriptor 3.
    pub listener: bool,
    /// The app cannot hold up who closes its descriptors.
    pub confined: bool,
    /// The app reaches no processes but its own.
    pub alone: bool,
    /// The app.
    pub command: Vec<OsString>,
}

/// The app's environment for the stage: nothing in it is for the stage itself, or for what loads it.
pub(super) fn wrapped(environment: Environment) -> impl Iterator<Item = (OsString, OsString)> {
    environment
        .into_iter()
        .map(|(name, value)| (OsString::from_vec([APPS, name.as_bytes()].concat()), value))
}

/// The app's environment as it was; what has come otherwise is not the app's.
fn unwrapped(
    ours: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    ours.filter_map(|(name, value)| {
        let name = name.as_bytes().strip_prefix(APPS)?;
        Some((OsString::from_vec(name.to_vec()), value))
    })
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
        command.args(arguments).env_clear().envs(unwrapped(std::env::vars_os()));
        if let Err(error) = self.tie() {
            say(&format!("cannot prepare the app's process: {error}"));
            return NOT_EXECUTABLE;
        }
        if self.confined {
            // Where the kernel has no filters systemd's are not at work, either.
            let _ = crate::sys::hold_nobody_up();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_reach_the_app_and_say_nothing_to_the_stage() {
        let app: Environment = [("LD_PRELOAD", "/app/evil.so"), ("PATH", "/bin"), ("A=B", "C")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let staged: Vec<_> = wrapped(app.clone()).collect();
        for (name, _) in &staged {
            assert!(name.to_str().unwrap().starts_with("app:"), "{name:?}");
        }
        let others = [("LD_AUDIT".into(), "x".into()), ("HOME".into(), "/".into())];
        let became: Environment = unwrapped(staged.into_iter().chain(others)).collect();
        assert_eq!(became, app);
    }
}
