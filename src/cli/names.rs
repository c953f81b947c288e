//! The names of apps, for shells that complete them.

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::manage;

/// Completes the name of an app, as the files have it now.
pub(super) fn apps() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let apps = manage::load().settings.apps;
        apps.into_values()
            .map(|app| {
                let command = app.command.join(" ");
                CompletionCandidate::new(app.name).help(Some(command.into()))
            })
            .collect()
    })
}
