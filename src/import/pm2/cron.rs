//! Cron's times as systemd's calendar events (systemd.time(7)).

/// `*`, or what else is asked for, in systemd's words.
enum Field {
    Any,
    Some(String),
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// The events of which one is at each of cron's times, and none at any other.
///
/// # Errors
/// With what cannot be said in systemd's words.
pub(super) fn events(text: &str) -> Result<Vec<String>, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (second, [minute, hour, day, month, weekday]) = match fields[..] {
        [minute, hour, day, month, weekday] => ("0", [minute, hour, day, month, weekday]),
        [second, minute, hour, day, month, weekday] => {
            (second, [minute, hour, day, month, weekday])
        }
        [word] if word.starts_with('@') => return named(word).map(|event| vec![event]),
        _ => return Err(format!("it has {} fields, not 5 or 6", fields.len())),
    };
    let or_any = |field: Field| match field {
        Field::Any => "*".to_owned(),
        Field::Some(text) => text,
    };
    let time = {
        let second = or_any(numbers(second, 0, 59, &[])?);
        let minute = or_any(numbers(minute, 0, 59, &[])?);
        let hour = or_any(numbers(hour, 0, 23, &[])?);
        if second == "00" {
            format!("{hour}:{minute}")
        } else {
            format!("{hour}:{minute}:{second}")
        }
    };
    let days = numbers(day, 1, 31, &[])?;
    let month = numbers(month, 1, 12, &MONTHS)?;
    let weekdays = weekdays(weekday)?;
    let date = |day: Option<&str>| match (&month, day) {
        (Field::Any, None) => String::new(),
        (Field::Any, Some(day)) => format!("*-*-{day} "),
        (Field::Some(month), day) => format!("*-{month}-{} ", day.unwrap_or("*")),
    };
    Ok(match (&days, &weekdays) {
        (Field::Any, Field::Any) => vec![format!("{}{time}", date(None))],
        (Field::Some(day), Field::Any) => vec![format!("{}{time}", date(Some(day)))],
        (Field::Any, Field::Some(names)) => vec![format!("{names} {}{time}", date(None))],
        // Either of them is enough for cron; systemd asks for both.
        (Field::Some(day), Field::Some(names)) => {
            if [day, names].iter().any(|text| text.starts_with('*'))
                || fields.iter().any(|f| f.starts_with("*/"))
            {
                return Err("a day of the month and a day of the week with steps".to_owned());
            }
            vec![format!("{}{time}", date(Some(day))), format!("{names} {}{time}", date(None))]
        }
    })
}

fn named(word: &str) -> Result<String, String> {
    Ok(match word.to_lowercase().as_str() {
        "@hourly" => "hourly",
        "@daily" | "@midnight" => "daily",
        "@weekly" => "Sun 00:00",
        "@monthly" => "monthly",
        "@yearly" | "@annually" => "yearly",
        _ => return Err(format!("{word} has no counterpart")),
    }
    .to_owned())
}

/// One number, by name or not.
fn number(text: &str, least: u32, most: u32, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_lowercase();
    let by_name = names.iter().position(|name| name.eq_ignore_ascii_case(&lower));
    let number = match by_name {
        Some(index) => u32::try_from(index).ok().map(|index| index + least),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    };
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{text} is no number from {least} to {most}"))
}

/// A part of a field: from, to, and every how many.
fn part(text: &str, least: u32, most: u32, names: &[&str]) -> Result<(u32, u32, u32), String> {
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let every: u32 =
        step.parse().ok().filter(|step| *step > 0).ok_or_else(|| format!("/{step} is no step"))?;
    let (from, to) = match (range, range.split_once('-')) {
        ("*", _) => (least, most),
        (_, Some((from, to))) => {
            (number(from, least, most, names)?, number(to, least, most, names)?)
        }
        // From it on, if there is a step.
        (_, None) => {
            let from = number(range, least, most, names)?;
            (from, if text.contains('/') { most } else { from })
        }
    };
    if from > to {
        return Err(format!("{text} ends before it begins"));
    }
    Ok((from, to, every))
}

fn numbers(text: &str, least: u32, most: u32, names: &[&str]) -> Result<Field, String> {
    if matches!(text, "*" | "?") {
        return Ok(Field::Any);
    }
    let parts: Result<Vec<String>, String> = text
        .split(',')
        .map(|text| {
            let (from, to, every) = part(text, least, most, names)?;
            Ok(match (from == to, to == most, every) {
                (true, ..) => format!("{from:02}"),
                (_, true, 2..) => format!("{from}/{every}"),
                (_, _, 1) => format!("{from}..{to}"),
                (..) => format!("{from}..{to}/{every}"),
            })
        })
        .collect();
    Ok(Field::Some(parts?.join(",")))
}

