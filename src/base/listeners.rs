//! Who listens where on TCP.
//!
//! Anybody may bind a free loopback address, so that something accepts connections at an address does
//! not say whose it is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::sock_diag::{Diag, Question, Socket, State};

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener {
    /// What it is bound to, which may be every address.
    pub(crate) address: SocketAddr,
    /// Who made it.
    pub(crate) uid: u32,
    /// The number of the socket, as `/proc/PID/fd` has it.
    pub(crate) inode: u32,
}

/// The way to ask.
#[derive(Debug)]
pub(crate) struct Listeners(Diag);

// === impl Listeners ===

impl Listeners {
    /// Opens the way, and tries it: a kernel may be built without, and a sandbox without
    /// `AF_NETLINK`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn open() -> io::Result<Self> {
        let listeners = Self(Diag::open()?);
        // Whoever sees one can see all. To listen oneself takes a port, and a stranger may have taken every
        // one that is to be had, so that nobody finds out who listens.
        if !listeners.all()?.is_empty() {
            return Ok(listeners);
        }
        let known = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match listeners.at(known.local_addr()?)? {
            Some(_) => Ok(listeners),
            None => Err(io::Error::other("the kernel does not say who listens")),
        }
    }

    /// The listener that gets what connects to this address now: the one bound to it, or to every
    /// address at its port.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub(crate) fn at(&self, address: SocketAddr) -> io::Result<Option<Listener>> {
        let [found] = self.0.ask([Question::Listener(address)])?;
        Ok(found.and_then(Listener::of))
    }

    /// All of them.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub(crate) fn all(&self) -> io::Result<Vec<Listener>> {
        Ok(self.0.listeners()?.into_iter().filter_map(Listener::of).collect())
    }
}

impl Listener {
    fn of(socket: Socket) -> Option<Self> {
        let Socket { state, address, uid, inode, .. } = socket;
        (state == State::Listener).then_some(Self { address, uid, inode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn the_kernel_says_who_gets_what_connects() {
        let listeners = Listeners::open().unwrap();
        let socket = TcpListener::bind("127.9.8.7:0").unwrap();
        let address = socket.local_addr().unwrap();
        let found = listeners.at(address).unwrap().expect("a listener");
        assert_eq!((found.address, found.uid), (address, own()));
        let elsewhere = SocketAddr::from(([127, 9, 8, 8], address.port()));
        assert_eq!(listeners.at(elsewhere).unwrap(), None);
        assert!(listeners.all().unwrap().contains(&found));
        // A connection is no listener, and does not hide one.
        let _near = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(listeners.at(address).unwrap(), Some(found));
        drop(socket);
        assert_eq!(listeners.at(address).unwrap(), None);
    }

    #[test]
    fn who_listens_on_every_address_is_found_at_each() {
        let listeners = Listeners::open().unwrap();
        for every in ["0.0.0.0:0", "[::]:0"] {
            let Ok(socket) = TcpListener::bind(every) else { continue };
            let bound = socket.local_addr().unwrap();
            let asked = SocketAddr::from(([127, 64, 0, 9], bound.port()));
            assert_eq!(listeners.at(asked).unwrap().map(|found| found.address), Some(bound));
        }
        let socket = TcpListener::bind("[::1]:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(listeners.at(address).unwrap().map(|found| found.address), Some(address));
    }
}
