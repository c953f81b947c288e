//! Sending clients to TLS, and telling browsers to stay there.

use ipnet::IpNet;

use super::field::Field;
use super::forwarded::{Origin, decimal};
use super::request::Head;
use crate::config::settings::Https;

/// The field that tells browsers.
pub(crate) const FIELD: &[u8] = b"Strict-Transport-Security";

/// What browsers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hsts {
    seconds: u64,
    subdomains: bool,
}

impl Hsts {
    /// What a route says, if it says anything.
    pub(crate) fn of(https: &Https) -> Option<Self> {
        let seconds = https.hsts?.as_secs();
        Some(Self { seconds, subdomains: https.hsts_subdomains })
    }

    /// Writes the field.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(FIELD);
        out.extend_from_slice(b": max-age=");
        decimal(out, self.seconds);
        if self.subdomains {
            out.extend_from_slice(b"; includeSubDomains");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether the client came over TLS: to us, or to a trusted proxy that says so.
pub(crate) fn is_secure(head: &Head<'_, '_>, origin: &Origin, trusted: &[IpNet]) -> bool {
    let said = head
        .fields
        .iter()
        .rev()
        .find(|f| Field::of(f.name.as_bytes()) == Field::ForwardedProto)
        .filter(|_| origin.is_trusted(trusted));
    said.map_or(origin.secure, |field| field.value.eq_ignore_ascii_case(b"https"))
}

/// The same place over TLS; `None` for a request without a host, or without a path.
pub(crate) fn location(head: &Head<'_, '_>, port: u16) -> Option<Box<[u8]>> {
    let host = head.authority?.host;
    let path = match head.target.path() {
        b"" => b"/",
        path => path,
    };
    if host.is_empty() || path.first() != Some(&b'/') && path.first() != Some(&b'?') {
        return None;
    }
    let mut location = Vec::with_capacity(16 + host.len() + path.len());
    location.extend_from_slice(b"https://");
    location.extend_from_slice(host);
    if port != 443 {
        location.push(b':');
        decimal(&mut location, u64::from(port));
    }
    if path.first() == Some(&b'?') {
        location.push(b'/');
    }
    location.extend_from_slice(path);
    Some(location.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::field::MAX_FIELDS;
    use super::*;

    fn with<T>(head: &str, look: impl FnOnce(&Head<'_, '_>) -> T) -> T {
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let parsed = Head::parse(head.as_bytes(), &mut slots, 128).unwrap().unwrap();
        look(&parsed)
    }

    #[test]
    fn the_same_place() {
        for (head, port, wanted) in [
            ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 443, Some("https://a.example/")),
            (
                "GET /x?y=1 HTTP/1.1\r\nHost: A.example:80\r\n\r\n",
                443,
                Some("https://A.example/x?y=1"),
            ),
            ("GET /x HTTP/1.1\r\nHost: a:8080\r\n\r\n", 8443, Some("https://a:8443/x")),
            (
                "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
                443,
                Some("https://[2001:db8::1]/"),
            ),
            (
                "GET http://b.example?q HTTP/1.1\r\nHost: a\r\n\r\n",
                443,
                Some("https://b.example/?q"),
            ),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 443, None),
            ("GET / HTTP/1.0\r\n\r\n", 443, None),
        ] {
            let found = with(head, |head| location(head, port));
            let found = found.map(|bytes| String::from_utf8(bytes.into()).unwrap());
            assert_eq!(found.as_deref(), wanted, "{head}");
        }
    }

    #[test]
    fn who_came_over_tls() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let origin = |secure| Origin {
            peer: Some("10.0.0.1".parse().unwrap()),
            secure,
            ..Origin::default()
        };
        let said = |value: &str| {
            format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: {value}\r\n\r\n")
        };
        for (value, secure, trusted, wanted) in [
            ("https", false, vec![], false),
            ("https", false, vec![net("10.0.0.0/8")], true),
            ("http", true, vec![net("10.0.0.0/8")], false),
            ("http", true, vec![], true),
        ] {
            let found = with(&said(value), |head| is_secure(head, &origin(secure), &trusted));
            assert_eq!(found, wanted, "{value} {secure}");
        }
    }

    #[test]
    fn what_browsers_are_told() {
        let hsts = Some(Duration::from_mins(1));
        let mut out = Vec::new();
        let https = Https { hsts, hsts_subdomains: true, ..Https::default() };
        Hsts::of(&https).unwrap().write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "Strict-Transport-Security: max-age=60; includeSubDomains\r\n");
        assert_eq!(Hsts::of(&Https::default()), None);
    }
}
