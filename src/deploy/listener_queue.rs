//! What waits at a worker's UNIX listener when systemd is about to close it.
//!
//! With a listener the connections in its queue are closed, and with them the descriptors that somebody has sent over
//! them, by systemd's own process. An app that has put there what takes long to close (a connection that
//! lingers, a file of very many pieces) would have that process do nothing else meanwhile. So a process of ours
//! takes them out, when nobody can add to them any more.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags, accept_with, getsockname, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::sockets;
use crate::base::paths;
use crate::base::user::{self, ROUNDSMAN, User};
use crate::config::settings::App;
use crate::sys;

/// To which nobody but root may connect: who owns it may change that, so it is root's.
const SHUT: u32 = 0o600;

/// How long taking may last: what is left of the app, if anything, may have the listener, too, and could have it
/// wait for a connection that never comes.
const LIMIT: Duration = Duration::from_secs(10);

/// Takes what waits at a listener of systemd's process that it is about to close, and lets nobody connect any
/// more: the last thing that a process does. It closes that when it ends, and then without waiting for anybody's
/// far end.
pub(crate) fn empty(systemd: u32, path: &Path) -> io::Result<()> {
    shut(path)?;
    sys::end_after(LIMIT);
    take(systemd, path)?;
    Ok(())
}

/// Keeps everybody but root from connecting.
fn shut(path: &Path) -> io::Result<()> {
    lchown(path, Some(0), Some(0))?;
    fs::set_permissions(path, Permissions::from_mode(SHUT)) // root's now, so it is no link
}

/// Lets in again who may connect by the drop-in of the socket, where systemd has been told meanwhile not to close it.
pub(crate) fn open_again(app: &App, number: u16) -> io::Result<()> {
    let path = paths::inherited_socket(&app.name, number);
    let Ok(found) = fs::symlink_metadata(&path) else { return Ok(()) };
    if (found.uid(), found.mode() & 0o777) != (0, SHUT) {
        return Ok(());
    }
    let owner = app.user.as_deref().map(User::named).transpose()?.flatten();
    let mode = if owner.is_some() { 0o660 } else { 0o666 };
    fs::set_permissions(&path, Permissions::from_mode(mode))?;
    lchown(&path, owner.map(|user| user.uid), user::group(ROUNDSMAN)?)
}

/// Takes out of a listener's queue what is in it, and returns how much that was. It is left open, so that this
/// process does not wait, either.
fn take(process: u32, path: &Path) -> io::Result<usize> {
    let of_systemd = Path::new("/proc").join(process.to_string());
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("systemd has no number here"))?;
    let mut taken = 0;
    for number in sockets::listeners_of(&of_systemd, path)? {
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let listener = pidfd_getfd(process, number, PidfdGetfdFlags::empty())?;
        if listens_at(&listener, path) {
            taken += take_all(&listener)?;
        }
    }
    Ok(taken)
}

/// Whether it is what was looked for: of a descriptor the kernel says it, and nobody else.
fn listens_at(socket: &OwnedFd, path: &Path) -> bool {
    let is_there = || -> Result<bool, Errno> {
        let name = SocketAddrUnix::try_from(getsockname(socket)?)?;
        let is_it = name.path_bytes() == Some(path.as_os_str().as_bytes());
        Ok(is_it && sockopt::socket_acceptconn(socket)?)
    };
    is_there().unwrap_or(false)
}

fn take_all(listener: &OwnedFd) -> io::Result<usize> {
    rustix::io::ioctl_fionbio(listener, true)?;
    let next = || -> Result<OwnedFd, Errno> { accept_with(listener, SocketFlags::CLOEXEC) };
    let mut taken = 0;
    loop {
        match next() {
            Ok(connection) => {
                let _ = connection.into_raw_fd();
                taken += 1;
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => return Ok(taken),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn nothing_waits_any_more_at_a_listener_of_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let _clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(take(std::process::id(), &path).unwrap(), 3);
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "and it waits for nobody");
        assert_eq!(take(std::process::id(), &path).unwrap(), 0);
        drop(listener);
        assert_eq!(take(std::process::id(), &path).unwrap(), 0, "it has closed it already");
        assert!(take(0, &path).is_err(), "there is no such process");
    }

    /// A line of the kernel's list of sockets can be made by a path with a line's end in it.
    #[test]
    fn a_line_that_somebody_forges_leads_to_no_other_listener() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let other = UnixListener::bind(at("other")).unwrap();
        let _waits = UnixStream::connect(at("other")).unwrap();
        let inode = rustix::fs::fstat(&other).unwrap().st_ino;
        // As that of somebody who may not write there: a socket's path is as it was typed.
        std::env::set_current_dir(directory.path()).unwrap();
        let wanted = "w.sock";
        let forged = format!("\n0 0 0 10000 0 0 {inode} {wanted}");
        let _forged = UnixListener::bind(&forged).unwrap();
        let _no_text = UnixListener::bind(OsStr::from_bytes(b"\xff")).unwrap();
        let of_this = Path::new("/proc/self");
        assert_eq!(sockets::listeners_of(of_this, Path::new(wanted)).unwrap().len(), 1);
        assert_eq!(take(std::process::id(), Path::new(wanted)).unwrap(), 0);
        other.set_nonblocking(true).unwrap();
        assert!(other.accept().is_ok(), "nobody has taken what waits there");
    }

    #[test]
    fn a_listener_that_is_shut_is_roots_alone() {
        if !rustix::process::geteuid().is_root() {
            return; // nobody else gives files away
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        lchown(&path, Some(65_534), Some(65_534)).unwrap();
        shut(&path).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (0, 0, 0o600));
    }
}
