//! A Debian machine that systemd has booted: a container with its own processes, network and
//! control groups. Everything about it is gone when the value is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::command::Said;
use super::costs::Costs;
use super::event::id;
use super::host::Root;
use super::installed::{installed, pristine};
use super::load::{Clients, Load};
use super::package::Package;
use super::programs::{Under, programs};
use super::waiting::{PATIENCE, poll, poll_for};

/// The releases that the package is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Debian {
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
}

impl Debian {
    /// As Debian calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// A booted machine.
#[derive(Debug)]
pub(crate) struct Machine {
    leader: u32,
    nspawn: Child,
    costs: Costs,
    /// Dropped last: its mount is in use until the container has ended.
    root: Option<Root>,
}

impl Machine {
    /// Boots a machine with the package installed and waits until it is up.
    pub(crate) fn boot(debian: Debian) -> Self {
        Self::boot_over(&installed(debian))
    }

    /// Boots a machine that has never had the package.
    pub(crate) fn boot_pristine(debian: Debian) -> Self {
        Self::boot_over(&pristine(debian))
    }

    /// Boots a machine with the package, over or beside what people have on their servers
    /// (tests/machine/zoo/).
    pub(crate) fn boot_with_programs(debian: Debian, folders: &[&str], under: Under) -> Self {
        Self::boot_over(&programs(debian, folders, under))
    }

    /// Boots a machine from these layers, the uppermost first, and waits until it is up.
    pub(super) fn boot_over(layers: &[PathBuf]) -> Self {
        let root = Root::over(layers);
        let console = File::create(root.console()).expect("the directory is new");
        // The shell enters the control group, setpriv ties the container's life to ours.
        let mut nspawn = Command::new("sh")
            .args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#])
            .arg(root.cgroup())
            .args(["setpriv", "--pdeathsig", "KILL"])
            .args(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"])
            // As on a machine that is none of nspawn's: it says no to what debuggers need.
            .arg("--system-call-filter=pidfd_getfd")
            // Its own list does not have these.
            .arg("--system-call-filter=landlock_create_ruleset landlock_restrict_self")
            .args(["--private-network", "--link-journal=no", "--console=pipe", "--directory"])
            .arg(root.path())
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("descriptors are left"))
            .stderr(console)
            .spawn()
            .expect("sh runs");
        let leader = poll("a container's first process", || {
            let ended = nspawn.try_wait().expect("it is our child");
            assert!(ended.is_none(), "the container ended: {}", show(&root.console()));
            first_process(nspawn.id())
        });
        let machine = Self { leader, nspawn, costs: Costs::begin(), root: Some(root) };
        machine.eventually("the machine is up", |machine| {
            let state = machine.try_run("systemctl is-system-running --wait").stdout;
            matches!(state.trim(), "running" | "degraded")
        });
        machine
    }

    /// Shuts it down in good order; its root, which is still mounted.
    pub(super) fn power_off(mut self) -> Root {
        self.run("systemctl poweroff");
        poll("the machine is off", || self.nspawn.try_wait().expect("it is our child"));
        self.root.take().expect("it is taken here only")
    }

    // === commands and files ===

    /// Runs a shell command as root, whatever becomes of it.
    pub(crate) fn try_run(&self, command: &str) -> Said {
        let mut said = Said::by(&mut self.command(command));
        command.clone_into(&mut said.command);
        said
    }

    /// A shell command of root's on the machine.
    pub(super) fn command(&self, command: &str) -> Command {
        let leader = self.leader.to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["-t", &leader, "-m", "-u", "-i", "-n", "-p", "--", "env", "-i"])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"])
            .args(["DEBIAN_FRONTEND=noninteractive", "PAGER=cat", "sh", "-c", command]);
        nsenter
    }

    /// The control group of all that is on it.
    pub(super) fn cgroup(&self) -> &Path {
        self.root.as_ref().expect("it is taken when it is off").cgroup()
    }

    /// Runs a shell script as a user, in a unit as whoever has logged in; whatever becomes of it.
    pub(crate) fn try_by(&self, user: &str, script: &str) -> Said {
        // systemd has variables of its own.
        let quoted = script.replace('\'', r"'\''").replace('$', "$$");
        let mut said = self.try_run(&format!(
            "systemd-run --quiet --pipe --wait --collect --property=KillMode=process --uid={user} \
             --working-directory=/tmp sh -c '{quoted}'"
        ));
        said.command = format!("{user}: {script}");
        said
    }

