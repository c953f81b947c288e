//! Reading files that others may have a hand in, and writing files that others read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// What a symbolic link at the end of a path is. Where somebody else may write to a directory on
/// the way, this says nothing of the links there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// It leads to the file: the administrator has put it there.
    Follow,
    /// An error: somebody else may have put it there.
    Refuse,
}

/// What the kernel says in a file of `/proc`: names in it are as anybody has chosen them, and need be no text.
pub(crate) fn of_kernel(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// Opens a regular file for reading. Nothing else is opened, whatever a link leads to: to open a
/// device, or a FIFO, does something already.
///
/// # Errors
/// When it is none, or cannot be opened.
pub(crate) fn open(path: &Path, links: Links) -> io::Result<File> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    // Only the place; what is there stays the same from here on.
    let place = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
    if kind.is_symlink() {
        return Err(rustix::io::Errno::LOOP.into());
    }
    if !kind.is_file() {
        return Err(not_regular());
    }
    // A lease may block, too.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(again);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let why = "another process keeps everybody from reading it for now (fcntl, F_SETLEASE)";
            io::Error::new(io::ErrorKind::WouldBlock, why)
        }
        _ => error,
    })
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// The whole content of a regular file.
///
/// # Errors
/// When it is none, cannot be read, or has more than `most` bytes.
pub(crate) fn content(file: &File, most: u64) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(not_regular());
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let error = format!("it is larger than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
    }
    Ok(bytes)
}

/// Reads a file that others may have tampered with: it is a regular one, nothing blocks, and it has
/// at most `most` bytes.
///
/// # Errors
/// When it is not so, or it cannot be read.
pub(crate) fn read(path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    content(&open(path, links)?, most)
}

/// The same for text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub(crate) fn read_text(path: &Path, links: Links, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, links, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a file that others see either as it was or as it will be.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let context = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Not `.toml` at the end, so nobody takes it for configuration.
    let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let _ = fs::remove_file(&new); // of a process with our number that was killed
    let write = || {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
        file.set_permissions(Permissions::from_mode(mode))?; // whatever the umask
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&new);
        context(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(read_text(&at("file"), Links::Refuse, 4).unwrap(), "text");
        assert_eq!(read_text(&at("link"), Links::Follow, 4).unwrap(), "text");
        let kind = |name: &str| read(&at(name), Links::Refuse, 3).unwrap_err().kind();
        assert_eq!(kind("file"), io::ErrorKind::FileTooLarge);
        assert_eq!(kind("fifo"), io::ErrorKind::InvalidInput, "and it did not block");
        assert_eq!(kind(""), io::ErrorKind::InvalidInput, "a directory");
        assert_eq!(kind("none"), io::ErrorKind::NotFound);
        let link = read(&at("link"), Links::Refuse, 4).unwrap_err();
        assert_eq!(link.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn what_is_no_file_is_not_even_opened() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        symlink("fifo", directory.path().join("link")).unwrap();
        let met = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::NONBLOCK).unwrap();
        let opened = rustix::fs::inotify::WatchFlags::OPEN;
        rustix::fs::inotify::add_watch(&met, &fifo, opened).unwrap();
        assert!(open(&directory.path().join("link"), Links::Follow).is_err());
        let mut events = [0_u8; 256];
        let none = rustix::io::read(&met, &mut events).unwrap_err();
        assert_eq!(none, rustix::io::Errno::AGAIN, "it was opened");
    }

    #[test]
    fn a_file_that_somebody_keeps_from_others_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "text").unwrap();
        let keep = "import fcntl, signal, sys\n\
            signal.signal(signal.SIGIO, lambda *_: None)\n\
            file = open(sys.argv[1], 'r+')\n\
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
            print('kept', flush=True)\n\
            sys.stdin.read()";
        let mut keeper = std::process::Command::new("python3")
            .args(["-c", keep])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = [0; 4];
        keeper.stdout.take().unwrap().read_exact(&mut told).unwrap();
        // The kernel would wait 45 seconds for who keeps it.
        let error = read(&path, Links::Follow, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_atomically(&path, b"one", 0o644).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
        assert!(write_atomically(&path.join("below"), b"", 0o600).is_err());
    }
}
