//! Whether a worker that is stopped now could start again: asked before one that serves is stopped.

use std::path::Path;

use crate::base::{paths, unit};
use crate::config::machine;
use crate::config::settings::App;
use crate::systemd::dbus::{Systemd, SystemdError};

/// A worker's directory, a few files of its own, and what systemd keeps of all units.
const BYTES: u64 = 512 * 1024;
const FILES: u64 = 64;

/// Everything that is known to keep these workers from starting, each as a line.
///
/// # Errors
/// When systemd cannot be asked.
pub(crate) async fn obstacles(
    systemd: &Systemd,
    app: &App,
    workers: impl IntoIterator<Item = u16>,
) -> Result<Vec<String>, SystemdError> {
    let missing = machine::obstacles(app).into_iter();
    let mut found: Vec<String> = missing.map(|(title, help)| format!("{title}: {help}")).collect();
    found.extend(["/run", paths::WORKERS].into_iter().filter_map(full));
    for number in workers {
        for name in app.units_of(number) {
            if systemd.unit(&name).await?.text("LoadState") == "masked" {
                found.push(format!("{name} is masked: systemctl unmask '{name}'"));
            }
        }
    }
    let target = unit::target(&app.name);
    if systemd.unit(&target).await?.text("LoadState") == "masked" {
        found.push(format!("{target} is masked: systemctl unmask '{target}'"));
    }
    Ok(found)
}

/// That systemd has no room for the units that it makes anew at a `daemon-reload`: it removes the old ones
/// first, and workers that run would lose their sockets.
pub(crate) fn no_room_for_units() -> Option<String> {
    full("/run")
}

/// That a file system has no room for another worker.
fn full(path: &str) -> Option<String> {
    let room = rustix::fs::statvfs(Path::new(path)).ok()?;
    let (bytes, files) = (room.f_bavail.saturating_mul(room.f_frsize), room.f_favail);
    // One that does not count its files says that it has none.
    let full = bytes < BYTES || (room.f_files > 0 && files < FILES);
    full.then(|| format!("{path} is full: df {path}, df --inodes {path}"))
}
