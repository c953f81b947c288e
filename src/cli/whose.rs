//! As whom `start` has a folder's code run when nobody said it: as the one user who could have made
//! all that the path leads to, so that nobody chooses who runs their code by where a link of theirs
//! points, now or later.

use std::path::{Path, PathBuf};

use super::failure::{Done, Failure};
use super::manage::say;
use crate::base::origin::{self, Maker};
use crate::base::text;
use crate::base::user::User;

/// Who could have made it, or why it is not a single one; looked at once, for all that is decided.
pub(super) type Whose = Result<Maker, String>;

/// Looks at everything on the way to what an app consists of, links too, and at where others could put
/// a program's modules.
pub(super) fn look(paths: &[PathBuf]) -> Done<Whose> {
    let makers = origin::of_all(paths.iter().map(PathBuf::as_path)).map_err(|error| {
        let paths: Vec<String> = paths.iter().map(|path| text::path(path)).collect();
        Failure::new(format!("cannot look at {}: {error}", paths.join(", ")))
    })?;
    Ok(makers.only_of_program())
}

/// The user's name; `None` for root, which nothing runs as that need not.
pub(super) fn user(folder: &Path, whose: &Whose) -> Done<Option<String>> {
    let uid = match whose {
        Err(reason) => return Err(not_one(folder, reason)),
        Ok(Maker::Root) => {
            say("the folder belongs to root: the app runs as a user of its own (--user to choose)");
            return Ok(None);
        }
        Ok(Maker::User(uid)) => *uid,
    };
    match User::numbered(uid)? {
        Some(user) => Ok(Some(user.name)),
        None => Err(Failure::new(format!(
            "{} belongs to user number {uid}, who has no name here; say as whom to run with --user",
            folder.display(),
        ))),
    }
}

/// Several users could choose the code, and each of them would choose it for the others.
pub(super) fn not_one(folder: &Path, reason: &str) -> Failure {
    Failure::new(format!(
        "it cannot be told as whom {} is to run, since several users could change what is there: \
         {reason}. Say whose code it is, with --user NAME; nothing was changed",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

    use super::*;

    /// Users that every Debian has.
    const DAEMON: u32 = 1;
    const BIN: u32 = 2;

    #[test]
    fn a_link_does_not_choose_who_runs_the_code_of_its_owner() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir_in("/root").unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("releases/1")).unwrap();
        fs::create_dir(at("home")).unwrap();
        symlink(at("releases/1"), at("home/current")).unwrap();
        let as_whom = |path: &str| look(&[at(path)]).and_then(|whose| user(&at(path), &whose));

        assert_eq!(as_whom("home/current").unwrap(), None, "all of it is root's");
        lchown(at("releases/1"), Some(DAEMON), None).unwrap();
        assert_eq!(as_whom("home/current").unwrap().as_deref(), Some("daemon"));
        assert_eq!(as_whom("releases/1").unwrap().as_deref(), Some("daemon"));
        // The link is another's, who can point it to their own code.
        lchown(at("home/current"), Some(BIN), None).unwrap();
        let failure = as_whom("home/current").unwrap_err();
        let said = failure.message;
        assert!(["daemon", "bin", "--user NAME"].iter().all(|word| said.contains(word)), "{said}");
        lchown(at("releases/1"), Some(0), None).unwrap();
        assert_eq!(as_whom("home/current").unwrap().as_deref(), Some("bin"), "theirs at most");
        assert!(as_whom("home/none").is_err());
    }

    #[test]
    fn nobody_runs_code_as_another_user_by_having_it_in_their_folder() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir_in("/root").unwrap();
        let app = root.path().join("app");
        let file = app.join("server.js");
        fs::create_dir(&app).unwrap();
        fs::write(&file, "").unwrap();
        lchown(&app, Some(DAEMON), None).unwrap();
        lchown(&file, Some(DAEMON), None).unwrap();
        let as_whom = || {
            let whose = look(&[app.clone(), file.clone()]).unwrap();
            user(&app, &whose).map_err(|failure| failure.message)
        };
        assert_eq!(as_whom().unwrap().as_deref(), Some("daemon"));
        lchown(&file, Some(BIN), None).unwrap();
        assert!(as_whom().unwrap_err().contains("server.js to bin"));
        // Where others can put files, they can put modules that the program loads.
        lchown(&file, Some(DAEMON), None).unwrap();
        fs::set_permissions(&app, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(as_whom().unwrap_err().contains("everybody may put files into"));
    }
}
