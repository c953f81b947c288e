//! From the configuration of others to ours: files that could be written, and everything in the
//! original that has no counterpart.

mod author;
pub(crate) mod environment_file;
pub mod nginx;
mod note;
pub mod pm2;

use std::collections::BTreeSet;

pub use self::author::Author;
pub use self::note::{Carried, Note, Severity};

/// What a configuration comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Files below `/etc/roundsman`.
    pub files: Vec<File>,
    /// What is not in them, or otherwise, and why; in the order of the original.
    pub notes: Vec<Note>,
    /// What keeps somebody out in the original and could not even be closed in the files.
    pub unprotected: Vec<Note>,
    /// The same, each to be found at once.
    said: BTreeSet<Note>,
    said_unprotected: BTreeSet<Note>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path below `/etc/roundsman`.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Whether nobody but root may read it.
    pub secret: bool,
}

/// Why nothing could be made of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct ImportError {
    /// Where.
    pub at: String,
    /// What.
    pub problem: String,
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string().trim().to_owned()
}

/// A time as ours, at most the longest that can be written.
fn duration(milliseconds: u64) -> String {
    let milliseconds = milliseconds.min(366 * 86_400_000);
    if milliseconds.is_multiple_of(1000) {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
}

/// A TOML array of strings.
fn array<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}
