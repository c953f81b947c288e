//! The form in which paths are compared.
//!
//! Servers read a path decoded: `/%61dmin` and `//admin` are `/admin` to most of them, and must be to
//! who decides what goes to which. What they are sent is the path as it came.

use std::borrow::Cow;

/// A path, without its query, in its normal form (RFC 3986 6.2.2): what need not be escaped is not,
/// escapes are in capitals; and empty segments are left out, as nearly every server does.
pub(crate) fn normal(path: &[u8]) -> Cow<'_, [u8]> {
    // Hardly any path is in another one. A short loop without an early end is what a compiler makes
    // the most of.
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    let doubled = pairs.filter(|pair| *pair == (&b'/', &b'/')).count();
    if doubled == 0 && memchr::memchr(b'%', path).is_none() {
        return Cow::Borrowed(path);
    }
    let mut normal = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, escaped(after)) {
            (b'%', Some(byte)) => {
                rest = &after[2..];
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    normal.push(byte);
                } else {
                    let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
                    normal.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
                }
            }
            (b'/', _) if normal.last() == Some(&b'/') => {}
            _ => normal.push(byte),
        }
    }
    Cow::Owned(normal)
}

/// Whether servers disagree about what this path, without its query, is: an escaped slash, backslash or
/// NUL, and dot segments with parameters.
pub(crate) fn is_ambiguous(path: &[u8]) -> bool {
    if memchr::memchr2(b'%', b';', path).is_none() {
        return false;
    }
    let path = normal(path);
    let escapes = memchr::memchr_iter(b'%', &path)
        .any(|at| matches!(path.get(at + 1..at + 3), Some(b"2F" | b"5C" | b"00")));
    escapes
        || path.split(|byte| *byte == b'/').any(|segment| {
            segment
                .iter()
                .position(|byte| *byte == b';')
                .is_some_and(|end| matches!(&segment[..end], b"." | b".."))
        })
}

/// The byte of an escape, of which the `%` was read already.
fn escaped(after: &[u8]) -> Option<u8> {
    let digit = |at: usize| (*after.get(at)? as char).to_digit(16);
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalised(path: &str) -> String {
        String::from_utf8(normal(path.as_bytes()).into_owned()).expect("ASCII")
    }

    #[test]
    fn what_servers_take_for_one_path_has_one_form() {
        for other in ["/admin", "/%61dmin", "//admin", "/%61%64%6d%69%6E", "///%61dmin"] {
            assert_eq!(normalised(other), "/admin", "{other}");
        }
        assert_eq!(normalised("/a%2fb%c3%a9%7e%20"), "/a%2Fb%C3%A9~%20");
        assert_eq!(normalised("/a%zz%4"), "/a%zz%4", "no escape is left alone");
        assert_eq!(normalised("*"), "*");
        assert!(matches!(normal(b"/cart/2"), Cow::Borrowed(_)), "it costs no copy");
    }

    #[test]
    fn what_they_disagree_about_is_ambiguous() {
        for path in ["/a%2fb", "/a%2Fb", "/%5cx", "/x/..;/y", "/.;a=b/", "/x/%2e%2e;/y", "/a%00"] {
            assert!(is_ambiguous(path.as_bytes()), "{path}");
        }
        for path in ["/a;b=c/d", "/a%20b", "/..a;/x", "/a..;b", "/%61", "/a;..", "/"] {
            assert!(!is_ambiguous(path.as_bytes()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(
            path in "/(/|[a-c;.]|%[3-6][0-9a-fA-F]|%2[0-46-9a-fA-F]){0,12}",
        ) {
            let once = normal(path.as_bytes()).into_owned();
            prop_assert_eq!(normal(&once).into_owned(), once);
        }
    }
}
