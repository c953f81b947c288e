//! The workers that an administrator has drained and not put back, kept over restarts of the front.
//!
//! In the unit's runtime directory, which systemd preserves until the machine is booted: a worker that
//! was taken out to be looked at does not come back by a crash or an upgrade of the front.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::file::write_atomically;

/// More is no list of workers.
const LARGEST: u64 = 1024 * 1024;

/// Which workers are held out of the rotation.
#[derive(Debug, Default)]
pub(crate) struct Held {
    workers: RefCell<BTreeSet<String>>,
    file: Option<PathBuf>,
}

// === impl Held ===

impl Held {
    /// Those that are noted in this directory; without one they are forgotten with the process.
    pub(crate) fn noted_in(directory: Option<&Path>) -> Self {
        let Some(directory) = directory else { return Self::default() };
        let file = directory.join("held");
        let workers = match read(&file) {
            Ok(workers) => workers,
            Err(error) => {
                tracing::warn!(
                    "cannot read {}: {error}; drained workers get requests again",
                    file.display()
                );
                BTreeSet::new()
            }
        };
        Self { workers: RefCell::new(workers), file: Some(file) }
    }

    /// Whether this worker is held.
    pub(crate) fn contains(&self, worker: &str) -> bool {
        self.workers.borrow().contains(worker)
    }

    /// Holds it.
    pub(crate) fn hold(&self, worker: &str) {
        if self.workers.borrow_mut().insert(worker.to_owned()) {
            self.note();
        }
    }

    /// Holds it no more.
    pub(crate) fn release(&self, worker: &str) {
        if self.workers.borrow_mut().remove(worker) {
            self.note();
        }
    }

    /// Forgets those that are not configured any more: a later worker of that name is another one.
    pub(crate) fn keep_only(&self, is_configured: impl Fn(&str) -> bool) {
        let before = self.workers.borrow().len();
        self.workers.borrow_mut().retain(|worker| is_configured(worker));
        if self.workers.borrow().len() != before {
            self.note();
        }
    }

    fn note(&self) {
        let Some(file) = &self.file else { return };
        let text: String = self.workers.borrow().iter().flat_map(|w| [w.as_str(), "\n"]).collect();
        if let Err(error) = write_atomically(file, text.as_bytes(), 0o600) {
            tracing::warn!(
                "cannot note which workers are drained in {}: {error}; a restart of the front puts \
                 them back",
                file.display()
            );
        }
    }
}

fn read(file: &Path) -> io::Result<BTreeSet<String>> {
    match fs::metadata(file) {
        Ok(data) if data.len() > LARGEST => return Err(io::Error::other("it is too long")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        _ => {}
    }
    Ok(fs::read_to_string(file)?.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_held_by_the_next_process_until_it_is_released() {
        let directory = tempfile::tempdir().unwrap();
        let next = || Held::noted_in(Some(directory.path()));
        let first = next();
        first.hold("shop:1");
        first.hold("shop:2");
        assert!(next().contains("shop:1") && next().contains("shop:2"));
        next().release("shop:1");
        assert!(!next().contains("shop:1") && next().contains("shop:2"));
        next().keep_only(|worker| worker != "shop:2");
        assert!(!next().contains("shop:2"));
    }

    #[test]
    fn what_cannot_be_noted_holds_for_this_process() {
        for held in [Held::noted_in(None), Held::noted_in(Some(Path::new("/no/such")))] {
            held.hold("shop:1");
            assert!(held.contains("shop:1"));
        }
    }
}
