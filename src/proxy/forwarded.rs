//! Who the client is, and how servers are told: `X-Forwarded-*`, `Forwarded` and `Via`.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use ipnet::IpNet;

use super::field::{self, Field};
use super::request::Head;
use super::target::Authority;
use crate::io::deadline::PlaceOf;

/// Where a connection comes from and where it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The peer's address; `None` on a UNIX socket.
    pub(crate) peer: Option<IpAddr>,
    /// Its port; 0 when that is not known.
    pub(crate) peer_port: u16,
    /// The address at which it arrived, where somebody wants to know.
    pub(crate) local: Option<IpAddr>,
    /// Whether the client speaks TLS.
    pub(crate) secure: bool,
    /// The place of the client's connection, of which this is one stream where it speaks HTTP/2.
    pub(crate) stream_of: Option<PlaceOf>,
    /// The listener's port.
    pub(crate) port: Option<u16>,
    /// The fields that tell servers of the client's certificate, if they are to be told.
    pub(crate) identity: Option<Rc<[u8]>>,
    /// A proxy in front opened it and did not say for whom. What is asked on it may be anybody's word.
    pub(crate) nameless: bool,
}

impl Origin {
    /// Whether the peer is one of those whose word is believed.
    pub(crate) fn is_trusted(&self, trusted: &[IpNet]) -> bool {
        !self.nameless
            && self.peer.is_some_and(|peer| trusted.iter().any(|net| net.contains(&peer)))
    }

    /// The ends of the connection as a server is told of them: the client's, and ours.
    pub(crate) fn ends(&self, client: Option<IpAddr>) -> Option<(SocketAddr, SocketAddr)> {
        let client = client?;
        let port = if self.peer == Some(client) { self.peer_port } else { 0 };
        let unknown = if client.is_ipv4() {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::from(Ipv6Addr::UNSPECIFIED)
        };
        let to = (self.local.unwrap_or(unknown), self.port.unwrap_or(0));
        Some(((client, port).into(), to.into()))
    }

    /// The client: the peer, or the last address before the proxies that are trusted.
    pub(crate) fn client(&self, head: &Head<'_, '_>, trusted: &[IpNet]) -> Option<IpAddr> {
        let mut client = self.peer?;
        if !self.is_trusted(trusted) {
            return Some(client);
        }
        for field in head.fields.iter().rev() {
            if Field::of(field.name.as_bytes()) != Field::ForwardedFor {
                continue;
            }
            for hop in field.value.rsplit(|b| *b == b',').map(field::trim) {
                let Some(address) = std::str::from_utf8(hop).ok().and_then(|h| h.parse().ok())
                else {
                    return Some(client);
                };
                client = address;
                if !trusted.iter().any(|net| net.contains(&client)) {
                    return Some(client);
                }
            }
        }
        Some(client)
    }

    /// Writes the fields that tell a server where this request comes from.
    ///
    /// What a trusted peer said of earlier hops is kept in front; of all others it was left out
    /// of the copied fields.
    pub(crate) fn write_fields(&self, out: &mut Vec<u8>, head: &Head<'_, '_>, trusted: bool) {
        let values = |wanted: Field| {
            head.fields
                .iter()
                .filter(move |f| trusted && Field::of(f.name.as_bytes()) == wanted)
                .map(|f| f.value)
                .filter(move |value| makes_sense(wanted, value))
        };
        let mut text = [0; 48];
        let peer = self.peer_text(&mut text);

        out.extend_from_slice(b"X-Forwarded-For: ");
        for earlier in values(Field::ForwardedFor) {
            out.extend_from_slice(earlier);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(peer);

        // Few pieces, each of which ends the line before: each costs a copy of its own.
        let protocol: &[u8] = if self.secure { b"https" } else { b"http" };
        out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
        out.extend_from_slice(values(Field::ForwardedProto).next_back().unwrap_or(protocol));
        let host = head.authority.map(|a| a.text);
        if let Some(host) = values(Field::ForwardedHost).next_back().or(host) {
            out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
            out.extend_from_slice(host);
        }
        if let Some(port) = values(Field::ForwardedPort).next_back() {
            out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
            out.extend_from_slice(port);
        } else if let Some(port) = self.port {
            out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
            decimal(out, u64::from(port));
        }

        out.extend_from_slice(b"\r\nForwarded: ");
        for earlier in values(Field::Forwarded) {
            out.extend_from_slice(earlier);
            out.extend_from_slice(b", ");
        }
        if let Some(IpAddr::V6(_)) = self.peer {
            out.extend_from_slice(b"for=\"[");
            out.extend_from_slice(peer);
            out.extend_from_slice(b"]\"");
        } else {
            out.extend_from_slice(b"for=");
            out.extend_from_slice(peer);
        }
        match host {
            Some(host) if field::is_token(host) => {
                out.extend_from_slice(b";host=");
                out.extend_from_slice(host);
            }
            // A port's colon and an IPv6 address are no token characters.
            Some(host) => {
                out.extend_from_slice(b";host=\"");
                out.extend_from_slice(host);
                out.push(b'"');
            }
            None => {}
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(protocol);
        out.extend_from_slice(match (self.stream_of.is_some(), head.old) {
            (true, _) => b"\r\nVia: 2 roundsman\r\n",
            (false, true) => b"\r\nVia: 1.0 roundsman\r\n",
            (false, false) => b"\r\nVia: 1.1 roundsman\r\n",
        });
        if let Some(identity) = &self.identity {
            out.extend_from_slice(identity);
        }
    }

    fn peer_text<'t>(&self, text: &'t mut [u8; 48]) -> &'t [u8] {
        let Some(peer) = self.peer else { return b"unknown" };
        if let IpAddr::V4(peer) = peer {
            return dotted(peer, text);
        }
        let mut rest = &mut text[..];
        // No address is longer than 45 bytes.
        let _ = write!(rest, "{peer}");
        let left = rest.len();
        &text[..48 - left]
    }
}

