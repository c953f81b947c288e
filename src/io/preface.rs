//! The PROXY protocol, versions 1 and 2: what a proxy in front says about a connection before the
//! connection's own first byte.
//!
//! Pure: bytes in, a header out; and a header in, bytes out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::settings::ProxyVersion;

/// How the second version begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of the first version, with its line end.
const LONGEST_LINE: usize = 107;
/// What is taken of a header of the second version: addresses and a few KB of further facts.
const LONGEST: usize = 16 + 4096;
/// The type of the field with a checksum.
const CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The connection comes from the first and arrived at the second.
    From(SocketAddr, SocketAddr),
    /// The proxy's own connection (a health check), or of a kind without addresses: the socket's
    /// own ones count.
    Nothing,
}

/// Why it is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Reads the header at the start of `bytes`, with its length; `None` while it is not complete.
///
/// An incomplete one is always a prefix of a header: it can be taken off the socket.
pub fn parse(bytes: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    let same = |wanted: &[u8]| {
        let len = bytes.len().min(wanted.len());
        bytes[..len] == wanted[..len]
    };
    if same(SIGNATURE) {
        return if bytes.len() < 16 { check_start(bytes) } else { binary(bytes) };
    }
    if same(b"PROXY ") { line(bytes) } else { Err(Malformed("no PROXY header")) }
}

/// What can be known to be wrong before all sixteen bytes are there.
fn check_start(bytes: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    if bytes.get(12).is_some_and(|b| b >> 4 != 2) {
        return Err(Malformed("unknown version"));
    }
    Ok(None)
}

fn line(bytes: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        let too_long = within.len() == LONGEST_LINE;
        return if too_long { Err(Malformed("the line is too long")) } else { Ok(None) };
    };
    let text = within[..end].strip_suffix(b"\r").ok_or(Malformed("the line ends without CR"))?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed("the line is no ASCII"))?;
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().ok_or(Malformed("the line has too few words"));
    let family = word()?;
    if family == "UNKNOWN" {
        return Ok(Some((Said::Nothing, end + 1))); // whatever follows
    }
    let (from, to, from_port, to_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Malformed("the line has too many words"));
    }
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        let address = match family {
            "TCP4" => text.parse().map(IpAddr::V4).ok(),
            "TCP6" => text.parse().map(IpAddr::V6).ok(),
            _ => return Err(Malformed("unknown protocol")),
        };
        address.ok_or(Malformed("malformed address"))
    };
    let port = |text: &str| -> Result<u16, Malformed> {
        let plain =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| plain).ok_or(Malformed("malformed port"))
    };
    let from = SocketAddr::new(address(from)?, port(from_port)?);
    let to = SocketAddr::new(address(to)?, port(to_port)?);
    Ok(Some((Said::From(from, to), end + 1)))
}

