//! Whether a worker that is stopped now could start again: asked before one that serves is stopped.

use std::path::Path;

use crate::base::{paths, unit};
use crate::config::settings::{App, Sandbox};
use crate::config::{addresses, machine};
use crate::systemd::dbus::{Systemd, SystemdError};

/// A worker's directory, a few files of its own, and what systemd keeps of all units.
const BYTES: u64 = 512 * 1024;
const FILES: u64 = 64;

/// What a new file takes beside its text: the rest of its last block, and its directories.
const BLOCKS: u64 = 64 * 1024;
const NEW_FILES: u64 = 4;

/// systemd of this version makes what it needs for a sandbox below `/run`. An earlier one does so in `/tmp`,
/// which anybody may fill.
const SANDBOXES_IN_RUN: u32 = 254;

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
    let makes_sandboxes_there = systemd.version().await? < SANDBOXES_IN_RUN;
    found.extend(needed(app, makes_sandboxes_there).into_iter().filter_map(full));
    for number in workers {
        found.extend(taken(Path::new(paths::ADDRESSES), app, number));
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

/// That there is no room for a file of so many bytes.
pub(crate) fn no_room_for_file(directory: &Path, bytes: u64) -> Option<String> {
    // One that is not there yet is made where the nearest one above it is.
    let above = directory.ancestors().find(|above| above.exists())?;
    lacks(above, bytes.saturating_add(BLOCKS), NEW_FILES)
}

/// That another worker listens, for as long as it runs, where this one is to listen.
fn taken(directory: &Path, app: &App, number: u16) -> Option<String> {
    let (address, worker) = (app.worker_address(number), app.instance(number));
    let other = addresses::at(directory, &address).filter(|other| other.to_string() != worker)?;
    let name = &other.app;
    Some(format!(
        "{worker} is to listen on {address}, where {other} does: choose a `port` away from those in use, \
         or first: roundsman stop {name}"
    ))
}

/// The file systems that must have room for a start.
fn needed(app: &App, makes_sandboxes_in_tmp: bool) -> Vec<&'static str> {
    let mut needed = vec!["/run", paths::WORKERS];
    if makes_sandboxes_in_tmp && app.sandbox != Sandbox::Off {
        needed.extend(["/tmp", "/var/tmp"]);
    }
    needed
}

/// That a file system has no room for another worker.
fn full(path: &str) -> Option<String> {
    lacks(Path::new(path), BYTES, FILES)
}

/// That a file system has not so many bytes and files left.
fn lacks(path: &Path, least_bytes: u64, least_files: u64) -> Option<String> {
    let room = rustix::fs::statvfs(path).ok()?;
    // systemd is root, for whom some file systems keep a part.
    let (bytes, files) = (room.f_bfree.saturating_mul(room.f_frsize), room.f_ffree);
    // One that does not count its files says that it has none.
    let full = bytes < least_bytes || (room.f_files > 0 && files < least_files);
    let path = path.display();
    full.then(|| format!("{path} is full: df {path}, df --inodes {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    #[test]
    fn what_the_start_needs_is_looked_at() {
        let app = |more: &str| {
            let text = format!("command = [\"/bin/x\"]\n{more}");
            sample::shop(&text).apps["shop"].clone()
        };
        let always = ["/run", paths::WORKERS];
        assert_eq!(needed(&app(""), false), always);
        assert_eq!(needed(&app(""), true), [always[0], always[1], "/tmp", "/var/tmp"]);
        assert_eq!(needed(&app("sandbox = \"off\"\n"), true), always, "it makes nothing there");
    }

    #[test]
    fn room_for_a_file_is_looked_for_where_it_will_be() {
        let directory = tempfile::tempdir().unwrap();
        let new = directory.path().join("not/there/yet");
        assert_eq!(no_room_for_file(&new, 1000), None);
        let told = no_room_for_file(&new, u64::MAX).unwrap();
        let there = directory.path().display().to_string();
        assert!(told.starts_with(&format!("{there} is full: df {there}")), "{told}");
    }

    #[test]
    fn an_address_that_another_worker_has_is_told_before_anything_happens() {
        let directory = tempfile::tempdir().unwrap();
        let shop = |port: u16| {
            let text =
                format!("command = [\"/bin/x\"]\nworkers = 2\nlisten = \"port\"\nport = {port}\n");
            sample::shop(&text).apps["shop"].clone()
        };
        let notes = &directory.path().join("notes");
        let before = shop(5000);
        for number in [1, 2] {
            addresses::note(notes, &before, number).unwrap();
        }
        let told = |app: &App| [1, 2, 3].map(|number| taken(notes, app, number).is_some());
        assert_eq!(told(&before), [false; 3]);
        assert_eq!(told(&shop(6000)), [false; 3]);
        assert_eq!(told(&shop(5001)), [true, false, false]);
        assert_eq!(told(&shop(4999)), [false, true, true]);
        let text = taken(notes, &shop(5001), 1).unwrap();
        assert!(
            text.starts_with("shop:1 is to listen on 127.0.0.1:5001, where shop:2 does: "),
            "{text}"
        );
    }
}
