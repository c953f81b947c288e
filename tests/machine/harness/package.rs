//! The package under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::host::repository;

/// What the package is made of.
const SOURCES: [&str; 5] = ["src", "systemd", "packaging", "Cargo.toml", "Cargo.lock"];

/// A `.deb` of this machine.
#[derive(Debug)]
pub(crate) struct Package(PathBuf);

impl Package {
    /// What `make machines` has left.
    pub(crate) fn built() -> Self {
        Self(only_deb_in("target/machines/this"))
    }

    /// The same under a higher version.
    pub(crate) fn next_version() -> Self {
        Self(only_deb_in("target/machines/next"))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What tells it from one that was built before or after.
    pub(crate) fn key(&self) -> String {
        let built = changed(&self.0).duration_since(SystemTime::UNIX_EPOCH);
        format!("{:x}", built.expect("clocks are later than 1970").as_nanos())
    }
}

/// A test of yesterday's program would say nothing of today's sources.
fn only_deb_in(directory: &str) -> PathBuf {
    let directory = repository().join(directory);
    let mut debs: Vec<PathBuf> = entries(&directory);
    debs.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    assert!(
        debs.len() == 1,
        "{} has {} packages, and must have one: `make machines` builds it",
        directory.display(),
        debs.len()
    );
    let deb = debs.remove(0);
    let newest = SOURCES.iter().filter_map(|source| newest_below(&repository().join(source))).max();
    let (changed_at, source) = newest.expect("there are sources");
    assert!(
        changed_at <= changed(&deb),
        "{} is older than {}: `make machines` builds it anew (`touch` it to test it as it is)",
        deb.display(),
        source.display()
    );
    deb
}

/// The file that was changed last, and when.
fn newest_below(path: &Path) -> Option<(SystemTime, PathBuf)> {
    if path.is_dir() {
        return entries(path).iter().filter_map(|entry| newest_below(entry)).max();
    }
    Some((changed(path), path.to_owned()))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn changed(path: &Path) -> SystemTime {
    let metadata = fs::metadata(path).and_then(|metadata| metadata.modified());
    metadata.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
