//! What an app asks to listen on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::worker::channel::{ClusterMessage, ForAll};

/// libuv's flag for `ipv6Only`, the same for TCP and UDP.
const IPV6_ONLY: i64 = 1;

/// libuv's flag for `reuseAddr` of UDP.
const REUSE_ADDRESS: i64 = 4;

/// Where temporary files are.
const TEMPORARY: [&str; 2] = ["/tmp/", "/var/tmp/"];

/// The argument of an app's `listen()` or `bind()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `listen(port, host)`.
    Tcp {
        /// `None` for every address.
        host: Option<IpAddr>,
        /// 0 for any.
        port: u16,
        /// `ipv6Only: true`.
        ipv6_only: bool,
    },
    /// `dgram.createSocket(…).bind(port, host)`.
    Udp {
        /// Where to; Node fills in the wildcard address.
        address: SocketAddr,
        /// `ipv6Only: true`.
        ipv6_only: bool,
        /// `reuseAddr: true`.
        reuse: bool,
    },
    /// `listen("/path")`, or `listen("\0name")`.
    Path {
        /// Where.
        path: String,
        /// Who may use it.
        for_all: ForAll,
    },
    /// `listen({fd})`.
    Descriptor(i64),
}

impl Endpoint {
    /// Reads the endpoint of a `queryServer` or `listening` message.
    pub(super) fn of(message: &ClusterMessage) -> Result<Self, Errno> {
        let ipv6_only = message.flags.unwrap_or(0) & IPV6_ONLY != 0;
        let host = match message.address.as_deref() {
            None | Some("") => None,
            Some(path) if message.port.is_some_and(|port| port < 0) => {
                // An abstract socket, which Node takes for the name of a file in the app's directory.
                let path = path.find('\0').map_or(path, |start| &path[start..]);
                return if path.chars().skip(1).any(|letter| letter == '\0') {
                    Err(Errno::INVAL)
                } else {
                    Ok(Self::Path { path: path.to_owned(), for_all: message.for_all })
                };
            }
            // A name would have been looked up by the app; what is left is a zone (fe80::1%eth0).
            Some(text) => Some(text.parse::<IpAddr>().map_err(|_| Errno::ADDRNOTAVAIL)?),
        };
        let port = u16::try_from(message.port.unwrap_or(0));
        let wildcard = match message.address_type.as_str() {
            Some("udp4") => Some(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            Some("udp6") => Some(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
            _ => None,
        };
        if let Some(wildcard) = wildcard {
            if message.fd.is_some_and(|fd| fd >= 0) {
                return Err(Errno::BADF); // a descriptor of ours: there is none for datagrams
            }
            let address =
                SocketAddr::new(host.unwrap_or(wildcard), port.map_err(|_| Errno::INVAL)?);
            let reuse = message.flags.unwrap_or(0) & REUSE_ADDRESS != 0;
            return Ok(Self::Udp { address, ipv6_only, reuse });
        }
        if let Some(fd) = message.fd.filter(|fd| *fd >= 0) {
            return Ok(Self::Descriptor(fd));
        }
        Ok(Self::Tcp { host, port: port.map_err(|_| Errno::INVAL)?, ipv6_only })
    }

    /// Whether the kernel would refuse to have both, had both a socket.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Tcp { host, port, ipv6_only },
                Self::Tcp { host: theirs, port: their_port, ipv6_only: their_only },
            ) => {
                let reach = Reach::of(*host, *ipv6_only);
                port == their_port && *port != 0 && reach.overlaps(Reach::of(*theirs, *their_only))
            }
            (Self::Path { path: a, .. }, Self::Path { path: b, .. }) => a == b,
            (Self::Descriptor(a), Self::Descriptor(b)) => a == b,
            _ => false,
        }
    }

    /// Whether `PORT` names this endpoint.
    pub(super) fn is_named(&self, port_variable: &str) -> bool {
        match self {
            Self::Tcp { port, .. } => port.to_string() == port_variable,
            Self::Path { path, .. } => path == port_variable,
            Self::Descriptor(_) => true, // the only descriptor there is to inherit is the worker's
            Self::Udp { .. } => false,
        }
    }

    /// Whether it looks like a pipe between processes of the app, such as tsx makes before it starts
    /// the app: a path where temporary files are, which a unit has for itself.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Path { path, .. } if TEMPORARY.iter().any(|place| path.starts_with(place)))
    }

    /// Its port, for connections.
    pub(super) fn tcp_port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } => Some(*port),
            Self::Udp { .. } | Self::Path { .. } | Self::Descriptor(_) => None,
        }
    }

    /// The file that it has.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Path { path, .. } if !path.starts_with('\0') => Some(Path::new(path)),
            _ => None,
        }
    }

    /// The same endpoint at the port that it has in the end.
    pub(super) fn at_port(mut self, assigned: u16) -> Self {
        match &mut self {
            Self::Tcp { port, .. } => *port = assigned,
            Self::Udp { address, .. } => address.set_port(assigned),
            Self::Path { .. } | Self::Descriptor(_) => {}
        }
        self
    }

    /// What `server.address()` shall say in the app: what it would say without a cluster. UNIX
    /// sockets have none, Node knows their path.
    pub(super) fn sockname(&self, assigned: u16) -> Option<Value> {
        let (host, port) = match self {
            Self::Tcp { host, port, .. } => (*host, if *port == 0 { assigned } else { *port }),
            Self::Descriptor(_) => (None, assigned),
            Self::Path { .. } | Self::Udp { .. } => return None,
        };
        let host = host.unwrap_or(IpAddr::from(Ipv6Addr::UNSPECIFIED));
        let family = if host.is_ipv6() { "IPv6" } else { "IPv4" };
        Some(json!({ "address": host.to_string(), "family": family, "port": port }))
    }
}

