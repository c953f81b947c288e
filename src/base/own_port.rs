//! A port of the front's own on this machine, for connections to workers when there is no other one left.
//!
//! A connection to a worker needs a port at this end, and the kernel has some 28,000 for the whole machine: any
//! user, an app too, can take them all. So one is kept from the start. As long as a socket of this process is
//! bound to it at every address, nobody else's can be bound to it at any (only one user shares a port by
//! `SO_REUSEPORT`), and at each of some addresses of 127.0.0.0/8 the same port makes another connection to the
//! same worker. Workers that have to know from whom they are told of clients know all of these.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream as StdTcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
    sockopt,
};
use tokio::net::{TcpSocket, TcpStream};

/// How many addresses there are to connect from: 127.0.0.1 and those behind it. One worker has as many of these
/// connections at most.
const ADDRESSES: u8 = 64;

/// How many ports are tried where the kernel has none to give.
const PORTS_TRIED: usize = 64;

static KEPT: OnceLock<OwnPort> = OnceLock::new();

/// The port, kept by its socket.
#[derive(Debug)]
struct OwnPort {
    socket: OwnedFd,
    port: u16,
    /// At which address next.
    next: AtomicU32,
}

/// Keeps one from here on: the earlier process's, by the socket that keeps it, or else another one. Returns the
/// socket.
///
/// # Errors
/// When none is free.
pub(super) fn keep(earlier: Option<OwnedFd>) -> io::Result<BorrowedFd<'static>> {
    if let Some(Ok(earlier)) = earlier.map(OwnPort::of) {
        let _ = KEPT.set(earlier);
    }
    kept().map(|kept| kept.socket.as_fd())
}

/// From where workers are connected to by it; the first is where connections come from as a rule.
pub(super) fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    (1..=ADDRESSES).map(|last| Ipv4Addr::new(127, 0, 0, last))
}

/// The one that is kept. There may have been none free before.
fn kept() -> io::Result<&'static OwnPort> {
    if let Some(kept) = KEPT.get() {
        return Ok(kept);
    }
    let taken = OwnPort::take()?;
    Ok(KEPT.get_or_init(|| taken))
}

/// A listener of this process and a connection to it, by this port: so it can be made when there is no
/// other one.
///
/// # Errors
/// As for any sockets.
pub(super) fn loop_back() -> io::Result<(TcpListener, StdTcpStream)> {
    let kept = kept()?;
    let (listener, near) = (OwnPort::socket()?, OwnPort::socket()?);
    let far = kept.address();
    bind(&listener, &far)?;
    listen(&listener, 1)?;
    bind(&near, &kept.address())?;
    connect(&near, &far)?;
    Ok((listener.into(), near.into()))
}

/// Connects to a worker on this machine by it, after another connection failed with `error`.
///
/// # Errors
/// `error`, where it is another one than want of ports; or as for any connection.
pub(super) async fn connect_instead(error: io::Error, far: SocketAddr) -> io::Result<TcpStream> {
    let is_want = error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error());
    if !is_want || !far.is_ipv4() || !far.ip().is_loopback() {
        return Err(error);
    }
    match kept() {
        Ok(kept) => kept.connect(far).await,
        Err(_) => Err(error),
    }
}

// === impl OwnPort ===

impl OwnPort {
    fn take() -> io::Result<Self> {
        let take = |port| -> io::Result<Self> {
            let socket = Self::socket()?;
            bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
            Self::of(socket)
        };
        // Another one may have taken all that the kernel gives by itself.
        let random = RandomState::new();
        let others = (0..PORTS_TRIED).map(|number| {
            let [a, b, ..] = random.hash_one(number).to_ne_bytes();
            1024 | u16::from_ne_bytes([a, b])
        });
        let mut result = take(0);
        for port in others {
            if result.is_ok() {
                break;
            }
            result = take(port);
        }
        result
    }

    /// The port that this socket is bound to.
    fn of(socket: OwnedFd) -> io::Result<Self> {
        let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
        if port == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { socket, port, next: AtomicU32::new(0) })
    }

    /// One that shares the port.
    fn socket() -> io::Result<OwnedFd> {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        Ok(socket)
    }

    /// The next of its addresses.
    fn address(&self) -> SocketAddr {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % u32::from(ADDRESSES);
        SocketAddr::from((Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number), self.port))
    }

    async fn connect(&self, far: SocketAddr) -> io::Result<TcpStream> {
        let mut result = Err(Errno::ADDRNOTAVAIL.into());
        // One may have that connection already.
        for _ in 0..ADDRESSES {
            let near = self.address();
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseport(true)?;
            result = match socket.bind(near) {
                Ok(()) => socket.connect(far).await,
                Err(error) => Err(error),
            };
            let taken = [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE].map(Errno::raw_os_error);
            match &result {
                Err(error) if error.raw_os_error().is_some_and(|it| taken.contains(&it)) => {}
                _ => break,
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn one_port_makes_a_connection_from_each_address_to_one_worker() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = listener.local_addr().unwrap();
        let own = OwnPort::take().unwrap();
        let mut open = Vec::new();
        for _ in 0..ADDRESSES {
            let stream = own.connect(far).await.unwrap();
            open.push((stream, listener.accept().unwrap()));
        }
        let near = |(stream, _): &(TcpStream, _)| stream.local_addr().unwrap();
        let mut used: Vec<SocketAddr> = open.iter().map(near).collect();
        used.sort();
        let all = addresses().map(|address| SocketAddr::from((address, own.port)));
        assert_eq!(used, all.collect::<Vec<_>>());
        assert!(own.connect(far).await.is_err(), "all are used");
    }

    #[test]
    fn the_next_process_has_the_same_port() {
        let own = OwnPort::take().unwrap();
        let next = OwnPort::of(own.socket.try_clone().unwrap()).unwrap();
        assert_eq!(next.port, own.port);
        let not_bound = OwnPort::socket().unwrap();
        assert!(OwnPort::of(not_bound).is_err(), "it keeps no port");
    }

    #[test]
    fn nobody_else_has_the_port_at_any_address() {
        let own = OwnPort::take().unwrap();
        // Whoever is another user may share nothing; and this one does not ask for it here.
        for address in ["0.0.0.0", "127.0.0.1", "127.0.0.1", "127.9.9.9"] {
            let error = TcpListener::bind((address, own.port)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
        }
    }

    #[test]
    fn a_process_connects_to_itself_by_it() {
        let (listener, near) = loop_back().unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, near.local_addr().unwrap());
        assert_eq!(peer.port(), listener.local_addr().unwrap().port());
        assert_eq!(peer.port(), kept().unwrap().port);
    }

    #[tokio::test]
    async fn it_is_for_want_of_ports_alone() {
        let far = SocketAddr::from(([127, 0, 0, 1], 9));
        let refused = connect_instead(Errno::CONNREFUSED.into(), far).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
