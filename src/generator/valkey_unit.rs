//! The drop-in of the service that is an app's own Valkey server.

use std::fmt::Write as _;
use std::path::Path;

use super::text::{self, head, line};
use crate::config::settings::App;
use crate::config::valkey::{CONFIGURATION, Limits, configuration_file};

/// The text of the drop-in.
pub(super) fn service(app: &App, source: Option<&Path>, limits: &Limits) -> String {
    let name = &app.name;
    let mut out = head(&format!("{name}, its own Valkey server"), source);
    line!(
        out,
        "# Stops with the app, after its workers; a restart of the app is none of this one."
    );
    line!(out, "StopPropagatedFrom=roundsman-app@{name}.target");
    line!(out, "After=roundsman-app@{name}.target");

    line!(out, "\n[Service]");
    text::account(app, &mut out);
    let configuration = configuration_file(Path::new("/"), name);
    line!(out, "LoadCredential={CONFIGURATION}:{}", text::path(&configuration));
    line!(out, "# max-size of [session], and what comes on top.");
    line!(out, "MemoryMax={}", limits.memory());
    line!(out, "LimitNOFILE={}", limits.descriptors());
    out
}
