//! What a worker has in common with others.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

/// What this worker has.
#[derive(Debug, Clone)]
pub(in crate::worker) struct Held {
    /// None for what has no socket.
    pub(in crate::worker) socket: Option<Arc<OwnedFd>>,
    /// What the app has given to it first, in whichever worker.
    pub(in crate::worker) data: Value,
    /// The file of a UNIX socket.
    pub(super) file: Option<File>,
}

/// A file as it was when it was made: what is there later may be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl File {
    pub(super) fn at(path: &Path) -> Option<Self> {
        let data = fs::symlink_metadata(path).ok()?;
        Some(Self { path: path.to_owned(), device: data.dev(), inode: data.ino() })
    }

    /// Takes it away, if it is still this one.
    pub(super) fn remove(&self) {
        if Self::at(&self.path).as_ref() == Some(self) {
            let _ = fs::remove_file(&self.path); // or the folder is not the app's
        }
    }
}
