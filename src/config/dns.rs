//! Servers that are looked up by name, and how names are looked up: settings and their input.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::diagnostic::Problems;
use super::fragment::{Node, Value};
use super::input::{Input, Read, choice, duration, list, string};
use super::net;
use super::settings::ServerOptions;

/// One entry of `servers` that stands for as many servers as its name has addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedServers {
    /// What is looked up.
    pub name: DnsName,
    /// How many servers with given addresses are listed before it: `ip-hash` goes by the order.
    pub at: usize,
    /// What each of them is given and asked for; of a service, the records say weight and backup.
    pub options: ServerOptions,
}

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsName {
    /// `dns:NAME:PORT`: every address of a host.
    Host {
        /// Its name.
        name: String,
        /// The port of all its addresses.
        port: u16,
    },
    /// `dns-srv:NAME`: every address of every target of a service, each with the port of its
    /// record.
    Service(String),
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Whom to ask; nobody for those in `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Which addresses count.
    pub addresses: Family,
    /// An answer is good for so long even when it says less.
    pub min_ttl: Duration,
    /// And for no longer than this.
    pub max_ttl: Duration,
    /// For one answer of one DNS server.
    pub timeout: Duration,
}

/// Which addresses of a name count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// Those of both families.
    #[default]
    All,
    /// Those of IPv4.
    Ipv4,
    /// Those of IPv6.
    Ipv6,
}

const FAMILIES: &[(&str, Family)] =
    &[("all", Family::All), ("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];

const PORT: u16 = 53;

// === impl Dns ===

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            addresses: Family::default(),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_mins(5),
            timeout: Duration::from_secs(2),
        }
    }
}

/// Reads `[dns]`.
pub(super) fn read(section: Input<'_>, problems: &mut Problems) -> Dns {
    let d = Dns::default();
    let dns = Dns {
        servers: section.get("servers", d.servers, problems, |n, p| list(n, p, dns_server)),
        addresses: section.get("addresses", d.addresses, problems, choice(FAMILIES)),
        min_ttl: section.get("min-ttl", d.min_ttl, problems, duration),
        max_ttl: section.get("max-ttl", d.max_ttl, problems, duration),
        timeout: section.get("timeout", d.timeout, problems, duration),
    };
    if dns.min_ttl > dns.max_ttl
        && let Some(node) = section.node("min-ttl").or_else(|| section.node("max-ttl"))
    {
        let title = format!("min-ttl ({:?}) is above max-ttl ({:?})", dns.min_ttl, dns.max_ttl);
        problems.error(&node.place, title, "", "raise `max-ttl`, or lower `min-ttl`");
    }
    dns
}

fn dns_server(node: &Node, problems: &mut Problems) -> Read<SocketAddr> {
    let text = string(node, problems)?;
    let bare = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    match text.parse::<SocketAddr>().ok().or_else(bare) {
        Some(server) if server.port() != 0 => Some(server),
        _ => {
            let help =
                "write an IP address, with a port unless it is 53: \"10.0.0.53\", \"[::1]:5353\"";
            problems.error(&node.place, format!("`{text}` is no DNS server"), "", help);
            None
        }
    }
}

// === impl DnsName ===

impl DnsName {
    /// The name that this address of a server stands for; `None` when it is no name.
    pub(super) fn read(node: &Node, problems: &mut Problems) -> Option<Read<Self>> {
        let Value::String(text) = &node.value else { return None };
        let read = if let Some(rest) = text.strip_prefix("dns:") {
            Self::host(rest)
        } else {
            Self::service(text.strip_prefix("dns-srv:")?)
        };
        Some(match read {
            Ok(name) => Some(name),
            Err(help) => {
                let title = format!("`{text}` is no name to look up");
                problems.error(&node.place, title, "", help);
                None
            }
        })
    }

    fn host(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Err(format!("an address needs no looking up: write \"{address}\""));
        }
        let port = |name: &str| format!("write a name and a port, as in \"dns:{name}:8080\"");
        let Some((name, number)) = text.rsplit_once(':') else {
            return Err(port(if text.is_empty() { "api.internal" } else { text }));
        };
        match number.parse() {
            Ok(1..) => Ok(Self::Host { name: domain(name)?, port: number.parse().unwrap_or(80) }),
            _ => Err(port(name)),
        }
    }

    fn service(text: &str) -> Result<Self, String> {
        let form = "write the service's whole name, as in \"dns-srv:_http._tcp.api.internal\"";
        if text.contains(':') {
            return Err(format!("{form}; the records say the port"));
        }
        let mut labels = text.split('.');
        let special =
            |label: Option<&str>| label.is_some_and(|l| l.len() > 1 && l.starts_with('_'));
        if !special(labels.next()) || !special(labels.next()) {
            return Err(form.to_owned());
        }
        domain(text).map(Self::Service)
    }
}

/// A name in lower case, perhaps with a dot at its end, which keeps it from being completed.
fn domain(text: &str) -> Result<String, String> {
    let (name, dot) = text.strip_suffix('.').map_or((text, ""), |name| (name, "."));
    Ok(format!("{}{dot}", net::host(name)?))
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } => write!(f, "dns:{name}:{port}"),
            Self::Service(name) => write!(f, "dns-srv:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_or_explained() {
        for (text, name) in [
            ("api.internal:8080", "dns:api.internal:8080"),
            ("API:80", "dns:api:80"),
            ("api.internal.:1", "dns:api.internal.:1"),
        ] {
            assert_eq!(DnsName::host(text).unwrap().to_string(), name);
        }
        for (text, help) in [
            ("10.0.0.1:80", "write \"10.0.0.1:80\""),
            ("api.internal", "\"dns:api.internal:8080\""),
            ("api.internal:0", "\"dns:api.internal:8080\""),
            ("api.internal:http", "\"dns:api.internal:8080\""),
            ("", "\"dns:api.internal:8080\""),
            ("a..b:80", "63"),
        ] {
            let error = DnsName::host(text).unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
        let service = DnsName::service("_http._tcp.api.internal").unwrap();
        assert_eq!(service.to_string(), "dns-srv:_http._tcp.api.internal");
        for text in ["api.internal", "_http.api.internal", "_http._tcp.api.internal:80", "_._tcp.a"]
        {
            assert!(DnsName::service(text).unwrap_err().contains("dns-srv:_http._tcp"), "{text}");
        }
    }
}
