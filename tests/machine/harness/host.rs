//! What a test machine needs of the machine it runs on: a root that can be thrown away, a control
//! group of its own, and that nothing of it stays when the test dies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FlockOperation;

use super::command::{Said, host};

/// Where this checkout is.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory for everything about test machines.
pub(crate) fn machines_dir() -> PathBuf {
    repository().join("target/machines")
}

/// A writable layer over a pristine image, mounted; gone when dropped.
#[derive(Debug)]
pub(crate) struct Root {
    directory: PathBuf,
    cgroup: PathBuf,
    /// Held for as long as this process lives: a directory whose lock is free is a leftover.
    _lock: File,
}

/// The pristine image of a release, which is built when there is none yet.
pub(crate) fn image(release: &str) -> PathBuf {
    assert!(
        rustix::process::geteuid().is_root(),
        "machine tests boot containers, which needs root: run `make test-machine` as root"
    );
    let script = repository().join("tests/machine/image");
    host(&script.to_string_lossy(), &[release.as_ref()]).trim().into()
}

/// The number of this process's next machine.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl Root {
    /// Lays a new layer over these, the uppermost first.
    pub(crate) fn over(layers: &[PathBuf]) -> Self {
        remove_leftovers();
        let layers: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = machines_dir().join("run").join(&name);
        let lock = lock_new(&directory);
        for layer in ["upper", "work", "root"] {
            fs::create_dir(directory.join(layer)).expect("the directory is new");
        }
        // It is thrown away, and need not get to the disk: apt asks for that all the time.
        let options = format!(
            "volatile,lowerdir={},upperdir={},workdir={}",
            layers.join(":"),
            directory.join("upper").display(),
            directory.join("work").display()
        );
        let root = directory.join("root");
        let arguments = ["-t", "overlay", "overlay", "-o", &options].map(AsRef::as_ref);
        host("mount", &[&arguments[..], &[root.as_os_str()]].concat());

        let cgroup = cgroup2().join(format!("roundsman-test-{name}"));
        fs::create_dir_all(&cgroup)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", cgroup.display()));
        Self { directory, cgroup, _lock: lock }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Ends it, and puts what was written there at `path`, as a layer for others to lie over.
    pub(crate) fn keep(self, path: &Path) {
        host("umount", &["--recursive".as_ref(), self.path().as_os_str()]);
        fs::rename(self.directory.join("upper"), path).expect("both are below target/machines");
    }

    /// Where the console's output goes.
    pub(crate) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// The control group that everything of the machine runs in.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        remove(&self.directory, &self.cgroup);
    }
}

/// Makes the directory of one machine and takes its lock, so that no other process can see the one
/// without the other.
fn lock_new(directory: &Path) -> File {
    let parent = directory.parent().expect("it is below target/machines");
    fs::create_dir_all(parent).expect("target can be written");
    let all = File::create(parent.join(".lock")).expect("target can be written");
    rustix::fs::flock(&all, FlockOperation::LockExclusive).expect("locks work here");
    fs::create_dir(directory).expect("the name has this process's id");
    let lock = File::create(directory.join("lock")).expect("the directory is new");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("nobody else knows it");
    lock
}

/// Removes what test processes that were killed have left.
fn remove_leftovers() {
    let run = machines_dir().join("run");
    let Ok(all) = File::open(run.join(".lock")) else { return };
    rustix::fs::flock(&all, FlockOperation::LockExclusive).expect("locks work here");
    for entry in fs::read_dir(&run).expect("it has the lock").flatten() {
        let directory = entry.path();
        let Ok(lock) = File::open(directory.join("lock")) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let name = entry.file_name().into_string().expect("made above");
            remove(&directory, &cgroup2().join(format!("roundsman-test-{name}")));
        }
    }
}

/// Ends what still runs in the control group, unmounts the root, removes both.
fn remove(directory: &Path, cgroup: &Path) {
    if cgroup.exists() {
        let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        remove_cgroup(cgroup);
    }
    let root = directory.join("root");
    let unmounted = Said::by(Command::new("umount").arg("--recursive").arg(&root)).ok()
        || Said::by(Command::new("umount").arg("--recursive").arg("--lazy").arg(&root)).ok();
    if unmounted || fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_none()) {
        let _ = fs::remove_dir_all(directory);
    } else {
        eprintln!("{} is still in use and stays", root.display());
    }
}

/// Control groups go from the leaves up, and only once the kernel has buried their processes.
fn remove_cgroup(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    for _ in 0..100 {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    eprintln!("{} is still in use and stays", cgroup.display());
}

/// Where the unified control group hierarchy is mounted.
fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("Linux has it");
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| fields[1].into())
        .expect("machine tests need a cgroup2 hierarchy (mount -t cgroup2 …)")
}