    /// Runs a shell command as root, which must succeed; its standard output.
    #[track_caller]
    pub(crate) fn run(&self, command: &str) -> String {
        self.try_run(command).expect_ok()
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.host_path(path);
        fs::create_dir_all(path.parent().expect("it is absolute")).expect("the root is ours");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Copies a directory of this machine into a directory of that one.
    pub(crate) fn copy_in(&self, from: impl AsRef<Path>, into: &str) {
        let into = self.host_path(into);
        fs::create_dir_all(&into).expect("the root is ours");
        let mut copy = Command::new("cp");
        Said::by(copy.arg("-rT").arg(from.as_ref()).arg(&into)).expect_ok();
    }

    /// Whether there is such a file or directory.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.try_run(&format!("test -e '{path}' || test -L '{path}'")).ok()
    }

    /// Where a path of the machine is on this one. Through the leader, since the machine has
    /// mounted things (`/run`, `/tmp`) that the layer below does not have.
    pub(crate) fn host_path(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.leader).into()
    }

    /// Its network: a thread may enter it.
    pub(crate) fn network(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.leader)).expect("the machine runs")
    }

    /// Its first process, as this machine numbers it.
    pub(crate) fn leader(&self) -> u32 {
        self.leader
    }

    // === packages, units, journal ===

    /// Copies a package there; where it is.
    pub(crate) fn bring(&self, package: &Package) -> String {
        let name = package.path().file_name().expect("it is a file").to_string_lossy().into_owned();
        let path = format!("/tmp/{name}");
        fs::copy(package.path(), self.host_path(&path)).expect("space is left");
        path
    }

    /// Installs, or upgrades to, a package.
    #[track_caller]
    pub(crate) fn install(&self, package: &Package) {
        let path = self.bring(package);
        self.run(&format!("apt-get install -y {path}"));
    }

    /// A property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        let line = self.run(&format!("systemctl show --value -p {property} '{unit}'"));
        line.trim_end().to_owned()
    }

    /// The process that is the front: the child of its unit's main process.
    #[track_caller]
    pub(crate) fn front_process(&self) -> u32 {
        let main = self.property("roundsman.service", "MainPID");
        let child = self.run(&format!("cat /proc/{main}/task/{main}/children"));
        child.trim().parse().expect("one child")
    }

    /// Fails when systemd thinks worse of the front's confinement than it should (in tenths, as in the
    /// Makefile).
    #[track_caller]
    pub(crate) fn expect_confined_front(&self) {
        self.run("systemd-analyze security --threshold=16 roundsman.service");
    }

    /// The journal's entries that match, as `journalctl` takes matches.
    #[track_caller]
    pub(crate) fn journal(&self, matches: &str) -> Vec<Value> {
        self.run(&format!("journalctl --no-pager --all -o json {matches}"))
            .lines()
            .map(|line| serde_json::from_str(line).expect("journalctl writes JSON"))
            .collect()
    }

    /// Entries of an event of ours, by its name in `src/systemd/message.rs`.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        self.journal(&format!("MESSAGE_ID={}", id(event)))
    }

    // === requests ===

    /// Sets clients to work against the machine's port 80.
    pub(crate) fn load(&self, clients: Clients) -> Load {
        Load::start(self.network(), clients)
    }

    /// What `curl` gets from port 80 of the machine; empty when it gets nothing.
    pub(crate) fn curl(&self, path: &str) -> String {
        self.try_run(&format!("curl --silent --max-time 40 'http://localhost{path}'")).stdout
    }

    // === waiting ===

    /// Waits until the condition holds; a panic that says what did not happen otherwise.
    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, condition: impl FnMut(&Self) -> bool) {
        self.eventually_within(1, what, condition);
    }

    /// The same for what takes its time: so many times as patient.
    #[track_caller]
    pub(crate) fn eventually_within(
        &self,
        times: u32,
        what: &str,
        mut condition: impl FnMut(&Self) -> bool,
    ) {
        poll_for(PATIENCE * times, what, || condition(self).then_some(()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.try_run("journalctl --no-pager -n 300 -o short-precise");
            let failed = self.try_run("systemctl --failed --no-pager");
            eprintln!("=== journal\n{}\n=== failed units\n{}", journal.stdout, failed.stdout);
        }
        if let Some(root) = &self.root {
            self.costs.end(root.cgroup());
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

/// The child of `systemd-nspawn` that is process 1 of a namespace of its own.
fn first_process(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_ascii_whitespace().filter_map(|id| id.parse().ok()).find(|id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| {
            line.strip_prefix("NSpid:")
                .is_some_and(|ids| ids.split_ascii_whitespace().nth(1) == Some("1"))
        })
    })
}

fn show(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| error.to_string())
}
