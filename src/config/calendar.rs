//! systemd's calendar events (systemd.time(7)), as far as a mistake in one can be told from here.
//!
//! systemd has the last word: what is let through here and is wrong fails the timer, which says so.
//! What this catches is what people write by mistake, cron's syntax first of all.

const NAMES: &[&str] = &[
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "yearly",
    "annually",
    "bi-annually",
    "biannually",
    "semi-annually",
];

const DAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Whether it looks like one; the error says what does not.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let mut words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(c) = text.chars().find(|c| !(c.is_ascii_graphic() || *c == ' ')) {
        return Err(format!("{c:?} cannot be part of one"));
    }
    if words.len() > 1 && words.last().is_some_and(|word| is_zone(word)) {
        words.pop();
    }
    if let [name] = words[..]
        && NAMES.contains(&name.to_ascii_lowercase().as_str())
    {
        return Ok(());
    }
    if words.len() >= 5 && words.iter().all(|word| !word.contains(':')) {
        return Err("it looks like cron's".to_owned());
    }
    if words.first().is_some_and(|word| is_days(word)) {
        words.remove(0);
    }
    if words.first().is_some_and(|word| is_date(word)) {
        words.remove(0);
    }
    if words.first().is_some_and(|word| is_time(word)) {
        words.remove(0);
    }
    match words.first() {
        None => Ok(()),
        Some(word) => Err(format!("`{word}` is no weekday, date or time")),
    }
}

fn is_zone(word: &str) -> bool {
    word == "UTC"
        || (word.contains('/')
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c)))
}

fn is_days(word: &str) -> bool {
    word.trim_end_matches(',').split(',').flat_map(|part| part.split("..")).all(|day| {
        let day = day.to_ascii_lowercase();
        DAYS.iter().any(|name| day == *name || (day.starts_with(name) && day.ends_with("day")))
    })
}

/// `*-*-*`, `2026-12-24`, `12-24`, `*-*~1` (the last day of a month).
fn is_date(word: &str) -> bool {
    let fields: Vec<&str> = word.split(['-', '~']).collect();
    let limits: &[u32] = match fields.len() {
        2 => &[12, 31],
        3 => &[9999, 12, 31],
        _ => return false,
    };
    fields.iter().zip(limits).all(|(field, limit)| is_field(field, *limit))
}

/// `04:00`, `*:0/15`, `10:00:30.5`.
fn is_time(word: &str) -> bool {
    let fields: Vec<&str> = word.split(':').collect();
    (2..=3).contains(&fields.len())
        && fields.iter().zip([23, 59, 59]).all(|(field, limit)| is_field(field, limit))
}

/// Numbers up to a limit, lists, ranges and repetitions of them.
fn is_field(field: &str, limit: u32) -> bool {
    field.split(',').all(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let number = |text: &str| {
            let whole = text.split_once('.').map_or(text, |(whole, fraction)| {
                if fraction.bytes().all(|b| b.is_ascii_digit()) { whole } else { "" }
            });
            whole.bytes().all(|b| b.is_ascii_digit())
                && whole.parse().is_ok_and(|n: u32| n <= limit)
        };
        let range = range == "*"
            || match range.split_once("..") {
                Some((from, to)) => number(from) && number(to),
                None => number(range),
            };
        let step = step.split_once('.').map_or(step, |(whole, _)| whole);
        range && step.parse().is_ok_and(|step: u32| step > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_takes_is_taken() {
        // Each was given to `systemd-analyze calendar`.
        for good in [
            "04:00",
            "daily",
            "Weekly",
            "Mon 04:00",
            "Mon..Fri 04:30:15",
            "Mon,Wed,Sun *-*-* 00:00",
            "Saturday 03:00",
            "*-*-01 03:30",
            "*-*~1 02:00",
            "2026-12-24 18:00",
            "12-24 18:00",
            "*:0/15",
            "*-*-* 00,12:30",
            "*-*-1..7 04:00",
            "04:00 UTC",
            "Mon 04:00 Europe/Berlin",
            "10:00:30.5",
            "Mon",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (bad, says) in [
            ("", "empty"),
            ("0 3 * * *", "cron"),
            ("25:00", "25:00"),
            ("+4:00", "+4:00"),
            ("UTC", "UTC"),
            ("04:00 Nowhere", "Nowhere"),
            ("04:00 europe/berlin", "europe/berlin"),
            ("04:00 Europe/Ber:lin", "Europe/Ber:lin"),
            ("4 am", "`4`"),
            ("04.00", "04.00"),
            ("Mond 04:00", "Mond"),
            ("every day", "every"),
            ("04:00\nOnBootSec=1", "'\\n'"),
            ("*:0/0", "*:0/0"),
            ("2026-13-01", "2026-13-01"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
