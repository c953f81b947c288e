//! Why files cannot be watched.

use std::io;
use std::path::PathBuf;

use crate::base::text::escaped;

/// Directories of one app. A Node app without `node_modules` has some hundreds; the kernel allows a
/// user from 8192 on, for all programs together.
pub(super) const MOST: usize = 5000;

/// Entries of directories that one look takes; the largest projects have some ten thousands.
pub(super) const MOST_ENTRIES: usize = 200_000;

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// The directory, or something in it.
    #[error("{}: {source}", escaped(path))]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too many directories.
    #[error(
        "{} has more than {MOST} directories to watch: name those that matter in `watch`, or those \
         that do not in .gitignore", escaped(.0)
    )]
    TooMany(PathBuf),
    /// Too many files.
    #[error(
        "{} has more than {MOST_ENTRIES} files and directories: name those that matter in `watch`, \
         or the directories that do not in .gitignore", escaped(.0)
    )]
    TooManyFiles(PathBuf),
    /// The kernel's limit.
    #[error(
        "the kernel allows no more watches ({what}): raise {what} with sysctl, name the directories \
         that matter in `watch`, or those that do not in .gitignore"
    )]
    Kernel {
        /// The setting.
        what: &'static str,
    },
}
