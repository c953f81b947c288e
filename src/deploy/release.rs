//! Releases: an app's `directory` may be a link (`current → releases/42`), and each worker runs
//! what it led to when the worker started.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

/// The directory that a worker's process is in: the release that it runs. Root, and the user that
/// the worker runs as, may know.
pub fn of_process(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Where the app's directory leads to now.
pub fn current(directory: &Path) -> Option<PathBuf> {
    fs::canonicalize(directory).ok()
}

/// Why there is no way back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is no link.
    #[error(
        "{} is a directory, not a link to a release: there is nothing to go back to.\nMake it a \
         link to releases/42 or the like, and deploy by pointing it elsewhere.",
        .0.display()
    )]
    NoLink(PathBuf),
    /// There is no other release.
    #[error("there is no earlier release of {} to go back to; name one with --to", .0.display())]
    NoOther(PathBuf),
    /// What was named is no directory.
    #[error("{} is no directory", .0.display())]
    NotThere(PathBuf),
    /// What was named is not where the releases are.
    #[error(
        "{} is no release of this app: members of the group may go to the releases beside the \
         present one that belong to its owner or to root, and root to any",
        .0.display()
    )]
    NotBeside(PathBuf),
    /// The link cannot be read or changed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The link.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The release before the current one: `last`, if that is another one and still there; otherwise
/// the youngest among the older neighbours of the current one.
///
/// # Errors
/// When the directory is no link, or there is no other release.
pub fn previous(directory: &Path, last: Option<&Path>) -> Result<PathBuf, Error> {
    let failed = |source| Error::Io { path: directory.to_owned(), source };
    let link = fs::symlink_metadata(directory).map_err(failed)?;
    if !link.is_symlink() {
        return Err(Error::NoLink(directory.to_owned()));
    }
    let current = fs::canonicalize(directory).map_err(failed)?;
    if let Some(last) = last.filter(|last| **last != current && last.is_dir()) {
        return Ok(last.to_owned());
    }
    let none = || Error::NoOther(directory.to_owned());
    let age = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).map_err(failed);
    let mine = age(&current)?;
    let mut best: Option<(std::time::SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(current.parent().ok_or_else(none)?).map_err(failed)?.flatten() {
        let path = entry.path();
        // A link among them is `current` itself, or its like.
        if path == current || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let modified = age(&path)?;
        if modified <= mine && best.as_ref().is_none_or(|best| best.0 < modified) {
            best = Some((modified, path));
        }
    }
    best.map(|(_, path)| path).ok_or_else(none)
}

/// Checks that a release is one of those beside the current one, and that nobody put it there who
/// did not put the current one there: who may only choose among releases chooses no code.
///
/// # Errors
/// When it is not.
pub fn is_beside(directory: &Path, release: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { path: directory.to_owned(), source };
    let current = fs::canonicalize(directory).map_err(failed)?;
    let release_now = fs::canonicalize(release).map_err(failed)?;
    let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).map_err(failed);
    let owners = [owner(&current)?, 0];
    if release_now.parent() == current.parent() && owners.contains(&owner(&release_now)?) {
        return Ok(());
    }
    Err(Error::NotBeside(release.to_owned()))
}

/// Points the link at a release, at once for all who look.
///
/// # Errors
/// When the release is no directory, or the link cannot be changed.
pub fn switch(directory: &Path, release: &Path) -> Result<(), Error> {
    if !release.is_dir() {
        return Err(Error::NotThere(release.to_owned()));
    }
    let failed = |source| Error::Io { path: directory.to_owned(), source };
    if !fs::symlink_metadata(directory).map_err(failed)?.is_symlink() {
        return Err(Error::NoLink(directory.to_owned()));
    }
    // Relative where it was: the whole tree may be mounted elsewhere, too.
    let was_relative = fs::read_link(directory).map_err(failed)?.is_relative();
    let parent = directory.parent().unwrap_or(Path::new("/"));
    let parent = fs::canonicalize(parent).map_err(failed)?;
    let to = match release.strip_prefix(&parent) {
        Ok(relative) if was_relative => relative,
        _ => release,
    };
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let new = directory.with_file_name(format!(".{name}.{}.new", std::process::id()));
    symlink(to, &new).and_then(|()| fs::rename(&new, directory)).map_err(|error| {
        let _ = fs::remove_file(&new);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (age, name) in [(30, "1"), (20, "2"), (10, "3")] {
            let path = root.path().join("releases").join(name);
            fs::create_dir_all(&path).unwrap();
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::open(&path).unwrap().set_modified(then).unwrap();
        }
        symlink("releases/2", root.path().join("current")).unwrap();
        root
    }

    #[test]
    fn the_way_back_is_what_ran_last_or_else_the_next_older_one() {
        let root = releases();
        let link = root.path().join("current");
        let release =
            |name: &str| fs::canonicalize(root.path().join("releases")).unwrap().join(name);
        assert_eq!(previous(&link, None).unwrap(), release("1"));
        assert_eq!(previous(&link, Some(&release("3"))).unwrap(), release("3"));
        assert_eq!(previous(&link, Some(&release("2"))).unwrap(), release("1"), "it is current");
        assert_eq!(previous(&link, Some(&release("gone"))).unwrap(), release("1"));
        switch(&link, &release("1")).unwrap();
        assert!(matches!(previous(&link, None), Err(Error::NoOther(_))));
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("releases/1"), "it stays relative");
    }

    #[test]
    fn members_go_to_neighbours_only() {
        let root = releases();
        let link = root.path().join("current");
        let at = |path: &str| root.path().join(path);
        is_beside(&link, &at("releases/1")).unwrap();
        symlink("/etc", at("releases/9")).unwrap();
        fs::create_dir(at("other")).unwrap();
        for elsewhere in ["other", "releases", "releases/9", "releases/none", ".", "releases/.."] {
            assert!(is_beside(&link, &at(elsewhere)).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn a_plain_directory_has_no_way_back() {
        let root = releases();
        let plain = root.path().join("releases/1");
        let error = previous(&plain, None).unwrap_err();
        assert!(matches!(error, Error::NoLink(_)), "{error}");
        assert!(switch(&plain, &root.path().join("releases/2")).is_err());
        assert!(switch(&root.path().join("current"), &root.path().join("no")).is_err());
    }
}