fn binary(bytes: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    let (command, family) = (bytes[12], bytes[13]);
    if command >> 4 != 2 {
        return Err(Malformed("unknown version"));
    }
    let len = 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if len > LONGEST {
        return Err(Malformed("the header is too long"));
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let body = &header[16..];
    let short = Malformed("the addresses are cut short");
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let (said, fields) = match (command & 15, family) {
        // LOCAL: the rest is to be skipped. UNSPEC: nothing is known of it.
        (0, _) | (1, 0x00) => (Said::Nothing, None),
        (1, 0x11) => {
            let at =
                |at| Ipv4Addr::from(<[u8; 4]>::try_from(&body[at..at + 4]).unwrap_or_default());
            body.get(..12).ok_or(short)?;
            let from = SocketAddr::new(at(0).into(), port(8));
            (Said::From(from, SocketAddr::new(at(4).into(), port(10))), Some(12))
        }
        (1, 0x21) => {
            let at =
                |at| Ipv6Addr::from(<[u8; 16]>::try_from(&body[at..at + 16]).unwrap_or_default());
            body.get(..36).ok_or(short)?;
            let from = SocketAddr::new(at(0).into(), port(32));
            (Said::From(from, SocketAddr::new(at(16).into(), port(34))), Some(36))
        }
        (1, 0x31 | 0x32) => {
            body.get(..216).ok_or(short)?;
            (Said::Nothing, Some(216)) // UNIX sockets have no address for us
        }
        (1, 0x12 | 0x22) => return Err(Malformed("this is no datagram")),
        (1, _) => return Err(Malformed("unknown address family")),
        _ => return Err(Malformed("unknown command")),
    };
    if let Some(start) = fields {
        check_fields(header, 16 + start.min(body.len()))?;
    }
    Ok(Some((said, len)))
}

/// Walks the fields behind the addresses; the checksum must be right if there is one.
fn check_fields(header: &[u8], mut at: usize) -> Result<(), Malformed> {
    while at < header.len() {
        let cut = Malformed("a field is cut short");
        let [kind, high, low] = *header[at..].first_chunk().ok_or(cut)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(at + 3..at + 3 + len).ok_or(cut)?;
        if kind == CRC32C {
            let said: [u8; 4] = value.try_into().map_err(|_| Malformed("malformed checksum"))?;
            if crc32c(header, at + 3..at + 7) != u32::from_be_bytes(said) {
                return Err(Malformed("wrong checksum"));
            }
        }
        at += 3 + len;
    }
    Ok(())
}

/// CRC-32C (Castagnoli) of a header as if its checksum were zero. Bit by bit: it is a hundred bytes,
/// once a connection, where it is there at all.
fn crc32c(header: &[u8], zero: std::ops::Range<usize>) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in header.iter().enumerate() {
        crc ^= u32::from(if zero.contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

/// Writes a header; without addresses (a health check of ours, a client on a UNIX socket) one
/// that says so.
pub fn write(
    out: &mut Vec<u8>,
    version: ProxyVersion,
    addresses: Option<(SocketAddr, SocketAddr)>,
) {
    // Both ends in the same family, or there is no header for them.
    let addresses = addresses.map(|(from, to)| match (from.ip(), to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => (from, to),
        _ => (as_v6(from), as_v6(to)),
    });
    match (version, addresses) {
        (ProxyVersion::V1, None) => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        (ProxyVersion::V1, Some((from, to))) => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let (a, b) = (from.ip(), to.ip());
            let text = format!("PROXY {family} {a} {b} {} {}\r\n", from.port(), to.port());
            out.extend_from_slice(text.as_bytes());
        }
        (ProxyVersion::V2, None) => {
            out.extend_from_slice(SIGNATURE);
            out.extend_from_slice(&[0x20, 0, 0, 0]);
        }
        (ProxyVersion::V2, Some((from, to))) => {
            out.extend_from_slice(SIGNATURE);
            let (family, len) = if from.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
            out.extend_from_slice(&[0x21, family, 0, len]);
            for address in [from, to] {
                match address.ip() {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            for address in [from, to] {
                out.extend_from_slice(&address.port().to_be_bytes());
            }
        }
    }
}

fn as_v6(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    fn addresses(from: &str, to: &str) -> Said {
        Said::From(from.parse().unwrap(), to.parse().unwrap())
    }

    #[test]
    fn lines() {
        let parsed = |text: &str| parse(text.as_bytes());
        let line = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";
        let said = addresses("192.0.2.1:56324", "198.51.100.1:443");
        assert_eq!(parsed(&format!("{line}GET /")), Ok(Some((said, line.len()))));
        let line = "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        let said = addresses("[2001:db8::1]:1", "[2001:db8::2]:65535");
        assert_eq!(parsed(line), Ok(Some((said, line.len()))));
        assert_eq!(parsed("PROXY UNKNOWN\r\n"), Ok(Some((Said::Nothing, 15))));
        assert_eq!(parsed("PROXY UNKNOWN a b c\r\n"), Ok(Some((Said::Nothing, 21))));
        for bad in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1.5 198.51.100.1 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY\r\n",
            "proxy UNKNOWN\r\n",
            &format!("PROXY UNKNOWN {}", "x".repeat(100)),
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn binary_headers() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
        let said = addresses("192.0.2.1:56324", "198.51.100.1:443");
        assert_eq!(parse(&v2(0x21, 0x11, &v4)), Ok(Some((said, 28))));
        // Fields of any kind are skipped, a checksum is looked at.
        let mut with = v4.to_vec();
        with.extend(b"\x04\x00\x02ab\x03\x00\x04\x00\x00\x00\x00");
        let mut header = v2(0x21, 0x11, &with);
        let len = header.len();
        let sum = crc32c(&header, len - 4..len);
        header[len - 4..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&header), Ok(Some((said, len))));
        header[20] ^= 1;
        assert_eq!(parse(&header), Err(Malformed("wrong checksum")));
        assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283, "the published check value");

        for (header, text) in [
            (v2(0x20, 0, &[]), "LOCAL"),
            (v2(0x20, 0x11, b"anything"), "LOCAL with what is to be skipped"),
            (v2(0x21, 0, b"anything"), "UNSPEC"),
            (v2(0x21, 0x31, &[0; 216]), "UNIX"),
        ] {
            assert_eq!(parse(&header), Ok(Some((Said::Nothing, header.len()))), "{text}");
        }
        for (header, why) in [
            (v2(0x11, 0x11, &v4), "unknown version"),
            (v2(0x11, 0x11, &v4)[..13].to_vec(), "unknown version"),
            (v2(0x22, 0x11, &v4), "unknown command"),
            (v2(0x21, 0x12, &v4), "this is no datagram"),
            (v2(0x21, 0x22, &v4), "this is no datagram"),
            (v2(0x21, 0x41, &v4), "unknown address family"),
            (v2(0x21, 0x11, &v4[..11]), "the addresses are cut short"),
            (v2(0x21, 0x21, &v4), "the addresses are cut short"),
            (v2(0x21, 0x11, &[&v4[..], b"\x04\x00\x05ab"].concat()), "a field is cut short"),
            (v2(0x21, 0x11, &[&v4[..], b"\x04"].concat()), "a field is cut short"),
            (v2(0x21, 0x11, &[0; 4097]), "the header is too long"),
        ] {
            assert_eq!(parse(&header), Err(Malformed(why)));
        }
        let longest = [&v4[..], &[4, 0x0f, 0xf1], &[0; 0x0ff1]].concat();
        assert_eq!(longest.len(), 4096);
        assert_eq!(parse(&v2(0x21, 0x11, &longest)), Ok(Some((said, 16 + 4096))));
    }

    #[test]
    fn addresses_are_written_in_their_own_family_and_two_kinds_as_ipv6() {
        let written = |from: &str, to: &str| {
            let mut out = Vec::new();
            let ends = (from.parse().unwrap(), to.parse().unwrap());
            write(&mut out, ProxyVersion::V1, Some(ends));
            String::from_utf8(out).unwrap()
        };
        for (from, to, line) in [
            ("192.0.2.1:1", "192.0.2.2:2", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
            ("[::1]:1", "[::2]:2", "PROXY TCP6 ::1 ::2 1 2\r\n"),
            ("192.0.2.1:1", "[::2]:2", "PROXY TCP6 ::ffff:192.0.2.1 ::2 1 2\r\n"),
        ] {
            assert_eq!(written(from, to), line);
        }
    }

    #[test]
    fn what_has_no_addresses_is_written_so() {
        for (version, wanted) in [(ProxyVersion::V1, 15), (ProxyVersion::V2, 16)] {
            let mut out = Vec::new();
            write(&mut out, version, None);
            assert_eq!(parse(&out), Ok(Some((Said::Nothing, wanted))));
        }
    }

    proptest! {
        /// Whatever comes, in whatever pieces: no panic, and the same answer as in one piece.
        #[test]
        fn any_bytes_in_any_pieces(
            start in proptest::sample::select(vec![
                &b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN", SIGNATURE,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x30",
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, &rest[..]].concat();
            let whole = parse(&bytes);
            for cut in 0..bytes.len() {
                match parse(&bytes[..cut]) {
                    Ok(None) => {}
                    early => {
                        prop_assert_eq!(early, whole);
                        if let Ok(Some((_, len))) = early {
                            prop_assert!(len <= cut);
                        }
                    }
                }
            }
        }

        /// What is written is read, whatever follows it.
        #[test]
        fn what_is_written_is_read(
            from in any::<(IpAddr, u16)>(),
            to in any::<(IpAddr, u16)>(),
            two in any::<bool>(),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let (from, to) = (SocketAddr::from(from), SocketAddr::from(to));
            let mut out = Vec::new();
            write(&mut out, if two { ProxyVersion::V2 } else { ProxyVersion::V1 }, Some((from, to)));
            let len = out.len();
            out.extend(rest);
            let Ok(Some((Said::From(read_from, read_to), read))) = parse(&out) else {
                return Err(TestCaseError::fail("not read"));
            };
            prop_assert_eq!(read, len);
            let canonical = |a: SocketAddr| (a.ip().to_canonical(), a.port());
            prop_assert_eq!(canonical(read_from), canonical(from));
            prop_assert_eq!(canonical(read_to), canonical(to));
        }
    }
}
