//! The last good configuration: a copy of the files of the last successful start or reload.
//!
//! It is used, loudly, when the present files have errors at start, so that a restart never takes
//! down what a reload would have refused to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Sources;

/// Where the copy is kept.
#[derive(Debug, Clone)]
pub(crate) struct LastGood {
    directory: PathBuf,
}

// === impl LastGood ===

impl LastGood {
    /// The copy in this state directory.
    pub(crate) fn new(state: &Path) -> Self {
        Self { directory: state.join("last-good") }
    }

    /// Where to load it from, if there is one.
    pub(crate) fn sources(&self) -> Option<Sources> {
        self.directory.is_dir().then(|| Sources::directory(&self.directory))
    }

    /// Replaces the copy by these files (relative path and content).
    ///
    /// The new copy is complete before the old one goes, so that a crash in between leaves one.
    pub(crate) fn save(&self, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
        let new = self.directory.with_extension("new");
        let old = self.directory.with_extension("old");
        remove(&new)?;
        fs::create_dir_all(&new)?;
        for (path, content) in files {
            let path = new.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        remove(&old)?;
        match fs::rename(&self.directory, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&new, &self.directory)?;
        remove(&old)
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_replaces_the_one_before_it_whole() {
        let state = tempfile::tempdir().unwrap();
        let copy = LastGood::new(state.path());
        assert!(copy.sources().is_none());
        copy.save(&[("roundsman.toml".into(), b"".into()), ("apps/a.toml".into(), b"x".into())])
            .unwrap();
        copy.save(&[("apps/b.toml".into(), b"y".into())]).unwrap();
        assert!(copy.sources().is_some());
        let kept = state.path().join("last-good");
        assert_eq!(fs::read(kept.join("apps/b.toml")).unwrap(), b"y");
        assert!(!kept.join("apps/a.toml").exists());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
