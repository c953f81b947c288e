//! Values of an ecosystem file, which come as numbers, texts and lists alike.

use serde_json::{Map, Value};

/// What an app runs, by whichever key.
pub(super) fn script(app: &Map<String, Value>) -> Option<&str> {
    ["script", "exec", "cmd", "command"].iter().find_map(|key| app.get(*key)?.as_str())
}

/// As it stands in the environment or in a list.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // As JavaScript writes it: YAML's 1.0 is 1.
        Value::Number(number) => Some(match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e21 => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        }),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Whether a switch is on.
pub(super) fn truthy(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// `300M`, `1G`, or a number of bytes, as ours.
pub(super) fn memory(value: &Value) -> Option<String> {
    if let Some(bytes) = value.as_u64() {
        return Some(format!("{}KiB", bytes.div_ceil(1024)));
    }
    let text = value.as_str()?.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().ok()?;
    Some(match text[digits.len()..].trim().to_uppercase().as_str() {
        "" => format!("{}KiB", number.div_ceil(1024)),
        "K" | "KB" => format!("{number}KiB"),
        "M" | "MB" => format!("{number}MiB"),
        "G" | "GB" => format!("{number}GiB"),
        _ => return None,
    })
}

/// A time: `1600`, `"1600"`, `"5s"`, `"1m"`, `"2h"`; in milliseconds, more than none.
pub(super) fn milliseconds(value: &Value) -> Option<u64> {
    let given = value.as_u64().or_else(|| {
        let text = value.as_str()?;
        let digits = text.trim_end_matches(['s', 'm', 'h']);
        let factor = match &text[digits.len()..] {
            "" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(factor)
    })?;
    (given > 0).then_some(given)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::duration;
    use super::*;

    #[test]
    fn numbers_are_written_as_javascript_does() {
        for (value, written) in [
            (json!(1.0), "1"),
            (json!(1e3), "1000"),
            (json!(1.5), "1.5"),
            (json!(-7), "-7"),
            (json!(1e20), "100000000000000000000"),
            (json!(true), "true"),
            (json!("x"), "x"),
        ] {
            assert_eq!(text(&value).as_deref(), Some(written));
        }
    }

    #[test]
    fn times_and_sizes() {
        for (given, ours) in [
            (json!(1600), Some("1600ms")),
            (json!("15500"), Some("15500ms")),
            (json!("5s"), Some("5s")),
            (json!("1m"), Some("60s")),
            (json!("2h"), Some("7200s")),
            (json!("1ms"), None),
            (json!(0), None),
            (json!(-1), None),
            (json!("99999999999999999h"), None),
        ] {
            assert_eq!(milliseconds(&given).map(duration).as_deref(), ours, "{given}");
        }
        for (given, ours) in [
            (json!("300M"), Some("300MiB")),
            (json!("1g"), Some("1GiB")),
            (json!(1025), Some("2KiB")),
            (json!("1.5G"), None),
            (json!("much"), None),
            (json!("2048"), Some("2KiB")),
            (json!("64K"), Some("64KiB")),
            (json!("64kb"), Some("64KiB")),
            (json!("2GB"), Some("2GiB")),
        ] {
            assert_eq!(memory(&given).as_deref(), ours, "{given}");
        }
    }
}
