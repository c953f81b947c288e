//! Header fields: which of them the proxy itself has to do with, and the few list forms it reads.

use httparse::Header;

/// Most fields that a head may have, whatever the settings say: they are parsed on the stack.
pub(crate) const MAX_FIELDS: usize = 512;

/// Most connection options that a message may name. More than a handful is an attack.
const MAX_OPTIONS: usize = 16;

/// A field that the proxy reads, replaces or removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Te,
    Trailer,
    Expect,
    Accept,
    KeepAlive,
    Forwarded,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    ForwardedPort,
    /// Says where a request comes from, in a form that the proxy does not write itself.
    OtherForwarded,
    /// Between two hops, or a name that servers may take for one the proxy writes.
    Dropped,
    Other,
}

impl Field {
    /// What this name is, whatever its case.
    pub(crate) fn of(name: &[u8]) -> Self {
        // Length and first letter tell nearly all names apart, so most cost no comparison.
        let Some(first) = name.first() else { return Self::Other };
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match (first | 0x20, name.len()) {
            (b't', 2) if is(b"te") => Self::Te,
            (b'h', 4) if is(b"host") => Self::Host,
            (b'p', 5) if is(b"proxy") => Self::Dropped, // becomes HTTP_PROXY in CGI-like servers
            (b'e', 6) if is(b"expect") => Self::Expect,
            (b'a', 6) if is(b"accept") => Self::Accept,
            (b'u', 7) if is(b"upgrade") => Self::Upgrade,
            (b't', 7) if is(b"trailer") => Self::Trailer,
            (b'f', 9) if is(b"forwarded") => Self::Forwarded,
            (b'x', 9) if is(b"x-real-ip") => Self::OtherForwarded,
            (b'c', 10) if is(b"connection") => Self::Connection,
            (b'k', 10) if is(b"keep-alive") => Self::KeepAlive,
            (b'c', 11) if is(b"client-cert") => Self::Dropped,
            (b'c', 17) if is(b"client-cert-chain") => Self::Dropped,
            (b'c', 14) if is(b"content-length") => Self::ContentLength,
            (b'h', 14) if is(b"http2-settings") => Self::Dropped,
            (b'x', 15) if is(b"x-forwarded-for") => Self::ForwardedFor,
            (b'x', 16) if is(b"x-forwarded-host") => Self::ForwardedHost,
            (b'x', 16) if is(b"x-forwarded-port") => Self::ForwardedPort,
            (b'p', 16) if is(b"proxy-connection") => Self::Dropped,
            (b't', 17) if is(b"transfer-encoding") => Self::TransferEncoding,
            (b'x', 17) if is(b"x-forwarded-proto") => Self::ForwardedProto,
            (b'p', 19) if is(b"proxy-authorization") => Self::Dropped,
            (b'x', 12..) if name[..12].eq_ignore_ascii_case(b"x-forwarded-") => {
                Self::OtherForwarded
            }
            // What proxies call a client's certificate that do not know RFC 9440.
            (b'x', 13..) if name[..13].eq_ignore_ascii_case(b"x-ssl-client-") => {
                Self::OtherForwarded
            }
            (b's', 11..) if name[..11].eq_ignore_ascii_case(b"ssl-client-") => Self::OtherForwarded,
            // Those of these that have a hyphen have an alias.
            (b'x', 9 | 12..)
            | (b's', 11..)
            | (b'k', 10)
            | (b'c', 11)
            | (b'c' | b'h', 14)
            | (b'p', 16 | 19)
            | (b'c' | b't', 17) => Self::of_alias(name),
            _ => Self::Other,
        }
    }

    /// Servers in the manner of CGI take `_` for `-`, so `X_Forwarded_For` is as good as the real
    /// one to them. Nobody needs such a name.
    fn of_alias(name: &[u8]) -> Self {
        if name.len() > 64 || memchr::memchr(b'_', name).is_none() {
            return Self::Other;
        }
        let mut folded = [0; 64];
        let folded = &mut folded[..name.len()];
        for (to, from) in folded.iter_mut().zip(name) {
            *to = if *from == b'_' { b'-' } else { *from };
        }
        match Self::of(folded) {
            Self::Other => Self::Other,
            _ => Self::Dropped,
        }
    }
}

