//! Durations and sizes as people write them: a whole number and a unit, nothing else.

use std::time::Duration;

/// A year: longer waits are mistakes, and sums of a few such values cannot overflow anything.
const MAX_DURATION: Duration = Duration::from_hours(366 * 24);

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// `"500ms"`, `"2s"`, `"5min"`, `"1h"`, `"1d"`; the error is what to write.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    up_to(MAX_DURATION, "366d", text)
}

/// The same of what browsers are to remember: ten years and no more.
pub(super) fn long_duration(text: &str) -> Result<Duration, String> {
    up_to(10 * MAX_DURATION, "3660d", text)
}

fn up_to(most: Duration, shown: &str, text: &str) -> Result<Duration, String> {
    let all = || "write a whole number and a unit: \"500ms\", \"2s\", \"5min\", \"1h\"".to_owned();
    let (number, unit) = split(text).ok_or_else(all)?;
    let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit {
            "" => format!("write the unit: \"{number}s\" or \"{number}ms\""),
            "m" | "minute" | "minutes" | "mins" => format!("write \"{number}min\""),
            "sec" | "secs" | "second" | "seconds" | "S" => format!("write \"{number}s\""),
            "msec" | "millis" | "MS" => format!("write \"{number}ms\""),
            "hour" | "hours" | "hr" | "H" => format!("write \"{number}h\""),
            "day" | "days" | "D" => format!("write \"{number}d\""),
            _ => all(),
        });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= most)
        .ok_or_else(|| format!("write at most \"{shown}\""))
}

/// `"512B"`, `"64KiB"`, `"10MiB"`, `"1GiB"`; the error is what to write.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let all = || "write a whole number and a unit: \"64KiB\", \"10MiB\", \"1GiB\"".to_owned();
    let (number, unit) = split(text).ok_or_else(all)?;
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit.get(..1) {
            None => format!("write the unit: \"{number}MiB\" or \"{number}B\""),
            // KB, MB and so on mean powers of 1000 to some and of 1024 to others.
            Some(first @ ("k" | "K" | "m" | "M" | "g" | "G" | "t" | "T")) => {
                format!("write \"{number}{}iB\"", first.to_uppercase())
            }
            Some("b") => format!("write \"{number}B\""),
            Some(_) => all(),
        });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| "this is more than any machine has; write a smaller size".to_owned())
}

/// The number and what follows it, without the spaces between them.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (!number.is_empty()).then(|| (number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("500ms", ms(500)),
            ("2s", ms(2000)),
            ("2 s", ms(2000)),
            ("5min", ms(300_000)),
            ("1h", ms(3_600_000)),
            ("2d", ms(172_800_000)),
            ("366d", MAX_DURATION),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for (text, help) in [
            ("2", "\"2s\" or \"2ms\""),
            ("5m", "\"5min\""),
            ("7 seconds", "\"7s\""),
            ("7msec", "\"7ms\""),
            ("7 hours", "\"7h\""),
            ("7D", "\"7d\""),
            ("367d", "at most"),
            ("99999999999999999999s", "at most"),
            ("", "whole number"),
            ("-1s", "whole number"),
            ("1.5s", "whole number"),
            ("1h30min", "whole number"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
        assert_eq!(long_duration("730d"), Ok(2 * Duration::from_hours(365 * 24)));
        assert_eq!(long_duration("3661d"), Err("write at most \"3660d\"".to_owned()));
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0B", 0),
            ("2KiB", 2048),
            ("10MiB", 10_485_760),
            ("3GiB", 3_221_225_472),
            ("4 TiB", 4_398_046_511_104),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for (text, help) in [
            ("512M", "\"512MiB\""),
            ("512mb", "\"512MiB\""),
            ("64k", "\"64KiB\""),
            ("1024", "the unit"),
            ("16777216TiB", "smaller"),
            ("many", "whole number"),
        ] {
            let error = size(text).unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".*") {
            let _ = duration(&text);
            let _ = size(&text);
        }

        #[test]
        fn whole_seconds_mean_themselves(seconds in 0_u64..30_000_000) {
            prop_assert_eq!(duration(&format!("{seconds}s")), Ok(Duration::from_secs(seconds)));
        }
    }
}
