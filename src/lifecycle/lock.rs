//! Whether a front runs: a file that the running one holds locked.
//!
//! The admin socket cannot tell, since systemd holds it: connecting would start a front. A lock is
//! gone the moment its process is, however it ended.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock of the running front; dropping it gives it up.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

const NAME: &str = "front.lock";

/// Takes the lock in this directory.
///
/// # Errors
/// When another front holds it, or the file cannot be made.
pub fn take(directory: &Path) -> io::Result<Lock> {
    let path = directory.join(NAME);
    let context = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot lock {}: {error}", path.display()))
    };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(context)?;
    // Whoever asks `held` has a lock of its own for a moment; another front has it for good.
    for _ in 0..20 {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(context(error.into())),
        }
    }
    Err(context(io::Error::new(io::ErrorKind::WouldBlock, "another front runs here")))
}

/// Whether a front holds the lock in this directory.
pub fn held(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(NAME)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_and_goes_with_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!held(directory.path()), "nobody has been here");
        let lock = take(directory.path()).unwrap();
        assert!(held(directory.path()));
        assert!(take(directory.path()).is_err());
        drop(lock);
        assert!(!held(directory.path()));
    }
}