/// Whether this field counts who passes a request on (RFC 9110 7.6.2).
pub(crate) fn is_max_forwards(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"max-forwards")
}

/// What the `Connection` fields of a message say.
#[derive(Debug, Default)]
pub(crate) struct Options<'b> {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    nominated: [&'b [u8]; MAX_OPTIONS],
    count: usize,
}

impl<'b> Options<'b> {
    /// Adds one `Connection` field; false when it is malformed or names too many options.
    pub(crate) fn add(&mut self, value: &'b [u8]) -> bool {
        for option in list(value) {
            if !is_token(option) {
                return false;
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                if self.count == MAX_OPTIONS {
                    return false;
                }
                self.nominated[self.count] = option;
                self.count += 1;
            }
        }
        true
    }

    /// Whether this field is for this hop only.
    pub(crate) fn nominates(&self, name: &[u8]) -> bool {
        self.nominated[..self.count].iter().any(|n| n.eq_ignore_ascii_case(name))
    }
}

/// The members of a comma-separated list without the white space around them; empty ones are left
/// out, as RFC 9110 5.6.1.2 has it.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without the spaces and tabs around it.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether these bytes are one RFC 9110 token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_token_byte(*b))
}

fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTE[usize::from(byte)]
}

const TOKEN_BYTE: [bool; 256] = table(b"!#$%&'*+-.^_`|~");

/// Which bytes are letters, digits or among these: looking one up is quicker than comparing it.
pub(crate) const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// A number of one or more digits and nothing else.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Where a part of a buffer begins in it.
pub(crate) fn offset(buffer: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - buffer.as_ptr().addr()
}

/// What the fields of a head are, looked up once for each; of those behind the first ones it is
/// looked up again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kinds([Field; KNOWN]);

/// Hardly any head has more fields.
const KNOWN: usize = 32;

impl Kinds {
    /// Of no field yet.
    pub(crate) fn new() -> Self {
        Self([Field::Other; KNOWN])
    }

    /// Looks up what the field at this place is.
    pub(crate) fn learn(&mut self, at: usize, name: &[u8]) -> Field {
        let field = Field::of(name);
        if let Some(kind) = self.0.get_mut(at) {
            *kind = field;
        }
        field
    }

    /// What the field at this place is, which was learnt before.
    pub(crate) fn of(&self, at: usize, name: &[u8]) -> Field {
        self.0.get(at).copied().unwrap_or_else(|| Field::of(name))
    }
}

