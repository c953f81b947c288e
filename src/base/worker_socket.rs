//! Connecting to the sockets in a worker's runtime directory.
//!
//! The directory is its app's, so the app's user can put anything in the place of a socket: a link
//! to another app's, or to one that only root or the front may speak to. Whoever connects speaks
//! with rights of its own, and means this worker.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use tokio::net::UnixStream as AsyncStream;

use super::dial;
use super::paths;
use super::peer::{Peer, Standing};
use super::unit::Instance;
use crate::sys;

/// For whoever may not do what it asks for.
pub(crate) const MEMBERS_ONLY: &str = "only root and members of the group roundsman may do this";

/// A socket that is held, so that nobody can put another one in its place before it is connected to.
#[derive(Debug)]
pub(crate) struct Held {
    socket: OwnedFd,
}

// === impl Held ===

impl Held {
    /// The socket at this path, and not what a link there leads to.
    ///
    /// # Errors
    /// When there is nothing, or something else.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = open(path, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&socket)?.st_mode) == FileType::Socket {
            Ok(Self { socket })
        } else {
            Err(refused("it is a link, or no socket"))
        }
    }

    /// Where it is for this process.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.socket.as_raw_fd()))
    }
}

/// Connects to a control socket. Reading and writing have the same limit, each time.
///
/// # Errors
/// As [`dial::within`], and when it is not its worker's own: that is
/// [`io::ErrorKind::PermissionDenied`].
pub(crate) fn control(limit: Duration, path: &Path) -> io::Result<UnixStream> {
    let held = Held::at(path)?;
    let stream = dial::within(limit, &held.path())?;
    check(&stream, path)?;
    Ok(stream)
}

/// The same for those who have a runtime. Reading and writing have no limit.
///
/// # Errors
/// As [`control`].
pub(crate) async fn control_async(limit: Duration, path: &Path) -> io::Result<AsyncStream> {
    let held = Held::at(path)?;
    let stream = dial::within_async(limit, &held.path()).await?;
    check(&stream, path)?;
    Ok(stream)
}

/// The same, and takes descriptors.
///
/// # Errors
/// As [`control`].
pub(crate) async fn control_with_descriptors(
    limit: Duration,
    path: &Path,
) -> io::Result<AsyncStream> {
    let held = Held::at(path)?;
    let stream = dial::with_descriptors(limit, &held.path()).await?;
    check(&stream, path)?;
    Ok(stream)
}

/// Why somebody is not let into a worker's directory, where its control socket is; `None` where it is something
/// else that has failed.
pub(crate) fn denial(error: &io::Error) -> Option<&'static str> {
    let is_denied = error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
    is_denied.then_some(MEMBERS_ONLY)
}

/// Connects to where a server listens: for an app that binds a socket of its own that is in its
/// worker's directory, too. What the administrator has named elsewhere may be a link.
///
/// # Errors
/// As for any connection, and when in a worker's directory there is a link, or a socket of another
/// user's.
pub(crate) async fn server(path: &Path) -> io::Result<AsyncStream> {
    if !path.starts_with(paths::WORKERS) {
        return dial::at(path).await;
    }
    let held = Held::at(path)?;
    let stream = dial::at(&held.path()).await?;
    let owner = fs::metadata(path.parent().unwrap_or(path))?.uid();
    let listener = sys::peer_credentials(&stream)?.uid;
    if may_listen(owner, listener) {
        return Ok(stream);
    }
    Err(refused(&format!("user {listener} listens there, and the directory is user {owner}'s")))
}

/// Whether this user can be the app's whose directory it is. In one of root's nobody but root puts
/// anything. A user who is mapped to nobody is nobody there, too.
fn may_listen(owner: u32, listener: u32) -> bool {
    owner == 0 || listener == owner
}

/// Whether the worker that this socket is for listens there.
fn check(stream: impl AsFd, path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let peer = Peer::of(stream)?;
    let is_owner = fs::metadata(directory)?.uid() == peer.uid;
    let meant = worker_of(directory);
    let found = peer.standing_near(meant.as_ref());
    if is_it(meant.as_ref(), &found, is_owner) {
        return Ok(());
    }
    let who = match found {
        Standing::Worker(worker) => worker.to_string(),
        Standing::Nobody => "nobody any more".to_owned(),
        Standing::Elsewhere | Standing::Confined | Standing::Hidden => {
            format!("a process of user {}", peer.uid)
        }
    };
    Err(refused(&format!("{who} listens there, which is not this worker")))
}

/// The worker whose directory this is, where systemd has made it.
fn worker_of(directory: &Path) -> Option<Instance> {
    directory.strip_prefix(paths::WORKERS).ok()?.to_str()?.parse().ok()
}

/// The unit decides where it is known. Where it cannot be (and where there is no systemd), it is the
/// user whose directory it is; a user who is mapped to nobody is nobody there, too. Who has listened
/// and ended may have handed the socket to anybody.
fn is_it(meant: Option<&Instance>, found: &Standing, is_owner: bool) -> bool {
    match (meant, found) {
        (Some(meant), Standing::Worker(found)) => meant == found,
        (Some(_), Standing::Elsewhere | Standing::Confined) | (_, Standing::Nobody) => false,
        _ => is_owner,
    }
}

fn refused(why: &str) -> io::Error {
    let text = format!("{why}: somebody has put it in the place of the worker's socket");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_link_to_another_socket_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (own, link) = (directory.path().join("own"), directory.path().join("link"));
        let _listener = UnixListener::bind(&own).unwrap();
        symlink(&own, &link).unwrap();
        assert!(control(MOMENT, &own).is_ok() && control_async(MOMENT, &own).await.is_ok());
        for error in
            [control(MOMENT, &link).unwrap_err(), control_async(MOMENT, &link).await.unwrap_err()]
        {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("a link"), "{error}");
        }
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(Held::at(&directory.path().join("file")).is_err());
        let none = control(MOMENT, &directory.path().join("none")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_server_is_of_the_user_whose_directory_it_is_in() {
        assert!(may_listen(1001, 1001) && may_listen(0, 1001));
        assert!(!may_listen(1001, 0), "systemd, which holds the admin socket");
        assert!(!may_listen(1001, 1002), "another app");
    }

    #[test]
    fn a_socket_that_is_held_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let held = Held::at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        dial::within(MOMENT, &held.path()).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok());
    }

    #[test]
    fn the_unit_decides_and_else_the_user() {
        let (shop, users) = ("shop:1".parse().unwrap(), "users:1".parse().unwrap());
        let directory = Path::new(paths::WORKERS).join("shop:1");
        assert_eq!(worker_of(&directory).as_ref(), Some(&shop));
        assert_eq!(worker_of(Path::new("/tmp/shop:1")), None);
        let worker = |worker: &Instance| Standing::Worker(worker.clone());
        assert!(is_it(Some(&shop), &worker(&shop), true));
        assert!(!is_it(Some(&shop), &worker(&users), true), "two apps of one user");
        for other in [Standing::Elsewhere, Standing::Confined] {
            assert!(!is_it(Some(&shop), &other, true), "a service of another kind");
        }
        assert!(!is_it(Some(&shop), &Standing::Nobody, true), "it has ended");
        assert!(!is_it(None, &Standing::Nobody, true), "it has ended");
        for owner in [true, false] {
            assert_eq!(is_it(Some(&shop), &Standing::Hidden, owner), owner, "where it is hidden");
            assert_eq!(is_it(None, &Standing::Elsewhere, owner), owner, "without systemd");
        }
    }
}
