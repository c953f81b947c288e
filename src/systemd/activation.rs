//! The sockets that systemd holds for us.
//!
//! Go by name (`FileDescriptorName=`), never by position: the order across several socket units is
//! undefined.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::sys::{refuse_descriptors, take_passed};

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

/// All that systemd has passed to a process.
pub type Passed = (Vec<Inherited>, Vec<Kept>);

/// Adopts every socket that was passed to this process; none when there are none, or when somebody
/// has adopted them before.
///
/// Call it before any thread exists: listenfd takes the variables out of the environment, so that
/// nobody adopts the same descriptors again and no child process believes they are its own.
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
pub fn adopt_with_kept() -> io::Result<Passed> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut passed = ListenFd::from_env();
    let (mut inherited, mut kept) = (Vec::new(), Vec::new());
    for index in 0..passed.len() {
        let name = names.next().unwrap_or("unknown").to_owned();
        let wrong = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!(
                    "socket {index} (\"{name}\") passed by systemd is not a listening stream \
                     socket: {error}; use ListenStream= in its .socket unit"
                ),
            )
        };
        if name.starts_with(KEPT) {
            let descriptor = take_passed(&mut passed, index)?;
            kept.push((name, descriptor));
        } else {
            let socket = stream(&mut passed, index).and_then(listener).map_err(wrong)?;
            inherited.push(Inherited { name, socket });
        }
    }
    Ok((inherited, kept))
}

/// Takes a stream socket of one of our families; listenfd looks at its kind and leaves another one
/// where it is.
fn stream(passed: &mut ListenFd, index: usize) -> io::Result<OwnedFd> {
    let mut error = io::Error::other("it was taken before");
    // listenfd takes IPv6 for IPv4's.
    for (family, hint) in [(libc::AF_INET, "TCP socket"), (libc::AF_UNIX, "UNIX stream socket")] {
        match passed.take_custom(index, family, libc::SOCK_STREAM, hint) {
            Ok(Some(socket)) => return Ok(socket),
            Ok(None) => {}
            Err(other) => error = other,
        }
    }
    Err(error)
}

fn listener(passed: OwnedFd) -> io::Result<Socket> {
    let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if sockopt::socket_type(&passed)? != SocketType::STREAM {
        return wrong("it takes packets");
    }
    if !sockopt::socket_acceptconn(&passed)? {
        return wrong("it does not listen");
    }
    rustix::io::ioctl_fionbio(&passed, true)?;
    match sockopt::socket_domain(&passed)? {
        AddressFamily::INET | AddressFamily::INET6 => Ok(Socket::Tcp(passed.into())),
        AddressFamily::UNIX => {
            refuse_descriptors(&passed);
            Ok(Socket::Unix(passed.into()))
        }
        _ => wrong("it is neither TCP nor UNIX"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_known_by_its_kind() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(listener(tcp.into()), Ok(Socket::Tcp(_))));
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("socket")).unwrap();
        assert!(matches!(listener(unix.into()), Ok(Socket::Unix(_))));
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(listener(near.into()).unwrap_err().to_string().contains("does not listen"));
        let packets = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listener(packets.into()).unwrap_err().to_string().contains("packets"));
        assert!(listener(std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }
}
