//! Releases: an app's `directory` may be a link (`current → releases/42`), and each worker runs
//! what it led to when the worker started.
//!
//! The link is its owner's, and so is the folder that it is in: whoever swaps it as root does so
//! with the owner's rights, by the folder's descriptor, and swaps nothing but that link.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::base::origin::{self, Maker, Makers};
use crate::base::rights::Rights;
use crate::base::text;
use crate::config::machine;
use crate::config::settings::App;

/// The directory that a worker's process is in: the release that it runs. Only root may know.
pub(crate) fn of_process(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Where the app's directory leads to now, as far as its user can go.
pub(crate) fn current(app: &App) -> Option<PathBuf> {
    machine::leads_to(app, app.directory.as_deref()?).ok()
}

/// Why there is no way back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleaseError {
    /// The directory is no link.
    #[error(
        "{} is a directory, not a link to a release: there is nothing to go back to.\nMake it a \
         link to releases/42 or the like, and deploy by pointing it elsewhere.",
        text::path(.0)
    )]
    NoLink(PathBuf),
    /// There is no other release.
    #[error("there is no earlier release of {} to go back to; name one with --to", text::path(.0))]
    NoOther(PathBuf),
    /// What was named is no directory.
    #[error("{} is no directory", text::path(.0))]
    NotThere(PathBuf),
    /// What was named is not where the releases are, or not there at all: who may not go there is not
    /// told which.
    #[error(
        "{} is no release that members of the group may go to: those are beside the present one, and \
         nobody owns them, or may write there, who may not in the present one. Ask root",
        text::path(.0)
    )]
    NotBeside(PathBuf),
    /// Others have a hand in it.
    #[error(
        "{} is gone, or others than those who have made the present release may change it",
        text::path(.0)
    )]
    NotLike(PathBuf),
    /// It is not where the releases are.
    #[error(
        "{} is not beside the present release, nor below the folder of the link {}: to have it all \
         the same, point the link there yourself, and run roundsman reload",
        text::path(release),
        text::path(link)
    )]
    Elsewhere {
        /// What was named.
        release: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// Several users could have made the link, and none of them is asked for the others.
    #[error(
        "root does not touch the link {}, since it cannot be told whose it is: {reason}. Point it to \
         the release yourself, and run roundsman reload",
        text::path(link)
    )]
    Whose {
        /// The link.
        link: PathBuf,
        /// Who could have made it.
        reason: String,
    },
    /// The link cannot be read or changed.
    #[error("{}: {source}", text::path(path))]
    Io {
        /// The link.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The release before the current one: `last`, if that is another one and still there; otherwise
/// the youngest among the older neighbours of the current one. Neither if anybody has had a hand in it
/// who has none in the current one.
///
/// # Errors
/// When the directory is no link, or there is no other release.
pub(crate) fn previous(directory: &Path, last: Option<&Path>) -> Result<PathBuf, ReleaseError> {
    with_rights_of_owner(directory, || look_back(directory, last))
}

fn look_back(directory: &Path, last: Option<&Path>) -> Result<PathBuf, ReleaseError> {
    let failed = |source| ReleaseError::Io { path: directory.to_owned(), source };
    let link = fs::symlink_metadata(directory).map_err(failed)?;
    if !link.is_symlink() {
        return Err(ReleaseError::NoLink(directory.to_owned()));
    }
    let current = fs::canonicalize(directory).map_err(failed)?;
    let makers = origin::of(directory).map_err(failed)?;
    if let Some(last) = last.filter(|last| **last != current && is_like(last, &makers)) {
        return Ok(last.to_owned());
    }
    let none = || ReleaseError::NoOther(directory.to_owned());
    let age = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).map_err(failed);
    let mine = age(&current)?;
    let mut best: Option<(std::time::SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(current.parent().ok_or_else(none)?).map_err(failed)?.flatten() {
        let path = entry.path();
        // A link among them is `current` itself, or its like.
        if path == current || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Ok(modified) = age(&path) else { continue };
        let is_better = best.as_ref().is_none_or(|best| best.0 < modified);
        if modified <= mine && is_better && is_like(&path, &makers) {
            best = Some((modified, path));
        }
    }
    best.map(|(_, path)| path).ok_or_else(none)
}

/// Whether a directory may take the place of the present release: nobody has had, or may have, a hand
/// in it who has none in that.
fn is_like(release: &Path, present: &Makers) -> bool {
    release.is_dir()
        && origin::of(release).is_ok_and(|makers| makers.nobody_beyond(present).is_ok())
}

/// The release that a deploy goes back to by itself, if that is still what it was.
///
/// # Errors
/// When somebody else has a hand in it by now.
pub(crate) fn still(directory: &Path, release: &Path) -> Result<(), ReleaseError> {
    with_rights_of_owner(directory, || {
        let failed = |source| ReleaseError::Io { path: directory.to_owned(), source };
        let present = origin::of(directory).map_err(failed)?;
        let is_like = is_like(release, &present);
        if is_like { Ok(()) } else { Err(ReleaseError::NotLike(release.to_owned())) }
    })
}

/// The release that is meant by a path, if it is one of those beside the current one, and nobody put
/// it there who did not put the current one there: who may only choose among releases chooses no
/// code. The path is looked up only where it says, as text, that it is beside the current one: who
/// may only choose learns of nothing else whether it is there.
///
/// # Errors
/// When it is not, or not there.
pub(crate) fn beside(directory: &Path, release: &Path) -> Result<PathBuf, ReleaseError> {
    with_rights_of_owner(directory, || look_beside(directory, release))
}

fn look_beside(directory: &Path, release: &Path) -> Result<PathBuf, ReleaseError> {
    let failed = |source| ReleaseError::Io { path: directory.to_owned(), source };
    let no = || ReleaseError::NotBeside(release.to_owned());
    let current = fs::canonicalize(directory).map_err(failed)?;
    // What the link says, and what that leads to, are both names of the folder with the releases.
    let said =
        fs::read_link(directory).map(|to| directory.parent().unwrap_or(Path::new("/")).join(to));
    let said = said.ok().and_then(|said| said.parent().map(Path::to_owned));
    let folder = current.parent().ok_or_else(no)?;
    let (above, name) = release.parent().zip(release.file_name()).ok_or_else(no)?;
    if above != folder && Some(above) != said.as_deref() {
        return Err(no());
    }
    let found = folder.join(name);
    let makers = origin::of(directory).map_err(failed)?;
    // A link leads anywhere.
    let is_link = fs::symlink_metadata(&found).map_err(|_| no())?.is_symlink();
    if !is_link && is_like(&found, &makers) { Ok(found) } else { Err(no()) }
}

/// Points the link at a release, at once for all who look.
///
/// # Errors
/// When the release is no directory or not where releases are, or the link cannot be changed.
pub(crate) fn switch(directory: &Path, release: &Path) -> Result<(), ReleaseError> {
    with_rights_of_owner(directory, || swap(directory, release))
}

/// Does something about the link with the rights of the one who could have made it.
fn with_rights_of_owner<T: Send>(
    directory: &Path,
    work: impl FnOnce() -> Result<T, ReleaseError> + Send,
) -> Result<T, ReleaseError> {
    if !rustix::process::geteuid().is_root() {
        return work();
    }
    let failed = |source| ReleaseError::Io { path: directory.to_owned(), source };
    let folder = directory.parent().unwrap_or(Path::new("/"));
    let makers = origin::of(folder).map_err(failed)?;
    // A group that deploys together may write to the folder, and can swap the link anyway.
    let maker = makers
        .only_but_for_the_group_of(&makers.leads_to)
        .map_err(|reason| ReleaseError::Whose { link: directory.to_owned(), reason })?;
    let rights = match maker {
        Maker::Root => return work(),
        Maker::User(uid) => Rights::of_owner(uid).map_err(failed)?,
    };
    rights.with(work).map_err(failed)?
}

fn swap(directory: &Path, release: &Path) -> Result<(), ReleaseError> {
    if !release.is_dir() {
        return Err(ReleaseError::NotThere(release.to_owned()));
    }
    let failed = |source| ReleaseError::Io { path: directory.to_owned(), source };
    let whose =
        |reason: &str| ReleaseError::Whose { link: directory.to_owned(), reason: reason.into() };
    let name = directory.file_name().ok_or_else(|| ReleaseError::NoLink(directory.to_owned()))?;
    let (folder, place) = open_folder(directory).map_err(failed)?;
    let at = |errno: rustix::io::Errno| failed(errno.into());
    let link = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at)?;
    if !FileType::from_raw_mode(link.st_mode).is_symlink() {
        return Err(ReleaseError::NoLink(directory.to_owned()));
    }
    let own = [0, rustix::fs::fstat(&folder).map_err(at)?.st_uid];
    if rustix::process::geteuid().is_root() && !own.contains(&link.st_uid) {
        return Err(whose("it belongs to another user than its folder"));
    }
    let present = rustix::fs::readlinkat(&folder, name, Vec::new()).map_err(at)?;
    let present = Path::new(OsStr::from_bytes(present.as_bytes()));
    let release = fs::canonicalize(release).map_err(failed)?;
    // Beside the present one, as releases are, or below the link's own folder.
    let beside = fs::canonicalize(place.join(present)).ok();
    let beside = beside.as_deref().and_then(Path::parent).filter(|above| above.parent().is_some());
    if !release.starts_with(&place) && !beside.is_some_and(|beside| release.starts_with(beside)) {
        return Err(ReleaseError::Elsewhere { release, link: directory.to_owned() });
    }
    // Relative where it was: the whole tree may be mounted elsewhere, too.
    let to = match release.strip_prefix(&place) {
        Ok(relative) if present.is_relative() => relative,
        _ => &release,
    };
    let new = format!(".{}.{}.new", name.to_string_lossy(), std::process::id());
    let swapped = rustix::fs::symlinkat(to, &folder, &*new)
        .and_then(|()| rustix::fs::renameat(&folder, &*new, &folder, name));
    swapped.map_err(|error| {
        let _ = rustix::fs::unlinkat(&folder, &*new, AtFlags::empty());
        at(error)
    })
}

