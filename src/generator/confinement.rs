//! What an app's file changes of how its workers are confined: see docs/sandbox.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::text::{self, line};
use crate::base::paths::{CONFIGURATION, USERS};
use crate::config::settings::{App, Sandbox};
use crate::config::user_record;

/// Where people's homes are, of which a confined worker sees none.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What undoes the template's lines.
const OFF: &str = "\
NoNewPrivileges=no
ProtectSystem=no
PrivateTmp=no
RestrictSUIDSGID=no
CapabilityBoundingSet=~
LockPersonality=no
PrivateDevices=no
ProtectClock=no
ProtectControlGroups=no
ProtectHostname=no
ProtectKernelLogs=no
ProtectKernelModules=no
ProtectKernelTunables=no
ProtectProc=default
KeyringMode=inherit
RestrictAddressFamilies=
RestrictNamespaces=no
RestrictRealtime=no
SystemCallArchitectures=
SystemCallFilter=
InaccessiblePaths=
TemporaryFileSystem=
";

/// What is stricter than the template.
const STRICT: &str = "\
ProtectSystem=strict
PrivateIPC=yes
DevicePolicy=closed
SystemCallFilter=~@privileged @setuid @chown @resources
UMask=0077
";

/// For those that write nowhere else either: what protects `/proc` has systemd mount a `/run` that is
/// writable, with `/run/lock` for everybody, where files outlive the app. Sockets are connected to all the same.
const RUN: &str = "\
ReadOnlyPaths=/run
ReadWritePaths=-/run/roundsman-workers/%i
";

/// The lines for it in the drop-in of a worker.
pub(super) fn lines(app: &App, is_roots: &dyn Fn(&Path) -> bool) -> String {
    let mut out = String::new();
    if app.sandbox != Sandbox::Off {
        configuration(app, is_roots, &mut out);
        if app.user.is_none() {
            line!(out, "# Its own name, which PID 1 is not asked for.");
            let records = user_record::directory(Path::new(USERS), &app.name);
            line!(out, "BindReadOnlyPaths=-{}:/run/userdb", records.display());
        }
    }
    if app.sandbox == Sandbox::Off {
        line!(out, "ReadOnlyPaths=");
    }
    if app.user.is_none() || app.sandbox == Sandbox::Strict {
        out.push_str(RUN);
    }
    match app.sandbox {
        Sandbox::Default => {}
        Sandbox::Off => {
            line!(out, "# sandbox = \"off\"");
            out.push_str(OFF);
        }
        Sandbox::Strict => {
            line!(out, "# sandbox = \"strict\"");
            out.push_str(STRICT);
            let directory = app.directory.as_deref();
            if let Some(directory) = directory {
                line!(out, "# The app's own directory, as far as its user may write there.");
                line!(out, "ReadWritePaths=-{}", text::quoted(directory));
            }
            // The directory stays writable.
            let homes = if directory.is_some_and(is_below_home) { "read-only" } else { "yes" };
            line!(out, "ProtectHome={homes}");
        }
    }
    out
}

/// Hides the configuration, with the keys, passwords and other apps' secrets that the group `roundsman`, or
/// the store's, may read: an app's user may be in both. Its own settings come as a credential.
fn configuration(app: &App, is_roots: &dyn Fn(&Path) -> bool, out: &mut String) {
    let own = named(app, is_roots);
    if own.is_empty() {
        line!(out, "InaccessiblePaths=-{CONFIGURATION}");
        return;
    }
    line!(out, "# What the app's file names there, as far as its user may read it; nothing else.");
    line!(out, "TemporaryFileSystem={CONFIGURATION}:ro");
    for path in own {
        line!(out, "BindReadOnlyPaths=-{}", text::quoted(&path));
    }
}

/// The files and directories below the configuration that the app itself is told of.
fn named(app: &App, is_roots: &dyn Fn(&Path) -> bool) -> BTreeSet<PathBuf> {
    let words = app
        .environment
        .values()
        .chain(&app.command)
        .flat_map(|text| text.split([':', '=', ',', ' ', '"', '\'']).map(Path::new));
    // systemd reads those of root's as root, and hands them over.
    let files = app.environment_files.iter().filter(|file| !is_roots(file));
    files
        .chain(&app.directory)
        .map(PathBuf::as_path)
        .chain(words)
        .filter(|path| {
            let inside =
                path.strip_prefix(CONFIGURATION).is_ok_and(|rest| rest.iter().next().is_some());
            inside && path.components().all(|part| part != Component::ParentDir)
        })
        .map(Path::to_path_buf)
        .collect()
}

fn is_below_home(directory: &Path) -> bool {
    HOMES.iter().any(|home| directory.starts_with(home))
}