fn weekdays(text: &str) -> Result<Field, String> {
    if matches!(text, "*" | "?") {
        return Ok(Field::Any);
    }
    let mut asked = [false; 7];
    for text in text.split(',') {
        let (from, to, every) = part(text, 0, 7, &DAYS)?;
        // `*/2` does not mean Sunday twice.
        let to = if text.starts_with('*') { 6 } else { to };
        for day in (from..=to).step_by(every as usize) {
            asked[day as usize % 7] = true;
        }
    }
    if asked == [true; 7] {
        return Ok(Field::Any);
    }
    // A week begins on Monday in systemd's words.
    let week: Vec<usize> = (1..=7).map(|day| day % 7).collect();
    let days: Vec<&str> = week.iter().filter(|day| asked[**day]).map(|day| DAYS[*day]).collect();
    let first = week.iter().position(|day| asked[*day]).unwrap_or(0);
    let together = days.len() > 2 && week[first..].iter().take(days.len()).all(|day| asked[*day]);
    Ok(Field::Some(match (together, &days[..]) {
        (true, [from, .., to]) => format!("{from}..{to}"),
        _ => days.join(","),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right ones were given to `systemd-analyze calendar`.
    #[test]
    fn every_form_becomes_events_of_systemd() {
        for (cron, event) in [
            ("0 3 * * *", "03:00"),
            ("30 4 1 * *", "*-*-01 04:30"),
            ("*/5 * * * *", "*:0/5"),
            ("0 */6 * * *", "0/6:00"),
            ("15,45 8-18 * * *", "8..18:15,45"),
            ("0 4 * * 0", "Sun 04:00"),
            ("0 4 * * 7", "Sun 04:00"),
            ("0 0 * * MON-FRI", "Mon..Fri 00:00"),
            ("0 0 * * 1,3,5", "Mon,Wed,Fri 00:00"),
            ("0 0 * * 6,0", "Sat,Sun 00:00"),
            ("0 0 * * 5-7", "Fri..Sun 00:00"),
            ("0 0 * * */2", "Tue,Thu,Sat,Sun 00:00"),
            ("0 0 * * 0-6", "00:00"),
            ("0 0 1 jan,JUL *", "*-01,07-01 00:00"),
            ("0 2 * 1-3 *", "*-1..3-* 02:00"),
            ("10-40/10 * * * *", "*:10..40/10"),
            ("5/20 * * * *", "*:5/20"),
            ("0 0 3 * * *", "03:00"),
            ("30 0 3 * * *", "03:00:30"),
            ("* * * * *", "*:*"),
            ("0 0 ? * ?", "00:00"),
            ("@hourly", "hourly"),
            ("@daily", "daily"),
            ("@midnight", "daily"),
            ("@monthly", "monthly"),
            ("@yearly", "yearly"),
            ("@annually", "yearly"),
            ("@Weekly", "Sun 00:00"),
        ] {
            assert_eq!(events(cron), Ok(vec![event.to_owned()]), "{cron}");
            assert_eq!(crate::config::calendar::check(event), Ok(()), "{event}");
        }
    }

    #[test]
    fn a_day_of_the_month_or_one_of_the_week() {
        let both = ["*-*-13 00:00".to_owned(), "Fri 00:00".to_owned()];
        assert_eq!(events("0 0 13 * 5"), Ok(both.to_vec()));
    }

    #[test]
    fn the_rest_is_told() {
        for bad in [
            "",
            "0 3 * *",
            "60 * * * *",
            "0 24 * * *",
            "0 0 0 * *",
            "0 0 L * *",
            "0 0 * * 5L",
            "0 0 * * 1#2",
            "0 0 15W * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@reboot",
            "a b c d e",
            "daily",
            "+5 * * * *",
            "0 0 */2 * 1",
            "0 3 * * * * 2030",
            "-1 * * * *",
            "1- * * * *",
        ] {
            assert!(events(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_comes_out_is_one(cron in "([0-9*/,-]{1,4} ){4}[0-7*/,-]{1,4}") {
            for event in events(&cron).unwrap_or_default() {
                proptest::prop_assert_eq!(crate::config::calendar::check(&event), Ok(()), "{} of {}", event, cron);
            }
        }
    }
}