/// The addresses of one family that a TCP socket is reached at; `None` is all of them.
type Addresses<T> = Option<Option<T>>;

/// Which addresses a TCP socket is reached at.
#[derive(Debug, Clone, Copy)]
struct Reach {
    v4: Addresses<Ipv4Addr>,
    v6: Addresses<Ipv6Addr>,
}

impl Reach {
    fn of(host: Option<IpAddr>, ipv6_only: bool) -> Self {
        match host {
            None => Self::of(Some(Ipv6Addr::UNSPECIFIED.into()), ipv6_only),
            Some(IpAddr::V4(address)) => {
                let address = Some(address).filter(|address| !address.is_unspecified());
                Self { v4: Some(address), v6: None }
            }
            Some(IpAddr::V6(address)) if address.is_unspecified() => {
                Self { v4: (!ipv6_only).then_some(None), v6: Some(None) }
            }
            Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(mapped) => Self::of(Some(mapped.into()), false),
                None => Self { v4: None, v6: Some(Some(address)) },
            },
        }
    }

    fn overlaps(self, other: Self) -> bool {
        fn both<T: PartialEq>(a: Addresses<T>, b: Addresses<T>) -> bool {
            match (a, b) {
                (Some(Some(a)), Some(Some(b))) => a == b,
                (Some(_), Some(_)) => true,
                _ => false,
            }
        }
        both(self.v4, other.v4) || both(self.v6, other.v6)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: None, port, .. } => write!(f, "port {port}"),
            Self::Tcp { host: Some(host), port, .. } => SocketAddr::new(*host, *port).fmt(f),
            Self::Udp { address, .. } => write!(f, "udp:{address}"),
            Self::Path { path, .. } => write!(f, "unix:{}", path.replacen('\0', "@", 1)),
            Self::Descriptor(fd) => write!(f, "descriptor {fd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, ipv6_only: bool) -> Endpoint {
        Endpoint::Tcp { host: host.parse().ok(), port: 3000, ipv6_only }
    }

    #[test]
    fn addresses_of_different_families_do_not_conflict() {
        for (a, b) in [
            ("0.0.0.0", "::1"),
            ("127.0.0.1", "::1"),
            ("127.0.0.1", "127.0.0.2"),
            ("::1", "::2"),
            ("::1", "::ffff:127.0.0.1"),
        ] {
            assert!(!at(a, false).conflicts(&at(b, false)), "{a} {b}");
        }
        assert!(!at("::", true).conflicts(&at("127.0.0.1", false)));
        assert!(!at("0.0.0.0", false).conflicts(&at("::", true)));
        for (a, b) in [
            ("", "127.0.0.1"),
            ("", "::1"),
            ("::", "127.0.0.1"),
            ("::", "0.0.0.0"),
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
            ("::", "::1"),
        ] {
            assert!(at(a, false).conflicts(&at(b, false)), "{a} {b}");
            assert!(at(b, false).conflicts(&at(a, false)), "{b} {a}");
        }
        assert!(at("::", true).conflicts(&at("::1", false)));
    }
}
