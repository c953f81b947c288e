//! A machine for commands to work on: files of its own in a mount namespace, a simulated systemd, a
//! simulated front, and a journalctl that says what it was asked.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::front::Front;
use super::history::History;
use super::journal::Journal;
use super::systemd::Systemd;
use crate::common::skip::may_skip;
use crate::common::waiting::{eventually, poll};

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    root: TempDir,
    pub(super) systemd: Systemd,
    pub(super) front: Front,
    pub(super) history: History,
    pub(super) journal: Journal,
}

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    process: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What became of one.
#[derive(Debug)]
pub(super) struct Said {
    /// Its exit status, or 128 and the signal that ended it.
    pub(super) status: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Puts the machine's directories over the real ones and becomes the command.
const ENTER: &str = r#"
root=$1; shift
mount --bind "$root/etc" /etc
mount --bind "$root/run" /run
mount --bind "$root/var" /var/lib
exec "$@"
"#;

/// Says what it was asked, as a journal would, and as the last lines of a worker.
const JOURNALCTL: &str = r#"#!/bin/sh
case " $* " in
*" --output=json _"* | *" --output=json --"*) echo "{\"MESSAGE\": \"journalctl $*\"}" ;;
*) echo "journalctl $*" ;;
esac
"#;

// === impl Machine ===

