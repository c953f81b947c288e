//! nginx's times and sizes.

/// A time in milliseconds: `65`, `500ms`, `1h 30m`, `7d`.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 7 * 86_400_000),
        ("M", 30 * 86_400_000),
        ("y", 365 * 86_400_000),
    ];
    let mut all = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "" => 1000,
            name => UNITS.iter().find(|(unit, _)| *unit == name)?.1,
        };
        rest = rest[unit..].trim_start();
        all = all.checked_add(number.checked_mul(factor)?)?;
    }
    Some(all)
}

/// A size in bytes: `512`, `8k`, `20m`, `1g`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].to_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A size as ours.
pub(super) fn size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::super::super::duration;
    use super::*;

    #[test]
    fn times_and_sizes_are_those_of_nginx() {
        for (text, ours) in [
            ("65", Some("65s")),
            ("500ms", Some("500ms")),
            ("1h 30m", Some("5400s")),
            ("1h30m", Some("5400s")),
            ("7d", Some("604800s")),
            ("2w", Some("1209600s")),
            ("1M", Some("2592000s")),
            ("1y", Some("31536000s")),
            ("9y", Some("31622400s")),
            ("", None),
            ("5x", None),
            ("m", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(milliseconds(text).map(duration).as_deref(), ours, "{text}");
        }
        for (text, ours) in [
            ("512", Some("512B")),
            ("8k", Some("8KiB")),
            ("20M", Some("20MiB")),
            ("1024m", Some("1GiB")),
            ("3g", Some("3GiB")),
            ("0", Some("0B")),
            ("1t", None),
            ("x", None),
        ] {
            assert_eq!(bytes(text).map(size).as_deref(), ours, "{text}");
        }
    }
}
