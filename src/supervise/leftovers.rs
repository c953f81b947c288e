//! What an app leaves in the directories that end with its worker.
//!
//! systemd removes them, but by going down as deep as they are, with a descriptor for each level: what is
//! deeper than it has descriptors stays for good, and with it what all workers share, the room of the file
//! system. So the unit empties them before: each level comes up to the top, and depth costs nothing.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use tokio::time::Instant;

/// How long it may take: whoever makes files meanwhile, as a process of the same user may, is not waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where systemd makes a service's own `/tmp` and `/var/tmp`.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Removes what the worker left: in its own directory, and in its own temporary ones.
pub(crate) fn remove(workers: &Path, instance: &str) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut done = match open(rustix::fs::CWD, workers.join(instance).as_os_str()) {
        Ok(directory) => empty(&directory, until),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    };
    for temporary in TEMPORARY {
        done = done.and(remove_temporary(Path::new(temporary), instance, until));
    }
    Ok(done?)
}

/// The same for what `PrivateTmp=` made there, also before the last start.
fn remove_temporary(all: &Path, instance: &str, until: Instant) -> Result<(), Errno> {
    let all = match open(rustix::fs::CWD, all.as_os_str()) {
        Err(Errno::NOENT) => return Ok(()),
        all => all?,
    };
    for name in names(&all)? {
        if !is_private_to(name.to_bytes(), instance) {
            continue;
        }
        // Anybody may make a directory of that name here.
        let directory = open(&all, name.as_c_str());
        let of_root = |fd: &OwnedFd| rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_uid == 0);
        if let Ok(directory) = directory
            && of_root(&directory)
            && let Ok(inner) = open(&directory, c"tmp")
        {
            empty(&inner, until)?;
        }
    }
    Ok(())
}

/// Whether that is the name of a worker's own temporary directory: `systemd-private-BOOT-UNIT-RANDOM`.
fn is_private_to(name: &[u8], instance: &str) -> bool {
    let unit = format!("-roundsman-worker@{instance}.service-");
    let Some(rest) = name.strip_prefix(b"systemd-private-") else { return false };
    let Some((boot, rest)) = rest.split_at_checked(32) else { return false };
    let random = rest.strip_prefix(unit.as_bytes());
    boot.iter().all(u8::is_ascii_hexdigit)
        && random.is_some_and(|random| random.iter().all(u8::is_ascii_alphanumeric))
}

/// Opens a directory, and nothing that a link points to.
fn open(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes all that is in a directory, however deep.
fn empty(top: &OwnedFd, until: Instant) -> Result<(), Errno> {
    let mut number = 0_u64;
    loop {
        let names = names(top)?;
        if names.is_empty() {
            return Ok(());
        }
        let mut removed = false;
        for name in &names {
            if Instant::now() > until {
                return Err(Errno::TIMEDOUT);
            }
            removed |= remove_or_open(top.as_fd(), name)?.is_none_or(|directory| {
                level(&directory, top.as_fd(), &mut number, until).is_ok()
                    && rustix::fs::unlinkat(top, name.as_c_str(), AtFlags::REMOVEDIR).is_ok()
            });
        }
        if !removed {
            return Err(Errno::BUSY); // a file system is mounted there, or somebody makes files meanwhile
        }
    }
}

/// Removes what is in a directory, and brings to the top what is in a directory there.
fn level(
    directory: &OwnedFd,
    top: BorrowedFd<'_>,
    number: &mut u64,
    until: Instant,
) -> Result<(), Errno> {
    for name in names(directory)? {
        if Instant::now() > until {
            return Err(Errno::TIMEDOUT);
        }
        if remove_or_open(directory.as_fd(), &name)?.is_none() {
            continue;
        }
        loop {
            *number += 1;
            let new = format!(".{number}");
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(directory, name.as_c_str(), top, &new, flags) {
                Err(Errno::EXIST) => {}
                moved => break moved?,
            }
        }
    }
    Ok(())
}

/// Removes a file or an empty directory; any other directory is returned.
fn remove_or_open(at: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTEMPTY | Errno::EXIST) => open(at, name).map(Some),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Directories in one another, far deeper than a path may be, or than there are descriptors.
    fn dig(directory: &Path, depth: usize) {
        let mut at = open(rustix::fs::CWD, directory).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, "a", Mode::RWXU).unwrap();
            at = open(&at, "a").unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&at, "file", flags, Mode::RUSR).unwrap();
    }

    #[test]
    fn any_depth_is_removed_and_nothing_beside_it() {
        // In memory, as `/run` is: a disk may take its time.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (worker, other) = (root.path().join("shop:1"), root.path().join("other"));
        fs::create_dir_all(worker.join("b/c/d")).unwrap();
        fs::create_dir_all(worker.join("b/e")).unwrap();
        fs::create_dir(worker.join(".1")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        fs::write(worker.join("b/c/file"), "").unwrap();
        symlink(&other, worker.join("link")).unwrap();
        symlink(&other, worker.join("b/c/link")).unwrap();
        dig(&worker, 2500);
        dig(&worker.join("b/e"), 1500);
        let until = Instant::now() + 30 * PATIENCE;
        empty(&open(rustix::fs::CWD, &worker).unwrap(), until).unwrap();
        assert_eq!(fs::read_dir(&worker).unwrap().count(), 0);
        assert!(other.join("kept").exists(), "links lead nowhere");
        remove(root.path(), "gone:1").unwrap();
    }

    #[test]
    fn a_workers_temporary_directory_is_known_by_its_whole_name() {
        let boot = "0123456789abcdef0123456789abcdef";
        let name = |unit| format!("systemd-private-{boot}-roundsman-worker@{unit}.service-Ab12Cd");
        assert!(is_private_to(name("shop:1").as_bytes(), "shop:1"));
        for other in [
            name("shop:11"),
            name("shop:1").replace(boot, "0123"),
            name("shop:1").replace("Ab12Cd", "x-roundsman-worker@shop:1.service-y"),
            "systemd-private-".to_owned(),
        ] {
            assert!(!is_private_to(other.as_bytes(), "shop:1"), "{other}");
        }
    }
}