/// Whether a value that a trusted proxy sent is one of this field's. What is none would be read as
/// anything, or hide what is written behind it.
fn makes_sense(field: Field, value: &[u8]) -> bool {
    match field {
        Field::ForwardedProto => {
            let last = field::list(value).last().unwrap_or_default();
            [&b"http"[..], b"https", b"ws", b"wss"].iter().any(|p| last.eq_ignore_ascii_case(p))
                && field::list(value).all(field::is_token)
        }
        Field::ForwardedHost => field::list(value).all(|host| Authority::parse(host).is_some()),
        Field::ForwardedPort => {
            field::list(value).all(|port| field::number(port).is_some_and(|port| port < 65536))
        }
        Field::Forwarded => quotes_are_closed(value),
        _ => !value.is_empty(),
    }
}

fn quotes_are_closed(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted && !value.is_empty()
}

/// An address in decimal. The standard library's way takes a thousand instructions.
fn dotted(address: Ipv4Addr, text: &mut [u8; 48]) -> &[u8] {
    let mut end = 0;
    for octet in address.octets() {
        for (above, digit) in [(99, octet / 100), (9, octet / 10 % 10), (0, octet % 10)] {
            text[end] = b'0' + digit;
            end += usize::from(octet > above || above == 0);
        }
        text[end] = b'.';
        end += 1;
    }
    &text[..end - 1]
}

