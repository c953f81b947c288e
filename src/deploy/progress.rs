//! What is kept of a deploy while it runs, so that two never interleave and an interrupted one can
//! be resumed: a lock and a small file per app in `/run/roundsman/deploy`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::file::{Links, read_text, write_atomically};
use crate::base::lock::{self, NotLocked, Wait};
use crate::base::text;

/// As many workers as an app can have: no more are ever under way.
pub(super) const MOST: u16 = 250;

/// The right to change an app's workers; nobody else has it until this is dropped, however the
/// process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _lock: lock::Lock,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody else has it.
    #[error(
        "another command (process {holder}{}) is changing {app} right now. Try again when it has ended; \
         nothing was changed",
        typed(holder)
    )]
    Held {
        /// The app.
        app: String,
        /// Its process, as far as it is known.
        holder: String,
    },
    /// The file cannot be made.
    #[error("cannot lock {}: {source}{}", path.display(), advice(source))]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What was typed to start a process, up to its options: in those may be what is nobody's business.
fn typed(process: &str) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let words: Vec<&str> =
        line.split('\0').take_while(|word| !word.is_empty() && !word.starts_with('-')).collect();
    if words.is_empty() { String::new() } else { format!(": {}", text::one_line(&words.join(" "))) }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "\nRun this as root (sudo).",
        _ => "",
    }
}

/// How far a deploy has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Progress {
    /// Workers that run the new code and are proven.
    pub done: BTreeSet<u16>,
    /// Extra workers that still run.
    pub surge: BTreeSet<u16>,
    /// The release that is being deployed: where `directory` leads to.
    pub release: Option<PathBuf>,
    /// Where it led to before, when that is known.
    pub previous: Option<PathBuf>,
}

impl Lock {
    /// Takes the lock of an app, or says who has it.
    ///
    /// # Errors
    /// When it is held, unless `wait`; when the file cannot be made.
    pub(crate) fn take(directory: &Path, app: &str, wait: bool) -> Result<Self, LockError> {
        let path = directory.join(format!("{app}.lock"));
        let failed = |source| LockError::Io { path: path.clone(), source };
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        renew(&path).map_err(failed)?;
        let wait = if wait { Wait::Forever } else { Wait::Not };
        let lock = lock::Lock::take(&path, wait).map_err(|error| match error {
            NotLocked::Held { holder } => LockError::Held { app: app.to_owned(), holder },
            NotLocked::Io(source) => failed(source),
        })?;
        Ok(Self { _lock: lock })
    }
}

/// Removes a lock's file that somebody else has made or could open, and so could hold for ever: an
/// older version let members of the group do so.
fn renew(path: &Path) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let private = |found: &fs::Metadata| found.permissions().mode().trailing_zeros() >= 6;
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && found.uid() == own && private(&found) => Ok(()),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Progress {
    fn path(directory: &Path, app: &str) -> PathBuf {
        directory.join(format!("{app}.json"))
    }

    /// What an unfinished deploy has left; `None` when there is none.
    pub(crate) fn load(directory: &Path, app: &str) -> Option<Self> {
        let text = read_text(&Self::path(directory, app), Links::Refuse, 64 * 1024).ok()?;
        // A file that is not ours to read says nothing about a deploy.
        let mut progress: Self = serde_json::from_str(&text).ok()?;
        for workers in [&mut progress.done, &mut progress.surge] {
            workers.retain(|number| (1..=MOST).contains(number));
        }
        Some(progress)
    }

    /// Keeps it, whole or not at all. Call it with the lock held.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn save(&self, directory: &Path, app: &str) -> io::Result<()> {
        let path = Self::path(directory, app);
        write_atomically(&path, serde_json::to_string_pretty(self)?.as_bytes(), 0o644)
    }

    /// The deploy is over.
    pub(crate) fn clear(directory: &Path, app: &str) {
        let _ = fs::remove_file(Self::path(directory, app)); // there may be none
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_deploys_of_one_app_never_interleave() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path(), "shop", false).unwrap();
        match Lock::take(directory.path(), "shop", false) {
            Err(LockError::Held { holder, .. }) => {
                assert_eq!(holder, std::process::id().to_string());
            }
            other => panic!("{other:?}"),
        }
        Lock::take(directory.path(), "other", false).unwrap();
        drop(lock);
        Lock::take(directory.path(), "shop", false).unwrap();
    }

    #[test]
    fn a_lock_that_others_could_hold_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.lock");
        let theirs = lock::Lock::take(&path, Wait::Not).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        drop(Lock::take(directory.path(), "shop", false).unwrap());
        drop(theirs);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        drop(Lock::take(directory.path(), "shop", false).unwrap());
        assert!(!directory.path().join("elsewhere").exists());
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn numbers_that_no_worker_has_are_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"{"done":[0,1,60000],"surge":[2,251],"release":null,"previous":null}"#;
        fs::write(Progress::path(directory.path(), "shop"), text).unwrap();
        let expected = Progress { done: [1].into(), surge: [2].into(), ..Progress::default() };
        assert_eq!(Progress::load(directory.path(), "shop"), Some(expected));
    }

    #[test]
    fn progress_is_kept_and_cleared() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Progress::load(directory.path(), "shop"), None);
        let progress = Progress { done: [1, 2].into(), ..Progress::default() };
        progress.save(directory.path(), "shop").unwrap();
        assert_eq!(Progress::load(directory.path(), "shop"), Some(progress));
        Progress::clear(directory.path(), "shop");
        assert_eq!(Progress::load(directory.path(), "shop"), None);
    }
}
