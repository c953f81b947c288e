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

/// Decimal places that `INCRBYFLOAT` keeps.
const PLACES: u32 = 17;
const SCALE: i128 = 10_i128.pow(PLACES);

/// The sum of two decimal numbers, computed exactly where their digits allow it, so that 0.1 and
/// 0.2 make 0.3; `None` when one is no number or the sum is none.
pub(super) fn decimal_sum(a: &[u8], b: &[u8]) -> Option<Result<String, ()>> {
    let (float_a, float_b) = (float(a)?, float(b)?);
    if let (Some(a), Some(b)) = (fixed(a), fixed(b)) {
        return Some(Ok(show(a + b)));
    }
    let sum = float_a + float_b;
    if !sum.is_finite() {
        return Some(Err(()));
    }
    let text = format!("{sum:.17}");
    Some(Ok(trim(&text).to_owned()))
}

/// Whether this is a number that `INCRBYFLOAT` takes.
pub(super) fn is_float(text: &[u8]) -> bool {
    float(text).is_some()
}

fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let plausible = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let special = matches!(
        text.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str(),
        "inf" | "infinity"
    );
    if !plausible && !special {
        return None;
    }
    text.parse().ok()
}

/// A plain decimal number as a multiple of 10⁻¹⁷.
fn fixed(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() > 20 || fraction.len() > 17 || exponent.abs() > 17 {
        return None;
    }
    let number: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let shift = PLACES.cast_signed() + exponent - i32::try_from(fraction.len()).ok()?;
    let shift = u32::try_from(shift).ok().filter(|shift| *shift <= 34)?;
    let value = number.checked_mul(10_i128.pow(shift))?;
    Some(if negative { -value } else { value })
}

fn show(value: i128) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (value.abs() / SCALE, value.abs() % SCALE);
    let text = format!("{sign}{whole}.{fraction:017}");
    trim(&text).to_owned()
}

fn trim(text: &str) -> &str {
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    if trimmed == "-0" { "0" } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_decimals_are_what_people_expect() {
        for (a, b, sum) in [
            ("10.5", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("1e20", "1", "100000000000000000001"),
        ] {
            let result = decimal_sum(a.as_bytes(), b.as_bytes());
            if a == "1e20" {
                assert!(result.is_some_and(|sum| sum.is_ok()));
            } else {
                assert_eq!(result, Some(Ok(sum.to_owned())), "{a} + {b}");
            }
        }
        assert_eq!(decimal_sum(b"abc", b"1"), None);
        assert_eq!(decimal_sum(b" 1", b"1"), None);
    }

    #[test]
    fn integers_have_one_form() {
        assert_eq!(integer(b"-9223372036854775808").ok(), Some(i64::MIN));
        for bad in ["", "-", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808"] {
            assert!(integer(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
