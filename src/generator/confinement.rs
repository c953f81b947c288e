//! What an app's file changes of how its workers are confined: see docs/sandbox.md.

use std::fmt::Write as _;
use std::path::Path;

use super::text::{self, line};
use crate::config::settings::{App, Sandbox};

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
";

/// What is stricter than the template.
const STRICT: &str = "\
ProtectSystem=strict
PrivateIPC=yes
DevicePolicy=closed
SystemCallFilter=~@privileged @setuid @chown @resources
UMask=0077
";

/// The lines for it in the drop-in of a worker.
pub(super) fn lines(app: &App) -> String {
    let mut out = String::new();
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

fn is_below_home(directory: &Path) -> bool {
    HOMES.iter().any(|home| directory.starts_with(home))
}
