//! From the configuration of others to ours: files that could be written, and everything in the
//! original that has no counterpart.

mod author;
pub(crate) mod environment_file;
pub mod nginx;
mod nginx_closed;
mod nginx_reader;
mod nginx_rest;
mod nginx_syntax;
mod nginx_upstream;
pub mod pm2;

pub use self::author::Author;

/// What a configuration comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Files below `/etc/roundsman`.
    pub files: Vec<File>,
    /// What is not in them, and why; in the order of the original.
    pub notes: Vec<Note>,
    /// What keeps somebody out in the original and could not even be closed in the files.
    pub unprotected: Vec<Note>,
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

/// Something that the files do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it is in the original: `shop: watch`, `nginx.conf:12: gzip`.
    pub at: String,
    /// What to do about it.
    pub text: String,
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

// === impl Import ===

impl Import {
    fn note(&mut self, at: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note { at: at.into(), text: text.into() });
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string().trim().to_owned()
}

/// A TOML array of strings.
fn array<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}
