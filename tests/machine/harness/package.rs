//! The package under test.

use std::fs;
use std::path::{Path, PathBuf};

/// A `.deb` of this machine.
#[derive(Debug)]
pub(crate) struct Package(PathBuf);

impl Package {
    /// What `make deb` has left.
    pub(crate) fn built() -> Self {
        Self(only_deb_in("target/debian"))
    }

    /// The same under a higher version.
    pub(crate) fn next_version() -> Self {
        Self(only_deb_in("target/machines/next"))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

fn only_deb_in(directory: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut debs: Vec<PathBuf> = fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    assert!(
        debs.len() == 1,
        "{} has {} packages, and must have one: `make test-machine` builds it",
        directory.display(),
        debs.len()
    );
    debs.remove(0)
}