/// Writes a number in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::field::MAX_FIELDS;
    use super::*;

    /// A connection of this peer to port 8080.
    fn origin(peer: &str) -> Origin {
        let peer = Some(peer.parse().unwrap());
        Origin { peer, peer_port: 4000, port: Some(8080), ..Origin::default() }
    }

    fn with<T>(head: &str, of: impl FnOnce(&Head<'_, '_>) -> T) -> T {
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        of(&Head::parse(head.as_bytes(), &mut slots, 128).unwrap().unwrap())
    }

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn the_client_is_the_last_whom_no_trusted_proxy_vouches_for() {
        let trusted = nets(&["10.0.0.0/8", "192.0.2.7/32"]);
        for (peer, fields, client) in [
            ("203.0.113.1", "", "203.0.113.1"),
            ("203.0.113.1", "X-Forwarded-For: 1.1.1.1\r\n", "203.0.113.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n", "2.2.2.2"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1, 192.0.2.7\r\n", "1.1.1.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1, nobody\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1, x, 10.0.0.9\r\n", "10.0.0.9"),
            ("10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n", "2.2.2.2"),
            ("10.0.0.1", "X-Real-IP: 1.1.1.1\r\n", "10.0.0.1"),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let found = with(&head, |head| origin(peer).client(head, &trusted));
            assert_eq!(found, Some(client.parse().unwrap()), "{peer} {fields}");
        }
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n";
        let nameless = Origin { nameless: true, ..origin("10.0.0.1") };
        assert_eq!(with(head, |head| nameless.client(head, &trusted)), nameless.peer);
        assert!(!nameless.is_trusted(&trusted) && origin("10.0.0.1").is_trusted(&trusted));
        assert_eq!(with(head, |head| Origin::default().client(head, &trusted)), None);
    }

    #[test]
    fn the_ends_of_a_connection_are_those_that_are_known() {
        let local = Some("192.0.2.1".parse().unwrap());
        let of = |origin: Origin, client: Option<&str>| {
            let ends = origin.ends(client.map(|client| client.parse().unwrap()));
            ends.map(|(from, to)| format!("{from} {to}")).unwrap_or_default()
        };
        let ours = Origin { local, ..origin("203.0.113.1") };
        assert_eq!(of(ours.clone(), Some("203.0.113.1")), "203.0.113.1:4000 192.0.2.1:8080");
        assert_eq!(of(ours, Some("1.1.1.1")), "1.1.1.1:0 192.0.2.1:8080", "another's port");
        assert_eq!(of(origin("::1"), Some("::1")), "[::1]:4000 [::]:8080");
        assert_eq!(of(Origin::default(), Some("1.1.1.1")), "1.1.1.1:0 0.0.0.0:0");
        assert_eq!(of(origin("::1"), None), "");
    }

    #[test]
    fn servers_are_told_of_the_client_and_of_what_a_trusted_proxy_said() {
        let written = |origin: &Origin, head: &str, trusted: bool| {
            let mut out = Vec::new();
            with(head, |head| origin.write_fields(&mut out, head, trusted));
            String::from_utf8(out).unwrap()
        };
        let head = "GET / HTTP/1.1\r\nHost: b.example:80\r\nX-Forwarded-For: 1.1.1.1\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Host: c\r\nX-Forwarded-Port: 443\r\n\
            Forwarded: for=1.1.1.1\r\nForwarded: for=\"x\r\n\r\n";
        let six = origin("2001:db8::1");
        assert_eq!(
            written(&six, head, false),
            "X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: http\r\n\
             X-Forwarded-Host: b.example:80\r\nX-Forwarded-Port: 8080\r\n\
             Forwarded: for=\"[2001:db8::1]\";host=\"b.example:80\";proto=http\r\n\
             Via: 1.1 roundsman\r\n"
        );
        assert_eq!(
            written(&six, head, true),
            "X-Forwarded-For: 1.1.1.1, 2001:db8::1\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: c\r\nX-Forwarded-Port: 443\r\n\
             Forwarded: for=1.1.1.1, for=\"[2001:db8::1]\";host=\"b.example:80\";proto=http\r\n\
             Via: 1.1 roundsman\r\n"
        );
        let stream_of = Some(crate::io::deadline::Deadlines::new().add().place_of());
        let socket = Origin { secure: true, stream_of, ..Origin::default() };
        assert_eq!(
            written(&socket, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            "X-Forwarded-For: unknown\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n\
             Forwarded: for=unknown;host=a;proto=https\r\nVia: 2 roundsman\r\n"
        );
        let old = written(&origin("1.2.3.4"), "GET / HTTP/1.0\r\n\r\n", false);
        assert!(
            old.ends_with("\r\nForwarded: for=1.2.3.4;proto=http\r\nVia: 1.0 roundsman\r\n"),
            "{old}"
        );
    }

    #[test]
    fn what_makes_no_sense_is_not_believed() {
        let makes = |field, value: &str| makes_sense(field, value.as_bytes());
        for good in ["https", "http", "HTTPS", "http, https"] {
            assert!(makes(Field::ForwardedProto, good), "{good}");
        }
        for bad in ["javascript", "", "https;x", "https, javascript", "a b, https"] {
            assert!(!makes(Field::ForwardedProto, bad), "{bad}");
        }
        assert!(makes(Field::ForwardedHost, "a.example:80") && !makes(Field::ForwardedHost, "a/b"));
        assert!(makes(Field::ForwardedPort, "443") && !makes(Field::ForwardedPort, "65536"));
        for good in ["for=1.2.3.4", r#"for="[::1]";host="a\"b""#] {
            assert!(makes(Field::Forwarded, good), "{good}");
        }
        assert!(makes(Field::Forwarded, r#"for=a\;host="b""#), "nothing is escaped without quotes");
        for bad in [r#"for="1.2.3.4"#, r#"for="a\""#, r#"for=a\""#, ""] {
            assert!(!makes(Field::Forwarded, bad), "{bad}");
        }
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_does() {
        let octets = [0, 1, 9, 10, 42, 99, 100, 101, 199, 200, 255];
        for a in octets {
            for b in octets {
                let address = Ipv4Addr::new(a, b, 255 - a, b);
                assert_eq!(dotted(address, &mut [0; 48]), address.to_string().as_bytes());
            }
        }
    }
}
