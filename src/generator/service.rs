//! The drop-in of one worker's service.
//!
//! Nothing of the app's environment is in it: systemd would give that to every line of the unit, also
//! to those that root runs, and everybody may read a unit. The worker's main process gets the app's
//! settings as a credential instead, and sets the environment for the app alone.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::text::{self, head, line};
use crate::base::unit;
use crate::config::copy::{AppCopy, CREDENTIAL, variables_credential};
use crate::config::settings::{App, SessionStore};
use crate::config::valkey;

/// What systemd waits longer than the worker's main process, which keeps the same limits itself:
/// it can say why, systemd only that.
const MARGIN: Duration = Duration::from_secs(10);

/// The text of the drop-in of worker `number`.
pub(super) fn service(
    app: &App,
    number: u16,
    source: Option<&Path>,
    is_roots: &dyn Fn(&Path) -> bool,
) -> String {
    let (name, workers) = (&app.name, app.workers);
    let mut out = head(&format!("{name}, worker {number} of {workers}"), source);
    line!(out, "PartOf=roundsman-app@{name}.target");
    line!(out, "After=roundsman-app@{name}.target");
    if app.has_socket() {
        // The main process inherits its listener, so there is no starting without it.
        line!(out, "Requires=roundsman-worker@%i.socket");
        line!(out, "After=roundsman-worker@%i.socket");
    }
    if app.session == Some(SessionStore::Embedded) {
        line!(out, "Wants=roundsman-session.socket");
        line!(out, "After=roundsman-session.socket");
    }
    if let Some(whose) = app.valkey_of() {
        line!(out, "Wants={}", unit::valkey(whose));
        line!(out, "After={}", unit::valkey(whose));
    }

    line!(out, "\n[Service]");
    text::account(app, &mut out);
    if app.session == Some(SessionStore::Embedded) {
        line!(out, "# Whose members may open the socket of the session store.");
        line!(out, "SupplementaryGroups=roundsman-session");
    }
    credentials(app, is_roots, &mut out);

    let start = app.start_timeout + MARGIN;
    line!(out, "# start-timeout, and what the main process needs to say that it is over.");
    line!(out, "TimeoutStartSec={}", text::seconds(start));
    // systemd waits this long for ExecStop= (the drain), and then again for the processes to end.
    let stop = app.drain_timeout.max(app.stop_timeout) + MARGIN;
    line!(out, "# For each of the two steps of a stop: drain-timeout, then stop-timeout.");
    line!(out, "TimeoutStopSec={}", text::seconds(stop));
    line!(out, "WatchdogSec={}", text::seconds(app.watchdog));
    if let Some(max) = app.max_memory {
        line!(out, "# Above max-memory it is replaced in peace; these are for when it cannot be.");
        line!(out, "MemoryHigh={}", max + max / 4);
        line!(out, "MemoryMax={}", max + max / 2);
    }
    line!(out, "LogExtraFields=ROUNDSMAN_APP={name}");
    out.push_str(&super::confinement::lines(app, is_roots));
    out
}

/// What root reads for the app. Never a file that somebody else could have put there, or made a link
/// of: the worker's main process reads those itself, as the app's user.
fn credentials(app: &App, is_roots: &dyn Fn(&Path) -> bool, out: &mut String) {
    let copy = AppCopy::path(Path::new("/"), &app.name);
    line!(out, "# The app's settings, its environment among them.");
    line!(out, "LoadCredential={CREDENTIAL}:{}", text::path(&copy));
    if let Some(whose) = app.valkey_of() {
        line!(out, "# What its Valkey server knows it by.");
        let secret = valkey::secret_file(Path::new("/"), whose);
        line!(out, "LoadCredential={}:{}", valkey::SECRET, text::path(&secret));
    }
    for (index, file) in app.environment_files.iter().enumerate() {
        if is_roots(file) {
            let name = variables_credential(index);
            line!(out, "LoadCredential={name}:{}", text::path(file));
        }
    }
    for (name, path) in &app.supervision.credentials {
        if is_roots(path) {
            line!(out, "LoadCredential={name}:{}", text::path(path));
        } else {
            line!(out, "# Not handed over, since others than root may change it: {name}");
        }
    }
}
