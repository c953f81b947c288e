//! Whether a path is root's from end to end, so that root may read what is there for others.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Whether nobody but root can change what is at this path: every directory, link and file on the way
/// is root's, and nobody else may write to it. What is not there yet only root can make.
pub(super) fn is_roots(path: &Path) -> bool {
    is_of(path, 0)
}

fn is_of(path: &Path, user: u32) -> bool {
    let mut rest: VecDeque<OsString> = names(path).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    loop {
        let data = match fs::symlink_metadata(&at) {
            Ok(data) => data,
            Err(error) => return error.kind() == io::ErrorKind::NotFound,
        };
        // Everybody may write to a link, which means nothing.
        let is_link = data.is_symlink();
        if data.uid() != user || (!is_link && data.mode() & 0o022 != 0) {
            return false;
        }
        if is_link {
            links += 1;
            let Ok(target) = fs::read_link(&at) else { return false };
            if links > MOST_LINKS {
                return false;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(name);
            }
        }
        match rest.pop_front() {
            Some(name) if name == ".." => drop(at.pop()),
            Some(name) => at.push(name),
            None => return true,
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn paths_of_the_system_are_roots_and_others_are_not() {
        assert!(is_roots(Path::new("/etc/passwd")));
        assert!(is_roots(Path::new("/etc/no-such-directory/file")));
        assert!(!is_roots(Path::new("/tmp/file")), "everybody may write there");
    }

    #[test]
    fn one_link_or_directory_of_others_is_enough() {
        // Below a directory that only its owner can change, but for /tmp itself.
        if rustix::process::geteuid().as_raw() != 0 {
            return;
        }
        let root = tempfile::tempdir_in("/var/lib").unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("open")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path("file"), "").unwrap();
        fs::write(path("open/file"), "").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("/etc/../etc/passwd", path("far")).unwrap();
        symlink("open/file", path("bad")).unwrap();
        symlink("loop", path("loop")).unwrap();
        std::os::unix::fs::lchown(path("far"), Some(0), None).unwrap();
        for good in ["file", "link", "far", "missing", "../lib/missing"] {
            assert!(is_roots(&path(good)), "{good}");
        }
        for bad in ["open/file", "bad", "loop", "open/missing"] {
            assert!(!is_roots(&path(bad)), "{bad}");
        }
        std::os::unix::fs::lchown(path("link"), Some(1), None).unwrap();
        assert!(!is_roots(&path("link")));
    }
}
