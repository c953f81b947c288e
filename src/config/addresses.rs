//! Where each worker that runs was started to listen. By now its app's file may say something else: a
//! worker moves when it is started anew, and until then it is where it was.
//!
//! `roundsman worker-ended` notes it at each start and takes the note away at the end, as root, from the
//! settings that the worker gets. So the front need not believe the worker, nor a file that nobody has
//! applied yet.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::settings::{Address, App};
use crate::base::file::{self, Links, write_atomically};
use crate::base::unit::Instance;

/// How the address of a UNIX socket begins, as in [`Address`]'s `Display`.
const UNIX: &str = "unix:";

/// More than any address takes.
const MOST: u64 = 4096;

/// Notes that a worker starts, and so listens where its app's settings say.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn note(directory: &Path, app: &App, number: u16) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let address = app.worker_address(number).to_string();
    write_atomically(&directory.join(app.instance(number)), address.as_bytes(), 0o644)
}

/// Notes that it has ended.
pub(crate) fn forget(directory: &Path, instance: &str) {
    let _ = fs::remove_file(directory.join(instance)); // the next start writes it anew
}

/// Where a worker that runs listens; `None` when none of that name does.
pub(crate) fn noted(directory: &Path, instance: &str) -> Option<Address> {
    let text = file::read_text(&directory.join(instance), Links::Refuse, MOST).ok()?;
    match text.strip_prefix(UNIX) {
        Some(path) => Some(Address::Unix(PathBuf::from(path))).filter(|_| path.starts_with('/')),
        None => text.parse::<SocketAddr>().ok().map(Address::Tcp),
    }
}

/// Where a worker is reached now: where it was started to listen, or where it will.
pub(crate) fn now(directory: &Path, app: &App, number: u16) -> Address {
    moves(directory, app, number).unwrap_or_else(|| app.worker_address(number))
}

/// Where a worker that runs listens, if it will do so elsewhere when it is started anew.
pub(crate) fn moves(directory: &Path, app: &App, number: u16) -> Option<Address> {
    noted(directory, &app.instance(number)).filter(|address| *address != app.worker_address(number))
}

/// The worker that listens at an address, if one does.
pub(crate) fn at(directory: &Path, address: &Address) -> Option<Instance> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.find(|name| noted(directory, name).as_ref() == Some(address))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn shop(keys: &str) -> App {
        let text = format!("command = [\"/bin/x\"]\nworkers = 2\n{keys}\n");
        sample::shop(&text).apps["shop"].clone()
    }

    #[test]
    fn a_worker_stays_where_it_was_started_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let notes = &directory.path().join("addresses");
        let kinds =
            ["transport = \"tcp\"", "", "listen = \"port\"\nport = 5000", "listen = \"unix\""];
        for (before, after) in kinds.iter().flat_map(|a| kinds.iter().map(move |b| (a, b))) {
            let (before, after) = (shop(before), shop(after));
            let there = before.worker_address(1);
            assert_eq!(now(notes, &after, 1), after.worker_address(1), "it does not run");
            note(notes, &before, 1).unwrap();
            assert_eq!(noted(notes, "shop:1").as_ref(), Some(&there));
            assert_eq!(now(notes, &after, 1), there);
            assert_eq!(
                moves(notes, &after, 1).is_some(),
                before.worker_address(1) != after.worker_address(1)
            );
            assert_eq!(at(notes, &there).unwrap().to_string(), "shop:1");
            forget(notes, "shop:1");
            assert_eq!(at(notes, &there), None);
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "unix:", "unix:x.sock", "127.0.0.1", "localhost:80", "127.0.0.1:80\n"] {
            fs::write(directory.path().join("shop:1"), text).unwrap();
            assert_eq!(noted(directory.path(), "shop:1"), None, "{text:?}");
        }
    }

    /// One is sent requests and the other is handed connections: neither has what the other needs.
    #[test]
    fn another_mode_is_another_address() {
        let directory = tempfile::tempdir().unwrap();
        let notes = directory.path();
        let handed = App { handoff: Some("http".to_owned()), ..shop("") };
        let kinds = [handed, shop("transport = \"tcp\""), shop("transport = \"unix\"")];
        for (before, after) in kinds.iter().flat_map(|a| kinds.iter().map(move |b| (a, b))) {
            note(notes, before, 1).unwrap();
            let address = now(notes, after, 1);
            assert_eq!(address, before.worker_address(1));
            assert!(before.is_of_use_at(1, &address));
            let stays = before.handoff == after.handoff;
            assert_eq!(after.is_of_use_at(1, &address), stays, "{before:?} {after:?}");
        }
    }
}
