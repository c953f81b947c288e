//! Writing configuration files: a new one, or another text for one that is there, which stays where
//! it is, whose it is, and as open or closed as it is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::origin;

/// The mode of a file that everybody may read.
pub(crate) const OPEN: u32 = 0o644;

/// The mode of a file that only its owner may read.
pub(crate) const SECRET: u32 = 0o600;

/// Whether [`replace`] would find its way, so that nothing is begun which it could not end.
///
/// # Errors
/// When it would not.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    target(path).map(drop).map_err(|error| context(path, &error))
}

fn context(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}

/// Writes a configuration file that others see either as it was or as it will be. A new one gets
/// this mode; one that is there keeps its owner, its group and its mode; and a link that leads to
/// one stays a link, if nobody but root could have made it lead there.
///
/// # Errors
/// When it cannot be written so.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode_of_new: u32) -> io::Result<()> {
    let context = |error: io::Error| context(path, &error);
    let at = target(path).map_err(context)?;
    let present = match fs::symlink_metadata(&at) {
        Ok(data) if data.is_file() => Some(data),
        Ok(_) => return Err(context(io::Error::other("it is no regular file"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(context(error)),
    };
    let name = at.file_name().unwrap_or_default().to_string_lossy();
    // Not `.toml` at the end, so nobody takes it for configuration.
    let new = at.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let _ = fs::remove_file(&new); // of a process with our number that was killed
    let write = || {
        // Closed until it is as it is to be.
        let mut file = OpenOptions::new().create_new(true).write(true).mode(SECRET).open(&new)?;
        like(&file, present.as_ref(), mode_of_new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &at)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&new);
        context(error)
    })
}

/// Gives a new file the owner, the group and the mode of the present one.
fn like(file: &File, present: Option<&fs::Metadata>, mode_of_new: u32) -> io::Result<()> {
    let Some(present) = present else {
        return file.set_permissions(Permissions::from_mode(mode_of_new));
    };
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (present.uid(), present.gid()) {
        fchown(file, Some(present.uid()), Some(present.gid())).map_err(|error| {
            let reason = format!("its owner and group cannot be kept: {error}");
            io::Error::new(error.kind(), reason)
        })?;
    }
    file.set_permissions(Permissions::from_mode(present.mode() & 0o777))
}

/// Where the file is: at the end of the link, if it is one.
fn target(path: &Path) -> io::Result<PathBuf> {
    if !fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink()) {
        return Ok(path.to_owned());
    }
    let refused = |reason: String| {
        let reason = format!(
            "it is a link, {reason}. Put the file itself here, or keep it where only root writes"
        );
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    };
    let makers =
        origin::of(path).map_err(|error| refused(format!("and leads nowhere: {error}")))?;
    makers.trusted().map_err(|reason| {
        refused(format!("and others decide where it leads and what is there: {reason}"))
    })?;
    Ok(makers.leads_to)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_file_that_is_there_stays_as_open_and_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.toml");
        replace(&path, b"one", OPEN).unwrap();
        assert_eq!(mode(&path), 0o644);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            chown(&path, Some(4000), Some(4001)).unwrap();
        }
        replace(&path, b"two", OPEN).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"two"[..], 0o640));
        let data = fs::metadata(&path).unwrap();
        assert!(!root || (data.uid(), data.gid()) == (4000, 4001));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
        let secret = directory.path().join("shop.env");
        replace(&secret, b"", SECRET).unwrap();
        assert_eq!(mode(&secret), 0o600);
        assert!(replace(directory.path(), b"", OPEN).is_err());
    }

    #[test]
    fn a_link_stays_one_where_nobody_else_made_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir_in("/root").unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("kept")).unwrap();
        fs::write(at("kept/shop.toml"), "one").unwrap();
        symlink("kept/shop.toml", at("link")).unwrap();
        replace(&at("link"), b"two", OPEN).unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read(at("kept/shop.toml")).unwrap(), b"two");
        chown(at("kept"), Some(4000), None).unwrap();
        let error = replace(&at("link"), b"three", OPEN).unwrap_err().to_string();
        assert!(error.contains("kept belongs to"), "{error}");
        symlink("nowhere", at("dangling")).unwrap();
        assert!(replace(&at("dangling"), b"", OPEN).is_err());
        assert_eq!(fs::read(at("kept/shop.toml")).unwrap(), b"two");
    }
}
