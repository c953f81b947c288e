//! Machines with programs of other people's, which `tests/machine/zoo/fetch` gets.

use std::path::PathBuf;

use super::command::host;
use super::host::repository;
use super::installed::{installed, installed_over};
use super::machine::Debian;

/// What is on a machine before the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Under {
    /// What is in every image.
    Nothing,
    /// More of Debian's packages, and programs from PyPI.
    Debian,
    /// Debian's Valkey server, or what came before it.
    Valkey,
}

/// The layers of a machine that has the package and these folders of programs, the uppermost first.
pub(super) fn programs(debian: Debian, folders: &[&str], under: Under) -> Vec<PathBuf> {
    let script = repository().join("tests/machine/zoo/fetch");
    let mut arguments = vec![debian.name().as_ref()];
    match under {
        Under::Nothing => {}
        Under::Debian => arguments.push("debian".as_ref()),
        Under::Valkey => arguments.push("valkey".as_ref()),
    }
    // What npm installs; the others are made with Debian's packages.
    let is_npm = |folder: &&&str| {
        repository().join("tests/machine/zoo/programs").join(folder).join("package.json").exists()
    };
    arguments.extend(folders.iter().filter(is_npm).map(AsRef::<std::ffi::OsStr>::as_ref));
    let printed = host(&script.to_string_lossy(), &arguments);
    let (over, below) = printed.split_once("--\n").expect("it separates them");
    let paths = |text: &str| -> Vec<PathBuf> {
        text.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect()
    };
    let mut layers = paths(over);
    layers.extend(match under {
        Under::Nothing => installed(debian),
        Under::Debian => {
            let prefix = format!("installed-programs-{}-", debian.name());
            installed_over(paths(below), &prefix)
        }
        Under::Valkey => {
            // With programs there is more below: each has a layer of its own, and removes none of the other's.
            let kind = if folders.is_empty() { "valkey" } else { "libraries" };
            let prefix = format!("installed-{kind}-{}-", debian.name());
            installed_over(paths(below), &prefix)
        }
    });
    layers
}
