//! The name of a user that exists only while an app runs, for the app itself.
//!
//! Programs look up who they are (`os.userInfo()`, `getpwuid(3)`). For such a user systemd's module of NSS asks
//! PID 1, at a socket where anybody could keep PID 1 from hearing root. So workers do not see that socket,
//! and find a record in a directory of their app's, which is their `/run/userdb` (nss-systemd(8)).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::account;
use super::settings::App;
use crate::base::file::write_atomically;
use crate::base::user::User;

/// Where systemd has links between the names and the numbers of such users.
const NUMBERS: &str = "/run/systemd/dynamic-uid";

/// The directory of an app's records.
pub(crate) fn directory(users: &Path, app: &str) -> PathBuf {
    users.join(app)
}

/// Writes the records of the user that an app has got, if it is one that systemd has made.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn note(users: &Path, app: &App) -> io::Result<()> {
    if app.user.is_some() {
        return Ok(());
    }
    let name = account::user(app);
    match number(&name) {
        Some(number) => write(&directory(users, &app.name), &name, number),
        None => Ok(()), // nobody has ever known it
    }
}

fn number(name: &str) -> Option<u32> {
    if let Ok(Some(user)) = User::named(name) {
        return Some(user.uid);
    }
    // Where the module of NSS is not installed.
    let link = fs::read_link(Path::new(NUMBERS).join(format!("direct:{name}"))).ok()?;
    link.to_str()?.parse().ok().filter(|number| account::DYNAMIC.contains(number))
}

/// As systemd describes such users.
fn write(directory: &Path, name: &str, number: u32) -> io::Result<()> {
    let user = json!({
        "userName": name, "uid": number, "gid": number, "realName": "Dynamic User",
        "homeDirectory": "/", "shell": "/usr/sbin/nologin", "disposition": "dynamic",
    });
    let group = json!({ "groupName": name, "gid": number, "disposition": "dynamic" });
    let records = [
        (format!("{name}.user"), &user),
        (format!("{number}.user"), &user),
        (format!("{name}.group"), &group),
        (format!("{number}.group"), &group),
    ];
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))?; // whatever the unit's UMask=
    for entry in fs::read_dir(directory)?.flatten() {
        let file = entry.file_name();
        if !records.iter().any(|(name, _)| file == **name) {
            fs::remove_file(entry.path())?; // of the number that it had before
        }
    }
    for (file, record) in records {
        write_atomically(&directory.join(file), record.to_string().as_bytes(), 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_name_and_by_the_number_that_it_has_now() {
        let users = tempfile::tempdir().unwrap();
        let directory = directory(users.path(), "shop");
        write(&directory, "rmw-shop", 61_200).unwrap();
        write(&directory, "rmw-shop", 61_300).unwrap();
        let mut files: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["61300.group", "61300.user", "rmw-shop.group", "rmw-shop.user"]);
        let read = |file: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(directory.join(file)).unwrap()).unwrap()
        };
        assert_eq!(read("61300.user"), read("rmw-shop.user"));
        let user = read("61300.user");
        assert_eq!((&user["userName"], &user["uid"]), (&json!("rmw-shop"), &json!(61_300)));
        let group = read("61300.group");
        assert_eq!((&group["groupName"], &group["gid"]), (&json!("rmw-shop"), &json!(61_300)));
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
