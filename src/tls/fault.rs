//! What is wrong with a certificate, a key or a client CA, and what to do about it.

use std::path::Path;

use crate::config::settings::Secret;
use crate::config::{Problem, Severity};

/// One thing that is wrong, with what the configuration calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub title: String,
    /// What to do about it.
    pub help: String,
    /// Whether it can be used all the same.
    pub is_warning: bool,
}

impl Fault {
    /// Something that cannot be used.
    pub(super) fn error(title: impl Into<String>, help: impl Into<String>) -> Self {
        Self { title: title.into(), help: help.into(), is_warning: false }
    }

    /// Something that somebody should look at.
    pub(super) fn warning(title: impl Into<String>, help: impl Into<String>) -> Self {
        Self { title: title.into(), help: help.into(), is_warning: true }
    }

    /// The same as a problem of the configuration, where that names the secret.
    pub(super) fn of(self, secret: &Secret) -> Problem {
        let Self { title, help, is_warning } = self;
        let problem = match (&secret.place, is_warning) {
            (Some(place), true) => Problem::warning(place, title, ""),
            (Some(place), false) => Problem::error(place, title, ""),
            (None, true) => Problem::file(Severity::Warning, Path::new("roundsman.toml"), title),
            (None, false) => Problem::file(Severity::Error, Path::new("roundsman.toml"), title),
        };
        problem.help(help)
    }
}
