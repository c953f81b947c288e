//! Real sockets for the servers of an app that the front does not use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};

use super::endpoint::Endpoint;

/// A bound socket, as Node expects it: not listening yet, not blocking.
#[derive(Debug)]
pub(super) struct Bound {
    /// The socket.
    pub(super) socket: OwnedFd,
    /// Node's name for this kind of handle.
    pub(super) kind: &'static str,
    /// Its TCP port.
    pub(super) port: Option<u16>,
}

/// Binds `endpoint`.
pub(super) fn bind_endpoint(endpoint: &Endpoint) -> Result<Bound, Errno> {
    match endpoint {
        Endpoint::Tcp { host: Some(host), port, ipv6_only } => {
            tcp(SocketAddr::new(*host, *port), *ipv6_only)
        }
        Endpoint::Tcp { host: None, port, ipv6_only } => {
            // As Node: both families by one socket, or IPv4 where there is no IPv6.
            let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port);
            match tcp(both, *ipv6_only) {
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::INVAL) => {
                    tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port), false)
                }
                other => other,
            }
        }
        Endpoint::Udp { address, ipv6_only } => {
            let socket = inet(SocketType::DGRAM, *address, *ipv6_only)?;
            Ok(Bound { socket, kind: "dgram.Native", port: None })
        }
        Endpoint::Path(path) => {
            let address = SocketAddrUnix::new(path.as_str())?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            bind(&socket, &address)?;
            Ok(Bound { socket, kind: "net.Native", port: None })
        }
        Endpoint::Descriptor(_) => Err(Errno::BADF),
    }
}

fn tcp(address: SocketAddr, ipv6_only: bool) -> Result<Bound, Errno> {
    let socket = inet(SocketType::STREAM, address, ipv6_only)?;
    let port = SocketAddr::try_from(getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?.port();
    Ok(Bound { socket, kind: "net.Native", port: Some(port) })
}

fn inet(kind: SocketType, address: SocketAddr, ipv6_only: bool) -> Result<OwnedFd, Errno> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    // The app's other workers bind the same port: Node's primary would share one socket among
    // them, here the kernel spreads connections over theirs. Somebody else's port stays an error.
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, ipv6_only)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn local(port: u16) -> Endpoint {
        Endpoint::Tcp { host: Some(Ipv4Addr::LOCALHOST.into()), port, ipv6_only: false }
    }

    #[test]
    fn workers_share_a_port_but_do_not_take_somebody_elses() {
        let first = bind_endpoint(&local(0)).unwrap();
        let port = first.port.unwrap();
        assert_eq!(bind_endpoint(&local(port)).unwrap().port, Some(port));
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = local(foreign.local_addr().unwrap().port());
        assert_eq!(bind_endpoint(&taken).unwrap_err(), Errno::ADDRINUSE);
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error() {
        let host = Some("192.0.2.1".parse().unwrap());
        let endpoint = Endpoint::Tcp { host, port: 0, ipv6_only: false };
        assert_eq!(bind_endpoint(&endpoint).unwrap_err(), Errno::ADDRNOTAVAIL);
    }

    #[test]
    fn a_path_that_exists_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = Endpoint::Path(directory.path().join("a.sock").to_str().unwrap().to_owned());
        assert!(bind_endpoint(&path).is_ok());
        assert_eq!(bind_endpoint(&path).unwrap_err(), Errno::ADDRINUSE);
    }
}
