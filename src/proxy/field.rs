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
        // The length tells nearly all fields apart, so most names cost no comparison.
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            2 if is(b"te") => return Self::Te,
            4 if is(b"host") => return Self::Host,
            5 if is(b"proxy") => return Self::Dropped, // becomes HTTP_PROXY in CGI-like servers
            6 if is(b"expect") => return Self::Expect,
            6 if is(b"accept") => return Self::Accept,
            7 if is(b"upgrade") => return Self::Upgrade,
            7 if is(b"trailer") => return Self::Trailer,
            9 if is(b"forwarded") => return Self::Forwarded,
            9 if is(b"x-real-ip") => return Self::OtherForwarded,
            10 if is(b"connection") => return Self::Connection,
            10 if is(b"keep-alive") => return Self::KeepAlive,
            14 if is(b"content-length") => return Self::ContentLength,
            14 if is(b"http2-settings") => return Self::Dropped,
            15 if is(b"x-forwarded-for") => return Self::ForwardedFor,
            16 if is(b"x-forwarded-host") => return Self::ForwardedHost,
            16 if is(b"x-forwarded-port") => return Self::ForwardedPort,
            16 if is(b"proxy-connection") => return Self::Dropped,
            17 if is(b"transfer-encoding") => return Self::TransferEncoding,
            17 if is(b"x-forwarded-proto") => return Self::ForwardedProto,
            19 if is(b"proxy-authorization") => return Self::Dropped,
            12.. if name[..12].eq_ignore_ascii_case(b"x-forwarded-") => {
                return Self::OtherForwarded;
            }
            _ => {}
        }
        Self::of_alias(name)
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
            Self::Other | Self::Accept | Self::Te | Self::Trailer => Self::Other,
            _ => Self::Dropped,
        }
    }
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
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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

/// Copies the lines of a head, except those that `keep` refuses, run by run.
///
/// `end` is where the empty line that ends the head begins. Each line is taken as it stands, from
/// its name to the next one's.
pub(crate) fn copy_fields(
    out: &mut Vec<u8>,
    buffer: &[u8],
    fields: &[Header<'_>],
    end: usize,
    mut keep: impl FnMut(&Header<'_>) -> bool,
) {
    let mut run: Option<usize> = None;
    for field in fields {
        let at = offset(buffer, field.name.as_bytes());
        if keep(field) {
            run.get_or_insert(at);
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
    fn names_are_told_whatever_their_case() {
        assert_eq!(Field::of(b"CONTENT-length"), Field::ContentLength);
        assert_eq!(Field::of(b"Content-Lengths"), Field::Other);
        assert_eq!(Field::of(b"x-forwarded-server"), Field::OtherForwarded);
        assert_eq!(Field::of(b"user_agent"), Field::Other);
    }

    #[test]
    fn underscore_aliases_of_our_fields_are_dropped() {
        for name in ["X_Forwarded_For", "x_forwarded-proto", "Content_Length", "X_REAL_IP"] {
            assert_eq!(Field::of(name.as_bytes()), Field::Dropped, "{name}");
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
        copy_fields(&mut out, head, fields, head.len() - 2, |f| f.name != "C" && f.name != "A");
        assert_eq!(out, b"B:2 \r\nD: 4\r\n");
    }
}
