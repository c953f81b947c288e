//! Which releases an app has had: two lines, the present one and the one before.
//!
//! They are in a directory of root's, which is in one of the front's: so it is opened through no link,
//! and what is not root's is not believed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::release;
use crate::base::{file, paths};
use crate::config::settings::App;

/// The most that is read of it.
const MOST: u64 = 64 * 1024;

/// The release that was deployed last and is not the present one.
pub(crate) fn last(app: &App) -> Option<PathBuf> {
    let bytes = read(Path::new(paths::RELEASES), &app.name).ok()?;
    let present = release::current(app);
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| PathBuf::from(OsStr::from_bytes(line)))
        .find(|path| Some(path) != present.as_ref())
}

/// Notes what is deployed now, for a way back. Members of the group may deploy, but not write there:
/// without it the way back is by age.
pub(crate) fn remember(app: &App, release: Option<&Path>, previous: Option<&Path>) {
    let Some(release) = release else { return };
    let mut text = release.as_os_str().as_bytes().to_vec();
    if let Some(previous) = previous.filter(|previous| *previous != release) {
        text.push(b'\n');
        text.extend_from_slice(previous.as_os_str().as_bytes());
    }
    text.push(b'\n');
    let _ = write(Path::new(paths::RELEASES), &app.name, &text); // as said above
}

/// Forgets an app that is deleted: the next one of its name is another one.
pub(crate) fn forget(name: &str) {
    if let Ok(directory) = open(Path::new(paths::RELEASES)) {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty()); // it may have had none
    }
}

/// The directory; nobody else's, whatever its path leads to.
fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = rustix::fs::open(directory, flags, Mode::empty())?;
    let owner = rustix::fs::fstat(&own)?.st_uid;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(own)
}

fn read(directory: &Path, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(open(directory)?, name, flags, Mode::empty())?;
    file::content(&File::from(opened), MOST)
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let own = match open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            open(directory)?
        }
        other => other?,
    };
    let new = format!(".{name}.{}.new", std::process::id());
    match rustix::fs::unlinkat(&own, &*new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&own, &*new, flags, Mode::from_raw_mode(0o644))?);
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| rustix::fs::renameat(&own, &*new, &own, name).map_err(io::Error::from));
    written.inspect_err(|_| {
        let _ = rustix::fs::unlinkat(&own, &*new, AtFlags::empty());
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn it_is_kept_in_a_directory_of_ones_own_only() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        write(&at("releases"), "shop", b"/a\n").unwrap();
        write(&at("releases"), "shop", b"/b\n").unwrap();
        assert_eq!(read(&at("releases"), "shop").unwrap(), b"/b\n");
        assert_eq!(fs::read_dir(at("releases")).unwrap().count(), 1, "nothing is left behind");
        fs::create_dir(at("elsewhere")).unwrap();
        symlink("elsewhere", at("link")).unwrap();
        assert!(write(&at("link"), "shop", b"/a\n").is_err());
        if rustix::process::geteuid().is_root() {
            chown(at("elsewhere"), Some(4000), None).unwrap();
            assert!(write(&at("elsewhere"), "shop", b"/a\n").is_err());
        }
        assert_eq!(fs::read_dir(at("elsewhere")).unwrap().count(), 0);
    }
}
