//! Files with passwords: the store's own, and one for another server.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::base::exit;
use crate::base::file::{self, Links};
use crate::cli::failure::{Done, Failure};
use crate::session::command::is_namespace;

/// The most that is read of a file of passwords.
const MOST: u64 = 1024 * 1024;

/// The passwords of namespaces: lines of `NAMESPACE:PASSWORD`.
pub(super) fn of_namespaces(path: &Path) -> Done<BTreeMap<String, String>> {
    let remedy = "chown roundsman-session FILE && chmod 400 FILE";
    let workers = rustix::process::getegid().as_raw();
    let text = read(path, remedy, Some(workers))?;
    let failed = |what: String| failed(path, &what);
    let mut passwords = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((namespace, password)) if is_namespace(namespace) && !password.is_empty() => {
                passwords.insert(namespace.to_owned(), password.to_owned());
            }
            _ => {
                return Err(failed(format!(
                    "line {} is not NAMESPACE:PASSWORD (a namespace is [a-z0-9_-]+)",
                    number + 1
                )));
            }
        }
    }
    if passwords.is_empty() {
        return Err(failed("there is no line of NAMESPACE:PASSWORD in it".to_owned()));
    }
    Ok(passwords)
}

/// The password of a server: the file's only line.
pub(super) fn of_server(path: &Path) -> Done<String> {
    let text = read(path, "chmod 600 FILE", None)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.contains(['\r', '\n']) {
        return Err(failed(path, "it should have one line, the password"));
    }
    Ok(password.to_owned())
}

/// Reads a file that nobody but its owner may write to, and nobody but its owner and its group read; but not
/// the group of this process, if that is the store: every worker with `session` is in it, to open the store's
/// socket. `remedy` makes it so.
fn read(path: &Path, remedy: &str, refused_group: Option<u32>) -> Done<String> {
    let unread = |error: io::Error| failed(path, &error.to_string());
    let opened = file::open(path, Links::Follow).map_err(unread)?;
    let metadata = opened.metadata().map_err(unread)?;
    let mode = metadata.mode();
    let remedy = remedy.replace("FILE", &path.display().to_string());
    // Whoever may write to it chooses the password.
    if mode & 0o027 != 0 {
        return Err(failed(path, &format!("others may read it, or write to it: {remedy}")));
    }
    if mode & 0o040 != 0 && refused_group == Some(metadata.gid()) {
        return Err(failed(path, &format!("the workers of all apps may read it: {remedy}")));
    }
    let bytes = file::content(&opened, MOST).map_err(unread)?;
    String::from_utf8(bytes).map_err(|error| failed(path, &error.to_string()))
}

fn failed(path: &Path, what: &str) -> Failure {
    Failure::with(exit::CONFIG, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{CWD, Mode};

    use super::*;

    #[test]
    fn a_password_is_read_only_where_it_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let read = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            of_server(&path).map_err(|failure| failure.message)
        };
        assert_eq!(read("pw:1\r\n", 0o600).as_deref(), Ok("pw:1"));
        assert_eq!(read("pw", 0o640).as_deref(), Ok("pw"));
        for mode in [0o604, 0o660, 0o602] {
            let why = read("pw", mode).unwrap_err();
            assert!(why.ends_with(&format!("chmod 600 {}", path.display())), "{mode:o}: {why}");
        }
        for text in ["", "\n", "one\ntwo\n", &"x".repeat(2 * 1024 * 1024)] {
            assert!(read(text, 0o600).is_err(), "{} bytes", text.len());
        }
        fs::write(&path, "shop:pw\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let why = of_namespaces(&path).unwrap_err().message;
        assert!(why.contains("workers of all apps") && why.contains("&& chmod 400 "), "{why}");
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(of_namespaces(&path).unwrap()["shop"], "pw");
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(of_server(&fifo).is_err(), "and it is not waited for");
    }
}