/// The folder that the link is in, which stays the same whatever its path leads to by now; and where
/// that is.
fn open_folder(directory: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let place = fs::canonicalize(directory.parent().unwrap_or(Path::new("/")))?;
    Ok((rustix::fs::open(&place, flags, Mode::empty())?, place))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
        assert!(matches!(previous(&link, None), Err(ReleaseError::NoOther(_))));
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("releases/1"), "it stays relative");
    }

    #[test]
    fn members_go_to_neighbours_only() {
        let root = releases();
        let link = root.path().join("current");
        let at = |path: &str| root.path().join(path);
        let first = fs::canonicalize(at("releases/1")).unwrap();
        for name in [&at("releases/1"), &at("releases/1/"), &first] {
            assert_eq!(beside(&link, name).unwrap(), first);
        }
        symlink("/etc", at("releases/9")).unwrap();
        fs::write(at("releases/file"), "").unwrap();
        fs::create_dir(at("other")).unwrap();
        // Whether it is there or not, the answer is the same.
        for elsewhere in [
            "other",
            "none",
            "other/none",
            "releases",
            "releases/9",
            "releases/9/passwd",
            "releases/none",
            "releases/file",
            ".",
            "releases/..",
            "releases/../other",
            "releases/../../..",
            "current",
        ] {
            let error = beside(&link, &at(elsewhere)).unwrap_err();
            assert!(matches!(error, ReleaseError::NotBeside(_)), "{elsewhere}: {error}");
        }
    }

    #[test]
    fn nobody_makes_a_release_of_anothers_app() {
        use std::os::unix::fs::{PermissionsExt as _, chown, lchown};
        let root = releases();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let at = |path: &str| fs::canonicalize(root.path()).unwrap().join(path);
        let mode = |path: &str, mode| {
            fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("", 0o755);
        for path in ["", "releases", "releases/1", "releases/2", "releases/3", "current"] {
            lchown(at(path), Some(4000), Some(4000)).unwrap();
        }
        let (link, first) = (at("current"), at("releases/1"));
        let ways = || {
            let found = [
                previous(&link, None),
                previous(&link, Some(&first)),
                beside(&link, &first),
                still(&link, &first).map(|()| first.clone()),
            ];
            found.map(|found| found.ok() == Some(first.clone()))
        };
        assert_eq!(ways(), [true; 4]);
        // Made by another user, as in a folder where everybody may make things.
        mode("releases", 0o1777);
        chown(&first, Some(4001), None).unwrap();
        assert_eq!(ways(), [false; 4]);
        // Or where others may put their code.
        chown(&first, Some(4000), None).unwrap();
        for open in [0o777, 0o1777, 0o775] {
            mode("releases/1", open);
            assert_eq!(ways(), [false; 4], "{open:o}");
        }
        mode("releases/1", 0o755);
        assert_eq!(ways(), [true; 4]);
    }

    #[test]
    fn a_plain_directory_has_no_way_back() {
        let root = releases();
        let plain = root.path().join("releases/1");
        let error = previous(&plain, None).unwrap_err();
        assert!(matches!(error, ReleaseError::NoLink(_)), "{error}");
        assert!(switch(&plain, &root.path().join("releases/2")).is_err());
        assert!(switch(&root.path().join("current"), &root.path().join("no")).is_err());
    }

    #[test]
    fn only_a_release_is_gone_back_to() {
        let (root, other) = (releases(), releases());
        let link = root.path().join("current");
        let error = switch(&link, &other.path().join("releases/1")).unwrap_err();
        assert!(matches!(error, ReleaseError::Elsewhere { .. }), "{error}");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("releases/2"));
        // Releases elsewhere, of which the link has one already.
        fs::remove_file(&link).unwrap();
        symlink(other.path().join("releases/2"), &link).unwrap();
        switch(&link, &other.path().join("releases/1")).unwrap();
        assert_eq!(
            fs::canonicalize(&link).unwrap(),
            fs::canonicalize(other.path().join("releases/1")).unwrap()
        );
    }

    #[test]
    fn root_swaps_a_link_as_the_one_whose_it_is() {
        use std::os::unix::fs::{MetadataExt as _, lchown};
        let root = releases();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let link = root.path().join("current");
        for path in [root.path(), &root.path().join("releases"), &link] {
            lchown(path, Some(4000), Some(4000)).unwrap();
        }
        fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        switch(&link, &root.path().join("releases/1")).unwrap();
        assert_eq!(fs::symlink_metadata(&link).unwrap().uid(), 4000);
        // Where two could have made it, it is neither's.
        lchown(root.path(), Some(4001), None).unwrap();
        let below = root.path().join("releases/link");
        symlink("1", &below).unwrap();
        let error = switch(&below, &root.path().join("releases/2")).unwrap_err();
        assert!(matches!(error, ReleaseError::Whose { .. }), "{error}");
    }
}
