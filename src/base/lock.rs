//! Locked files: one process at a time, and gone the moment it is, however it ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// A file that this process holds locked; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The kernel's lock ends with it.
    file: File,
}

/// How long to wait for another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    Not,
    /// As long as one needs that only asks whether it is [`held`].
    Moment,
    /// Until it ends.
    Forever,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLocked {
    /// Another process has it.
    #[error("process {holder} holds it")]
    Held {
        /// Its number, as far as it is known.
        holder: String,
    },
    /// The file cannot be made or opened.
    #[error(transparent)]
    Io(#[from] io::Error),
}

// === impl Lock ===

impl Lock {
    /// Takes the lock, whose file is made when it is not there: nobody else can open it, since who can
    /// read a file can lock it.
    ///
    /// # Errors
    /// When another process holds it, and when the file cannot be made.
    pub(crate) fn take(path: &Path, wait: Wait) -> Result<Self, NotLocked> {
        // Not through a link, and not waiting for the reader of a FIFO: others who may write to the
        // directory could have put one there.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        if !lock(&file, wait)? {
            let mut holder = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut holder);
            let holder = if holder.is_empty() { "unknown".to_owned() } else { holder };
            return Err(NotLocked::Held { holder });
        }
        // For the message above; without it that one is only less helpful.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = write!(file, "{}", std::process::id());
        Ok(Self { file })
    }
}

impl From<OwnedFd> for Lock {
    /// One that an earlier process of the same service has taken, and that has been kept.
    fn from(kept: OwnedFd) -> Self {
        Self { file: kept.into() }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn lock(file: &File, wait: Wait) -> io::Result<bool> {
    if wait == Wait::Forever {
        flock(file, FlockOperation::LockExclusive)?;
        return Ok(true);
    }
    for attempt in 0.. {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            // Whoever asks `held` has a lock of its own for a moment.
            Err(Errno::WOULDBLOCK) if wait == Wait::Moment && attempt < 20 => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Whether a process holds this lock.
pub(crate) fn held(path: &Path) -> bool {
    let Ok(file) = super::file::open(path, super::file::Links::Refuse) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_and_goes_with_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(!held(&path), "nobody has been here");
        let lock = Lock::take(&path, Wait::Not).unwrap();
        assert!(held(&path));
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600, "nobody else can hold it");
        for wait in [Wait::Not, Wait::Moment] {
            match Lock::take(&path, wait) {
                Err(NotLocked::Held { holder }) => {
                    assert_eq!(holder, std::process::id().to_string());
                }
                other => panic!("{other:?}"),
            }
        }
        drop(lock);
        assert!(!held(&path));
        Lock::take(&path, Wait::Forever).unwrap();
    }

    #[test]
    fn a_link_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(Lock::take(&path, Wait::Not), Err(NotLocked::Io(_))));
        assert!(!directory.path().join("elsewhere").exists());
    }
}
