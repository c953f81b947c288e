//! Heads as they go out: the fields of this hop left out, ours put in, everything else copied in
//! runs of bytes as it stands.

use std::net::IpAddr;

use ipnet::IpNet;

use super::field::{self, Field};
use super::forwarded::{Origin, decimal};
use super::https::{self, Hsts};
use super::request::{Framing, Head};
use super::response;
use super::target::RequestTarget;

/// Writes the head that a server gets; returns where in it the offered protocols are, if any.
pub(crate) fn request(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &Head<'_, '_>,
    origin: &Origin,
    trusted_proxies: &[IpNet],
) -> Option<std::ops::Range<usize>> {
    let trusted = origin.is_trusted(trusted_proxies);
    out.extend_from_slice(head.method);
    out.push(b' ');
    match head.target {
        // An absolute target without a path means the root, or all of the server to OPTIONS.
        RequestTarget::Absolute { path: b"", .. } if head.method == b"OPTIONS" => out.push(b'*'),
        RequestTarget::Absolute { path, .. } if path.first() != Some(&b'/') => {
            out.push(b'/');
            out.extend_from_slice(path);
        }
        target => out.extend_from_slice(target.path()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.authority.map_or(b"localhost", |a| a.text));
    out.extend_from_slice(b"\r\n");

    let mut length_is_copied = false;
    field::copy_fields(out, buffer, head.fields, head.len - 2, None, |at, field| {
        let name = field.name.as_bytes();
        match head.kinds.of(at, name) {
            Field::Host
            | Field::TransferEncoding
            | Field::Connection
            | Field::KeepAlive
            | Field::Upgrade
            | Field::Te
            | Field::Expect
            | Field::ForwardedFor
            | Field::ForwardedProto
            | Field::ForwardedHost
            | Field::ForwardedPort
            | Field::Forwarded
            | Field::Dropped => false,
            // What a proxy says of its client is not the client's to take away.
            Field::OtherForwarded => trusted,
            Field::ContentLength => {
                length_is_copied = is_plain_length(buffer, field.value);
                length_is_copied
            }
            Field::Trailer => head.framing == Framing::Chunked,
            Field::Accept => !head.options.nominates(name),
            Field::Other => {
                let is_ours = head.max_forwards.is_some() && field::is_max_forwards(name);
                !is_ours && !head.options.nominates(name)
            }
        }
    });
    if let Some(left) = head.max_forwards {
        out.extend_from_slice(b"Max-Forwards: ");
        decimal(out, left.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    match head.framing {
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) if length > 0 && !length_is_copied => {
            out.extend_from_slice(b"Content-Length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        _ => {}
    }
    if head.expects_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    let offered = head.upgrade.map(|protocols| {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        let start = out.len();
        out.extend_from_slice(protocols);
        out.extend_from_slice(b"\r\n");
        start..start + protocols.len()
    });
    if head.takes_trailers && head.upgrade.is_none() {
        out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
    origin.write_fields(out, head, trusted);
    out.extend_from_slice(b"\r\n");
    offered
}

/// Whether a length stands there as everybody reads it: a leading zero may be octal to somebody, and Node
/// takes no tab behind a number.
fn is_plain_length(buffer: &[u8], value: &[u8]) -> bool {
    let end = field::offset(buffer, value) + value.len();
    (value == b"0" || value.first() != Some(&b'0')) && buffer.get(end..end + 2) == Some(b"\r\n")
}

/// How the connection to the client goes on after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// HTTP/1.1's default, which needs no field.
    Persistent,
    /// HTTP/1.0 must be told.
    KeepAlive,
    Close,
    /// It switches to the protocol that the response names.
    Upgrade,
}

/// What comes before the reason of a status line, by its length.
const STATUS: &[u8] = b"HTTP/1.1 200 ";

/// Writes the head that a client gets.
pub(crate) fn response(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &response::Head<'_, '_>,
    chunked: bool,
    connection: Connection,
    set_cookie: Option<&str>,
    hsts: Option<Hsts>,
) {
    // Nearly always the status line is as we would write it, and is copied with what follows.
    let copied = (buffer.starts_with(b"HTTP/1.1 ") && !head.reason.is_empty()).then_some(0);
    debug_assert!(copied.is_none() || field::offset(buffer, head.reason) == STATUS.len());
    if copied.is_none() {
        out.extend_from_slice(b"HTTP/1.1 ");
        decimal(out, u64::from(head.status));
        out.push(b' ');
        out.extend_from_slice(head.reason);
        out.extend_from_slice(b"\r\n");
    }
    // 1xx and 204 have no length, and what is chunked to us may not be so to the client.
    let mut lengths = u8::from(head.is_interim() || head.status == 204);
    let mut length = None;
    field::copy_fields(out, buffer, head.fields, head.len - 2, copied, |at, field| {
        let name = field.name.as_bytes();
        match head.kinds.of(at, name) {
            Field::TransferEncoding
            | Field::Connection
            | Field::KeepAlive
            | Field::Upgrade
            | Field::Te => false,
            Field::Dropped if !name.eq_ignore_ascii_case(b"proxy") => false,
            Field::ContentLength => {
                lengths += 1;
                let plain = is_plain_length(buffer, field.value);
                if lengths == 1 && !plain {
                    length = field::number(field.value);
                }
                lengths == 1 && plain
            }
            Field::Trailer => chunked,
            _ if hsts.is_some() && name.eq_ignore_ascii_case(https::FIELD) => false,
            _ => !head.options.nominates(name),
        }
    });
    if let Some(length) = length {
        out.extend_from_slice(b"Content-Length: ");
        decimal(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(hsts) = hsts {
        hsts.write(out);
    }
    if let Some(cookie) = set_cookie {
        for part in ["Set-Cookie: ", cookie, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match connection {
        Connection::Persistent => {}
        Connection::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Connection::Close => out.extend_from_slice(b"Connection: close\r\n"),
        Connection::Upgrade => {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
            out.extend_from_slice(head.upgrade);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The client as the balancer and the journal see it.
pub(crate) fn client(origin: &Origin, head: &Head<'_, '_>, trusted: &[IpNet]) -> Option<IpAddr> {
    if trusted.is_empty() { origin.peer } else { origin.client(head, trusted) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::field::MAX_FIELDS;
    use super::*;

    const ORIGIN: Origin = Origin {
        peer: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        peer_port: 0,
        local: None,
        secure: true,
        stream_of: None,
        port: Some(443),
        identity: None,
        nameless: false,
    };

    fn rewritten(head: &str) -> String {
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let parsed = Head::parse(head.as_bytes(), &mut slots, 128).unwrap().unwrap();
        let mut out = Vec::new();
        request(&mut out, head.as_bytes(), &parsed, &ORIGIN, &[]);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_for_a_server() {
        let head = "GET http://B.example?q HTTP/1.1\r\nHost: a\r\nA: 1\r\nConnection: x-hop, close\r\n\
            X-Hop: 1\r\nProxy: evil\r\nB:2\r\nTE: gzip\r\nKeep-Alive: 5\r\n\r\n";
        assert_eq!(
            rewritten(head),
            "GET /?q HTTP/1.1\r\nHost: B.example\r\nA: 1\r\nB:2\r\n\
             X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: B.example\r\nX-Forwarded-Port: 443\r\n\
             Forwarded: for=127.0.0.1;host=B.example;proto=https\r\nVia: 1.1 roundsman\r\n\r\n"
        );
        for (line, written) in [
            ("OPTIONS http://a", "OPTIONS *"),
            ("OPTIONS http://a/", "OPTIONS /"),
            ("GET http://a", "GET /"),
            ("GET http://a/b", "GET /b"),
            ("GET http://a?b", "GET /?b"),
        ] {
            let out = rewritten(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(out.starts_with(&format!("{written} HTTP/1.1\r\nHost: a\r\n")), "{out}");
        }
        let octal = rewritten("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\n");
        assert!(octal.contains("\r\nContent-Length: 10\r\n"), "{octal}");
        let tab = rewritten("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10 \t\r\n\r\n");
        assert!(tab.contains("\r\nContent-Length: 10\r\n"), "{tab}");
    }

    #[test]
    fn a_server_is_told_how_a_body_ends() {
        let with = |fields: &str| rewritten(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let begins = |out: &str, fields: &str| {
            out.starts_with(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}X-Forwarded-For: "))
        };
        for (fields, written) in [
            ("", ""),
            ("Trailer: x\r\n", ""),
            ("Content-Length: 0\r\n", "Content-Length: 0\r\n"),
            ("Content-Length: 5\r\nTrailer: x\r\n", "Content-Length: 5\r\n"),
            (
                "Transfer-Encoding: chunked\r\nTrailer: x\r\n",
                "Trailer: x\r\nTransfer-Encoding: chunked\r\n",
            ),
        ] {
            let out = with(fields);
            assert!(begins(&out, written), "{fields:?}: {out:?}");
        }
    }

    #[test]
    fn where_the_offered_protocols_stand_is_known() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let parsed = Head::parse(head.as_bytes(), &mut slots, 128).unwrap().unwrap();
        let mut out = Vec::new();
        let offered = request(&mut out, head.as_bytes(), &parsed, &ORIGIN, &[]).unwrap();
        assert_eq!(&out[offered], b"websocket");
        assert_eq!(client(&ORIGIN, &parsed, &[]), ORIGIN.peer);
        assert_eq!(client(&Origin::default(), &parsed, &[]), None);
    }

    #[test]
    fn a_clients_response_has_the_fields_of_its_own_hop() {
        let head = "HTTP/1.1 200 OK\r\nProxy: a\r\nProxy-Connection: b\r\nTrailer: c\r\n\
            Strict-Transport-Security: d\r\nContent-Length: 0\r\nA: e\r\n\r\n";
        let written = |head: &str, chunked, hsts| {
            let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
            let bytes = head.as_bytes();
            let parsed = response::Head::parse(bytes, &mut slots, 128, false).unwrap().unwrap();
            let mut out = Vec::new();
            response(&mut out, bytes, &parsed, chunked, Connection::Persistent, None, hsts);
            String::from_utf8(out).unwrap()
        };
        let first = "HTTP/1.1 200 OK\r\nProxy: a\r\n";
        assert_eq!(
            written(head, false, None),
            format!("{first}Strict-Transport-Security: d\r\nContent-Length: 0\r\nA: e\r\n\r\n")
        );
        let hsts = Hsts::of(&crate::config::settings::Https {
            hsts: Some(std::time::Duration::from_secs(9)),
            ..Default::default()
        });
        assert_eq!(
            written(head, true, hsts),
            format!(
                "{first}Trailer: c\r\nContent-Length: 0\r\nA: e\r\n\
                 Strict-Transport-Security: max-age=9\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
        );
        let none = "HTTP/1.1 204 N\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(written(none, false, None), "HTTP/1.1 204 N\r\n\r\n");
    }

    #[test]
    fn a_response_for_a_client() {
        let response_to = |head: &str| {
            let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
            let bytes = head.as_bytes();
            let parsed = response::Head::parse(bytes, &mut slots, 128, false).unwrap().unwrap();
            let mut out = Vec::new();
            response(&mut out, bytes, &parsed, false, Connection::Persistent, None, None);
            String::from_utf8(out).unwrap()
        };
        let rest = "A: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\n\r\n";
        let kept = "A: 1\r\nContent-Length: 3\r\n\r\n";
        for (line, written) in [
            ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
            ("HTTP/1.1 404 Not  \tFound", "HTTP/1.1 404 Not  \tFound"),
            ("HTTP/1.0 200 OK", "HTTP/1.1 200 OK"),
            ("HTTP/1.1 200", "HTTP/1.1 200 "),
            ("HTTP/1.1 200 ", "HTTP/1.1 200 "),
            ("HTTP/1.1 200 d\u{e9}j\u{e0} vu", "HTTP/1.1 200 "),
        ] {
            let head = format!("{line}\r\n{rest}");
            assert_eq!(response_to(&head), format!("{written}\r\n{kept}"), "{line:?}");
        }
    }

    #[test]
    fn a_length_has_no_leading_zeros_and_nothing_behind_it() {
        for length in ["0010", "10\t", "10 "] {
            let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nA: 1\r\n\r\n");
            let head = head.as_bytes();
            let parsed = response::Head::parse(head, &mut slots, 128, false).unwrap().unwrap();
            let mut out = Vec::new();
            response(&mut out, head, &parsed, false, Connection::Persistent, None, None);
            assert_eq!(out, b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 10\r\n\r\n");
        }
    }

    #[test]
    fn of_many_fields_none_is_overlooked() {
        let many = (0..100).map(|n| format!("X-{n}: {n}\r\n")).collect::<Vec<_>>().concat();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}Keep-Alive: 5\r\nZ: z\r\n\r\n");
        let out = rewritten(&head);
        assert!(out.contains(&format!("{many}Z: z\r\nX-Forwarded-For:")), "{out}");
    }

    proptest! {
        /// Whatever fields a request has: what goes out has ours once, none of the hop's, and all
        /// others as they were and in their order.
        #[test]
        fn fields_pass_or_do_not(
            fields in proptest::collection::vec(
                (
                    proptest::sample::select(vec![
                        "X-A", "x-b", "Cookie", "Accept", "X-Forwarded-For", "x_forwarded_proto",
                        "Forwarded", "X-Real-IP", "Keep-Alive", "Proxy-Connection", "Upgrade",
                        "HTTP2-Settings", "TE", "X-Nominated",
                    ]),
                    "[ \t]?[a-z]{0,8}[ \t]?",
                ),
                0..20,
            ),
        ) {
            let lines: Vec<_> = fields.iter().map(|(n, v)| format!("{n}:{v}\r\n")).collect();
            let lines = lines.concat();
            let out = rewritten(&format!(
                "GET /x HTTP/1.1\r\n{lines}Host: a\r\nConnection: X-Nominated\r\n\r\n"
            ));
            let pass = ["X-A", "x-b", "Cookie", "Accept"];
            let wanted: Vec<_> = lines
                .split_inclusive("\r\n")
                .filter(|l| pass.iter().any(|p| l.starts_with(&format!("{p}:"))))
                .collect();
            let (first, rest) = out.split_once("Host: a\r\n").unwrap();
            prop_assert_eq!(first, "GET /x HTTP/1.1\r\n");
            let ours = rest.find("X-Forwarded-For: 127.0.0.1\r\n").unwrap();
            let copied = rest[..ours].replace("TE: trailers\r\nConnection: TE\r\n", "");
            prop_assert_eq!(copied, wanted.concat());
            prop_assert_eq!(rest.matches("orwarded").count(), 5);
        }
    }
}
