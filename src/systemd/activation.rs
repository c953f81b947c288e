//! The sockets that systemd holds for us.
//!
//! libsystemd reads their names (`FileDescriptorName=`), listenfd checks their kind and adopts
//! them. Go by name, never by position: the order across several socket units is undefined.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use libsystemd::activation::receive_descriptors_with_names;
use listenfd::ListenFd;

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over a UNIX stream socket.
    Unix(UnixListener),
}

/// A listening socket that systemd passed, under its name.
#[derive(Debug)]
pub struct Inherited {
    /// What `FileDescriptorName=` says.
    pub name: String,
    /// The socket, non-blocking.
    pub socket: Socket,
}

/// How the names of descriptors begin that an earlier process of the same service gave systemd to
/// keep ([`notify::keep`](super::notify::keep)).
pub const KEPT: &str = "kept-";

/// A descriptor that systemd has kept, under the name that it was given.
pub type Kept = (String, OwnedFd);

/// Adopts every socket that was passed to this process; none when there are none.
///
/// Call it once, before any thread exists: listenfd takes the variables out of the environment so
/// that no child process believes they are its own.
///
/// # Errors
/// When a passed descriptor is not a listening stream socket; the message names it.
pub fn adopt() -> io::Result<Vec<Inherited>> {
    Ok(adopt_with_kept()?.0)
}

/// As [`adopt`], for a service that has descriptors kept over its restarts.
///
/// # Errors
/// As [`adopt`].
pub fn adopt_with_kept() -> io::Result<(Vec<Inherited>, Vec<Kept>)> {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return Ok((Vec::new(), Vec::new()));
    }
    // An error here is "not meant for this process" (another LISTEN_PID): nothing is inherited.
    let names: Vec<String> = receive_descriptors_with_names(false)
        .map(|list| list.into_iter().map(|(_, name)| name).collect())
        .unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let (mut inherited, mut kept) = (Vec::with_capacity(passed.len()), Vec::new());
    for index in 0..passed.len() {
        let name = names.get(index).cloned().unwrap_or_else(|| "unknown".to_owned());
        if name.starts_with(KEPT) {
            if let Some(fd) = passed.take_raw_fd(index)? {
                kept.push((name, crate::sys::adopt_inherited_fd(fd)));
            }
            continue;
        }
        let socket = take(&mut passed, index).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "socket {index} (\"{name}\") passed by systemd is not a listening stream \
                     socket: {error}; use ListenStream= in its .socket unit"
                ),
            )
        })?;
        inherited.push(Inherited { name, socket });
    }
    Ok((inherited, kept))
}

fn take(passed: &mut ListenFd, index: usize) -> io::Result<Socket> {
    // listenfd gives a socket of another kind back untaken, so the second try sees it again.
    let gone = || io::Error::other("it was taken before");
    if let Ok(tcp) = passed.take_tcp_listener(index) {
        let tcp = tcp.ok_or_else(gone)?;
        tcp.set_nonblocking(true)?;
        return Ok(Socket::Tcp(tcp));
    }
    let unix = passed.take_unix_listener(index)?.ok_or_else(gone)?;
    unix.set_nonblocking(true)?;
    Ok(Socket::Unix(unix))
}