/// Copies the lines of a head, except those that `keep` refuses, run by run.
///
/// `end` is where the empty line that ends the head begins, `run` where a run has begun already.
/// Each line is taken as it stands, from its name to the next one's. `keep` is told its number.
pub(crate) fn copy_fields(
    out: &mut Vec<u8>,
    buffer: &[u8],
    fields: &[Header<'_>],
    end: usize,
    mut run: Option<usize>,
    mut keep: impl FnMut(usize, &Header<'_>) -> bool,
) {
    for (number, field) in fields.iter().enumerate() {
        let keeps = keep(number, field);
        if keeps && run.is_some() {
            continue;
        }
        let at = offset(buffer, field.name.as_bytes());
        if keeps {
            run = Some(at);
        } else if let Some(start) = run.take() {
            out.extend_from_slice(&buffer[start..at]);
        }
    }
    if let Some(start) = run {
        out.extend_from_slice(&buffer[start..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_one_name_and_none_that_is_nearly_its_own() {
        for (name, field) in [
            ("te", Field::Te),
            ("host", Field::Host),
            ("proxy", Field::Dropped),
            ("expect", Field::Expect),
            ("accept", Field::Accept),
            ("upgrade", Field::Upgrade),
            ("trailer", Field::Trailer),
            ("forwarded", Field::Forwarded),
            ("x-real-ip", Field::OtherForwarded),
            ("connection", Field::Connection),
            ("keep-alive", Field::KeepAlive),
            ("client-cert", Field::Dropped),
            ("client-cert-chain", Field::Dropped),
            ("content-length", Field::ContentLength),
            ("http2-settings", Field::Dropped),
            ("x-forwarded-for", Field::ForwardedFor),
            ("x-forwarded-host", Field::ForwardedHost),
            ("x-forwarded-port", Field::ForwardedPort),
            ("proxy-connection", Field::Dropped),
            ("transfer-encoding", Field::TransferEncoding),
            ("x-forwarded-proto", Field::ForwardedProto),
            ("proxy-authorization", Field::Dropped),
        ] {
            assert_eq!(Field::of(name.as_bytes()), field, "{name}");
            assert_eq!(Field::of(name.to_uppercase().as_bytes()), field, "{name}");
            let nearly = format!("{}q", &name[..name.len() - 1]);
            let is_group = name.starts_with("x-forwarded-");
            let other = if is_group { Field::OtherForwarded } else { Field::Other };
            assert_eq!(Field::of(nearly.as_bytes()), other, "{nearly}");
        }
    }

    #[test]
    fn names_are_told_whatever_their_case() {
        assert_eq!(Field::of(b"CONTENT-length"), Field::ContentLength);
        assert_eq!(Field::of(b"Content-Lengths"), Field::Other);
        assert_eq!(Field::of(b"x-forwarded-server"), Field::OtherForwarded);
        for other in ["user_agent", "x_custom_name", "x-request-id", "x_request-id", ""] {
            assert_eq!(Field::of(other.as_bytes()), Field::Other, "{other}");
        }
        let alias = |length: usize| format!("x_forwarded-{}", "a".repeat(length - 12));
        assert_eq!(Field::of(alias(64).as_bytes()), Field::Dropped);
        assert_eq!(Field::of(alias(65).as_bytes()), Field::Other, "no server knows such a name");
    }

    #[test]
    fn underscore_aliases_of_our_fields_are_dropped() {
        for name in ["X_Forwarded_For", "x_forwarded-proto", "Content_Length", "X_REAL_IP"] {
            assert_eq!(Field::of(name.as_bytes()), Field::Dropped, "{name}");
        }
        for name in [
            "keep-alive",
            "content-length",
            "http2-settings",
            "proxy-connection",
            "proxy-authorization",
            "transfer-encoding",
            "x-real-ip",
            "x-forwarded-",
            "x-forwarded-for",
            "x-forwarded-port",
            "x-forwarded-something",
            "client-cert",
            "client-cert-chain",
            "x-ssl-client-verify",
            "ssl-client-subject-dn",
        ] {
            assert_ne!(Field::of(name.as_bytes()), Field::Other, "{name}");
            for alias in [name.replace('-', "_"), name.replacen('-', "_", 1).to_uppercase()] {
                assert_eq!(Field::of(alias.as_bytes()), Field::Dropped, "{alias}");
            }
        }
    }

    #[test]
    fn numbers_are_digits_only_and_do_not_wrap() {
        assert_eq!(number(b"00"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+5", "-0", "0x5", "1 0", "18446744073709551616", "5\u{b}"] {
            assert_eq!(number(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn connection_options_nominate_fields() {
        let mut options = Options::default();
        assert!(options.add(b"close, , X-Internal"));
        assert!(options.close && options.nominates(b"x-internal") && !options.nominates(b"x"));
        assert!(!Options::default().add(b"a b"));
        assert!(!Options::default().add(b"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"));
    }

    #[test]
    fn runs_skip_the_refused_lines_only() {
        let head = b"A: 1\r\nB:2 \r\nC: 3\r\nD: 4\r\n\r\n";
        let mut fields = [httparse::EMPTY_HEADER; 8];
        let httparse::Status::Complete((_, fields)) =
            httparse::parse_headers(head, &mut fields).unwrap()
        else {
            panic!("complete")
        };
        let mut out = Vec::new();
        let end = head.len() - 2;
        copy_fields(&mut out, head, fields, end, None, |_, f| f.name != "C" && f.name != "A");
        assert_eq!(out, b"B:2 \r\nD: 4\r\n");
    }
}
