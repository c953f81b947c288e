//! What is wrong with a certificate, a key or a client CA, and what to do about it.

use std::io;
use std::path::Path;

use crate::base::want;
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
    /// Whether it is this process that had nothing left to read it with.
    pub(super) is_ours: bool,
}

impl Fault {
    /// Something that cannot be used.
    pub(super) fn error(title: impl Into<String>, help: impl Into<String>) -> Self {
        Self { title: title.into(), help: help.into(), is_warning: false, is_ours: false }
    }

    /// Something (`what`) that could not be read; `help` is what to do if that is no want of ours.
    pub(super) fn unread(what: &str, error: &io::Error, help: &str) -> Self {
        match want::of_reading(error) {
            Some((lack, mend)) => {
                let fault = Self::error(format!("the {what} was not read: {lack}"), mend);
                Self { is_ours: true, ..fault }
            }
            None => Self::error(format!("the {what} cannot be read: {error}"), help),
        }
    }

    /// Something that somebody should look at.
    pub(super) fn warning(title: impl Into<String>, help: impl Into<String>) -> Self {
        Self { title: title.into(), help: help.into(), is_warning: true, is_ours: false }
    }

    /// The same as a problem of the configuration, where that names the secret.
    pub(super) fn of(self, secret: &Secret) -> Problem {
        let Self { title, help, is_warning, is_ours } = self;
        let problem = match (&secret.place, is_warning) {
            (Some(place), true) => Problem::warning(place, title, ""),
            (Some(place), false) => Problem::error(place, title, ""),
            (None, true) => Problem::file(Severity::Warning, Path::new("roundsman.toml"), title),
            (None, false) => Problem::file(Severity::Error, Path::new("roundsman.toml"), title),
        };
        let problem = problem.help(help);
        if is_ours { problem.ours() } else { problem }
    }
}