impl Machine {
    /// One without an app. `None` where nothing can be mounted and the test may be skipped.
    pub(super) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            may_skip("nothing can be mounted here: run this as root");
            return None;
        }
        let root = tempfile::tempdir().expect("there is room");
        let at = |path: &str| root.path().join(path);
        for directory in [
            "etc/roundsman/apps",
            "etc/systemd/system",
            "run/roundsman/deploy/single",
            "run/roundsman/crashes",
            "run/systemd/journal",
            "state",
            "var",
            "bin",
            "front",
            "srv",
        ] {
            fs::create_dir_all(at(directory)).expect("there is room");
        }
        for file in ["passwd", "group", "nsswitch.conf"] {
            // Not every machine has the last.
            let _ = fs::copy(Path::new("/etc").join(file), at("etc").join(file));
        }
        fs::write(at("bin/journalctl"), JOURNALCTL).expect("there is room");
        fs::set_permissions(at("bin/journalctl"), fs::Permissions::from_mode(0o755))
            .expect("it is ours");
        let history = History::default();
        let systemd = Systemd::start(&at("bus"), &at("srv/shop/current"), &history);
        let front = Front::start(&at("front"), &history);
        let journal = Journal::start(&at("run/systemd/journal/socket"));
        Some(Self { root, systemd, front, history, journal })
    }

    /// One with the app `shop` whose workers run release 1, of 1 and 2; with these further keys.
    pub(super) fn with_shop(workers: u16, keys: &str) -> Option<Self> {
        let machine = Self::new()?;
        for release in ["1", "2"] {
            fs::create_dir_all(machine.release(release)).expect("there is room");
        }
        symlink("releases/1", machine.path("srv/shop/current")).expect("it is new");
        machine.shop(workers, keys);
        for number in 1..=workers {
            machine.systemd.run(&service(number));
        }
        machine.systemd.run("roundsman-app@shop.target");
        machine.systemd.enable("roundsman-app@shop.target");
        Some(machine)
    }

    /// Writes the file of `shop`.
    pub(super) fn shop(&self, workers: u16, keys: &str) {
        let directory = self.path("srv/shop/current");
        self.write(
            "etc/roundsman/apps/shop.toml",
            &format!(
                "command = [\"/bin/true\"]\ndirectory = \"{}\"\nworkers = {workers}\n{keys}\n",
                directory.display()
            ),
        );
    }

    /// Points `current` at a release.
    pub(super) fn point_at(&self, release: &str) {
        let link = self.path("srv/shop/current");
        fs::remove_file(&link).expect("it is there");
        symlink(format!("releases/{release}"), link).expect("it is gone");
    }

    /// What `current` says.
    pub(super) fn points_at(&self) -> PathBuf {
        fs::read_link(self.path("srv/shop/current")).expect("it is a link")
    }

    /// The directory of a release.
    pub(super) fn release(&self, release: &str) -> PathBuf {
        self.path("srv/shop/releases").join(release)
    }

    /// The releases that the workers run, in order of their numbers.
    pub(super) fn releases(&self, workers: u16) -> Vec<String> {
        let of = |number| {
            let directory = self.systemd.directory(&service(number));
            directory.map_or("none".to_owned(), |d| {
                d.file_name().expect("it is no root").to_string_lossy().into_owned()
            })
        };
        (1..=workers).map(of).collect()
    }

    /// A path on it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Writes a file.
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it is no root")).expect("there is room");
        fs::write(path, text).expect("there is room");
    }

    /// Begins a command, as words separated by single spaces.
    pub(super) fn begin(&self, command: &str) -> Running {
        self.begin_with(command, &[])
    }

    /// Begins one with these variables.
    pub(super) fn begin_with(&self, command: &str, variables: &[(&str, &str)]) -> Running {
        let file = |kind: &str| {
            let path = tempfile::Builder::new().prefix(kind).tempfile_in(self.root.path());
            path.expect("there is room").keep().expect("it is ours")
        };
        let ((out, stdout), (err, stderr)) = (file("stdout"), file("stderr"));
        let program = env!("CARGO_BIN_EXE_roundsman");
        let (admin, bus) = (self.path("front/admin.sock"), self.path("bus"));
        let mut words = Command::new("unshare");
        words.args(["--mount", "sh", "-ec", ENTER, "sh"]).arg(self.root.path()).arg(program);
        words.args(command.split(' '));
        if !["logs", "worker", "save"].iter().any(|name| command.starts_with(name))
            && !command.contains("--admin")
        {
            words.arg("--admin").arg(admin);
        }
        let log = err.metadata().expect("it is open");
        let path = std::env::var("PATH").unwrap_or_default();
        let process = words
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display()))
            // As systemd says to whom it connects to the journal.
            .env("JOURNAL_STREAM", format!("{}:{}", log.dev(), log.ino()))
            .env("STATE_DIRECTORY", self.path("state"))
            .envs(variables.iter().copied())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .stdin(Stdio::null())
            .stdout::<File>(out)
            .stderr::<File>(err)
            .spawn()
            .expect("util-linux is there");
        Running { process, stdout, stderr }
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, command: &str) -> Said {
        self.begin(command).end()
    }

    /// Runs one that must succeed.
    #[track_caller]
    pub(super) fn must(&self, command: &str) -> Said {
        let said = self.run(command);
        assert_eq!(said.status, 0, "{command}: {said:?}");
        said
    }

    /// What happened to the workers since this was asked the last time: all but what the
    /// configuration was read again for.
    pub(super) fn steps(&self) -> Vec<String> {
        let mut steps = self.history.take();
        steps.retain(|step| !["daemon-reload", "reload front"].contains(&&**step));
        steps
    }
}

/// The service of a worker of `shop`.
pub(super) fn service(number: u16) -> String {
    format!("roundsman-worker@shop:{number}.service")
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        // A test that has failed leaves no process behind; of others it has ended.
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

impl Running {
    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it is our child");
    }

    /// Waits until it has said this to people.
    #[track_caller]
    pub(super) fn says(&self, text: &str) {
        eventually(text, || fs::read_to_string(&self.stderr).expect("it is ours").contains(text));
    }

    /// Waits for its end.
    #[track_caller]
    pub(super) fn end(mut self) -> Said {
        let status = poll("the command ends", || self.process.try_wait().expect("it is our child"));
        let read = |path| fs::read_to_string(path).expect("it is ours");
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Said {
            status: code.expect("it has ended"),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        }
    }
}
