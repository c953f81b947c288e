//! Why files cannot be watched.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::base::text::escaped;

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
    /// The kernel's limit.
    #[error("the kernel allows no more of them: raise {what} with sysctl")]
    Kernel {
        /// The setting.
        what: &'static str,
    },
}

/// What is not watched, since it would be too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// The first directory that is not.
    pub path: PathBuf,
    /// What it would be too much for.
    pub limit: Limit,
}

/// What there may not be more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Directories that are watched.
    Directories(usize),
    /// Files and directories.
    Entries,
    /// Watches, says the kernel.
    Kernel,
}

// === impl LeftOut ===

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and others that deep are not watched, as ", escaped(&self.path))?;
        match self.limit {
            Limit::Directories(most) => write!(f, "there are more than {most} directories")?,
            Limit::Entries => write!(f, "there are more than {MOST_ENTRIES} files")?,
            Limit::Kernel => f.write_str("fs.inotify.max_user_watches is reached")?,
        }
        f.write_str(": name those that matter in `watch`, or those that do not in .gitignore")
    }
}
