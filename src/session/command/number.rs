//! Numbers as clients write them.

use super::CommandError;

/// A 64-bit integer in the only form that Redis takes: no blanks, no plus, no leading zeros.
pub(super) fn integer(text: &[u8]) -> Result<i64, CommandError> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = text == b"0"
        || matches!(digits.first(), Some(b'1'..=b'9')) && digits.iter().all(u8::is_ascii_digit);
    if !canonical {
        return Err(CommandError::NotInteger);
    }
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(CommandError::NotInteger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_form() {
        assert_eq!(integer(b"-9223372036854775808").ok(), Some(i64::MIN));
        for bad in ["", "-", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808"] {
            assert!(integer(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
