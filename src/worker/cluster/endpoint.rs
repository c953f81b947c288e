//! What an app asks to listen on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::worker::channel::ClusterMessage;

/// libuv's flag for `ipv6Only`, the same for TCP and UDP.
const IPV6_ONLY: i64 = 1;

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
    },
    /// `listen("/path")`.
    Path(String),
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
                return if path.contains('\0') {
                    Err(Errno::INVAL)
                } else {
                    Ok(Self::Path(path.to_owned()))
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
            return Ok(Self::Udp { address, ipv6_only });
        }
        if let Some(fd) = message.fd.filter(|fd| *fd >= 0) {
            return Ok(Self::Descriptor(fd));
        }
        Ok(Self::Tcp { host, port: port.map_err(|_| Errno::INVAL)?, ipv6_only })
    }

    /// Whether the kernel would refuse to have both.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { host: a, port: p, .. }, Self::Tcp { host: b, port: q, .. }) => {
                p == q && *p != 0 && overlap(a.as_ref(), b.as_ref())
            }
            (Self::Path(a), Self::Path(b)) => a == b,
            (Self::Descriptor(a), Self::Descriptor(b)) => a == b,
            _ => false, // datagrams are often shared on purpose: the kernel decides
        }
    }

    /// Whether `PORT` names this endpoint.
    pub(super) fn is_named(&self, port_variable: &str) -> bool {
        match self {
            Self::Tcp { port, .. } => port.to_string() == port_variable,
            Self::Path(path) => path == port_variable,
            Self::Descriptor(_) => true, // the only descriptor there is to inherit is the worker's
            Self::Udp { .. } => false,
        }
    }

    /// Whether it looks like a pipe between processes of the app, such as tsx makes before it starts
    /// the app: a path where temporary files are, which a unit has for itself.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Path(path) if TEMPORARY.iter().any(|place| path.starts_with(place)))
    }

    /// The same endpoint at the port that it has in the end.
    pub(super) fn at_port(mut self, assigned: u16) -> Self {
        if let Self::Tcp { port, .. } = &mut self {
            *port = assigned;
        }
        self
    }

    /// What `server.address()` shall say in the app: what it would say without a cluster. UNIX
    /// sockets have none, Node knows their path.
    pub(super) fn sockname(&self, assigned: u16) -> Option<Value> {
        let (host, port) = match self {
            Self::Tcp { host, port, .. } => (*host, if *port == 0 { assigned } else { *port }),
            Self::Descriptor(_) => (None, assigned),
            Self::Path(_) | Self::Udp { .. } => return None,
        };
        let host = host.unwrap_or(IpAddr::from(Ipv6Addr::UNSPECIFIED));
        let family = if host.is_ipv6() { "IPv6" } else { "IPv4" };
        Some(json!({ "address": host.to_string(), "family": family, "port": port }))
    }
}

fn overlap(a: Option<&IpAddr>, b: Option<&IpAddr>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || (a.is_unspecified() || b.is_unspecified()),
        _ => true,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: None, port, .. } => write!(f, "port {port}"),
            Self::Tcp { host: Some(host), port, .. } => SocketAddr::new(*host, *port).fmt(f),
            Self::Udp { address, .. } => write!(f, "udp:{address}"),
            Self::Path(path) => write!(f, "unix:{path}"),
            Self::Descriptor(fd) => write!(f, "descriptor {fd}"),
        }
    }
}
