//! Heads as they go out: the fields of this hop left out, ours put in, everything else copied in
//! runs of bytes as it stands.

use std::net::IpAddr;

use ipnet::IpNet;

use super::field::{self, Field};
use super::forwarded::{Origin, decimal};
use super::request::{Framing, Head};
use super::response;
use super::target::Target;

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
        Target::Absolute { path: b"", .. } if head.method == b"OPTIONS" => out.push(b'*'),
        Target::Absolute { path, .. } if path.first() != Some(&b'/') => {
            out.push(b'/');
            out.extend_from_slice(path);
        }
        target => out.extend_from_slice(target.path()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.authority.map_or(b"localhost", |a| a.text));
    out.extend_from_slice(b"\r\n");

    let mut length_is_copied = false;
    field::copy_fields(out, buffer, head.fields, head.len - 2, |field| {
        let name = field.name.as_bytes();
        match Field::of(name) {
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
            Field::OtherForwarded => trusted && !head.options.nominates(name),
            Field::ContentLength => {
                // A leading zero may be octal to somebody.
                length_is_copied = field.value == b"0" || field.value.first() != Some(&b'0');
                length_is_copied
            }
            Field::Trailer => head.framing == Framing::Chunked,
            Field::Accept | Field::Other => !head.options.nominates(name),
        }
    });
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

/// Writes the head that a client gets.
pub(crate) fn response(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &response::Head<'_, '_>,
    chunked: bool,
    connection: Connection,
    set_cookie: Option<&str>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    // 1xx and 204 have no length, and what is chunked to us may not be so to the client.
    let mut lengths = u8::from(head.is_interim() || head.status == 204);
    field::copy_fields(out, buffer, head.fields, head.len - 2, |field| {
        let name = field.name.as_bytes();
        match Field::of(name) {
            Field::TransferEncoding
            | Field::Connection
            | Field::KeepAlive
            | Field::Upgrade
            | Field::Te => false,
            Field::Dropped if !name.eq_ignore_ascii_case(b"proxy") => false,
            Field::ContentLength => {
                lengths += 1;
                lengths == 1
            }
            Field::Trailer => chunked,
            _ => !head.options.nominates(name),
        }
    });
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
