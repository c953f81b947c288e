//! Machines with the package installed, which most tests begin with: it is installed once for all of
//! them, on a machine that is then shut down, and what that has written is a layer of every later one.

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::host::{image, machines_dir};
use super::machine::{Debian, Machine};
use super::package::Package;

/// The layers of a pristine machine.
pub(super) fn pristine(debian: Debian) -> Vec<PathBuf> {
    vec![image(debian.name())]
}

/// The layers of a machine with the package installed, the uppermost first.
pub(super) fn installed(debian: Debian) -> Vec<PathBuf> {
    installed_over(pristine(debian), &format!("installed-{}-", debian.name()))
}

/// The same over other layers, the uppermost of which has a name that says what is in it.
pub(super) fn installed_over(mut layers: Vec<PathBuf>, prefix: &str) -> Vec<PathBuf> {
    let package = Package::built();
    let uppermost = layers[0].file_name().expect("it is a directory").to_string_lossy();
    let layer = machines_dir().join(format!("{prefix}{uppermost}-{}", package.key()));
    // Tests run beside each other: the first one makes it.
    let lock = File::create(machines_dir().join(format!(".lock-{prefix}")));
    let lock = lock.expect("target can be written");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locks work here");
    if !layer.exists() {
        for old in fs::read_dir(machines_dir()).expect("it has the image").flatten() {
            if old.file_name().to_string_lossy().starts_with(prefix) {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        let machine = Machine::boot_over(&layers);
        machine.install(&package);
        let root = machine.power_off();
        // What the journal says of the installation is no test's business.
        for left in ["var/log/journal", "tmp"] {
            for entry in fs::read_dir(root.path().join(left)).expect("it is there").flatten() {
                let path = entry.path();
                let gone =
                    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                gone.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
        }
        root.keep(&layer);
    }
    layers.insert(0, layer);
    layers
}
