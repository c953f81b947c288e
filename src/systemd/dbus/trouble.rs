//! Why a unit is not well, in words: systemd says it in one word and a number.

use super::unit::Unit;
use crate::base::exit;

/// The exit statuses by which systemd says that it could not even start a program (systemd.exec(5)).
const EXECUTION: std::ops::RangeInclusive<i32> = 200..=245;

/// What the app's own exit code is above which it means a signal, and up to which.
const SIGNALS: std::ops::RangeInclusive<i32> = 129..=192;

// === impl Unit ===

impl Unit {
    /// Why it is not well, in a few words; `None` when it is.
    pub(crate) fn trouble(&self) -> Option<String> {
        let status = self.status();
        Some(match self.text("Result") {
            "success" | "" => return None,
            "exit-code" if status == i32::from(exit::WORKER_GIVEN_UP) => {
                match self.text("StatusText") {
                    "" => "it crashed too often and was given up".to_owned(),
                    text => text.to_owned(),
                }
            }
            "exit-code" => exit_code(status),
            "signal" => format!("it was killed by signal {status}"),
            "core-dump" => format!("it crashed with signal {status} and dumped core"),
            "timeout" => "it was not ready (or not gone) in time".to_owned(),
            "watchdog" => "it did not answer and was restarted by the watchdog".to_owned(),
            "oom-kill" => "the kernel killed it for its memory".to_owned(),
            "start-limit-hit" => "it failed too often and was given up".to_owned(),
            "protocol" => "it ended before it was ready".to_owned(),
            other => format!("its result is \"{other}\""),
        })
    }

    fn status(&self) -> i32 {
        let status = self.properties.get("ExecMainStatus");
        status.and_then(|value| i32::try_from(value).ok()).unwrap_or_default()
    }
}

/// Why, and where there is one thing to do about it, that.
fn exit_code(status: i32) -> String {
    let known = match status {
        71 => "the operating system refused something",
        78 => "its settings cannot work",
        81 => "it would run as somebody else than its file says: systemctl daemon-reload",
        126 => "its command cannot be executed",
        127 => "its command was not found",
        200 => "systemd cannot enter its directory",
        216 => "the group in its file does not exist on this machine",
        217 => "the user in its file does not exist on this machine: adduser --system --group NAME",
        226 => {
            "its sandbox cannot be made: a path that the unit names is not there, or /tmp, /var/tmp or \
             /run is full (df, df --inodes)"
        }
        243 => "a file in `credentials` or `environment-files` cannot be read",
        _ if SIGNALS.contains(&status) => {
            return format!("its app was killed by signal {}", status - 128);
        }
        _ if EXECUTION.contains(&status) => "systemd could not start it (systemd.exec(5))",
        _ => return format!("it exited with status {status}"),
    };
    format!("{known} (status {status})")
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    fn unit(result: &str, status: i32, text: &str) -> Unit {
        let properties = [
            ("Result", Variant::from(result)),
            ("ExecMainStatus", status.into()),
            ("StatusText", text.into()),
        ];
        let owned = |(name, value): &(&str, Variant<'_>)| {
            ((*name).to_owned(), value.try_to_owned().expect("no descriptors"))
        };
        Unit { properties: properties.iter().map(owned).collect() }
    }

    #[test]
    fn says_in_words_why_a_unit_is_not_well() {
        let given_up = i32::from(exit::WORKER_GIVEN_UP);
        for (result, status, text, words) in [
            ("success", 0, "", None),
            ("", 0, "", None),
            ("exit-code", given_up, "", Some("it crashed too often and was given up")),
            ("exit-code", given_up, "given up after 16 crashes", Some("given up after 16 crashes")),
            ("exit-code", 3, "listening", Some("it exited with status 3")),
            ("exit-code", 137, "", Some("its app was killed by signal 9")),
            ("exit-code", 127, "", Some("its command was not found (status 127)")),
            (
                "exit-code",
                241,
                "",
                Some("systemd could not start it (systemd.exec(5)) (status 241)"),
            ),
            ("signal", 9, "", Some("it was killed by signal 9")),
            ("core-dump", 11, "", Some("it crashed with signal 11 and dumped core")),
            ("timeout", 0, "", Some("it was not ready (or not gone) in time")),
            ("watchdog", 6, "", Some("it did not answer and was restarted by the watchdog")),
            ("oom-kill", 9, "", Some("the kernel killed it for its memory")),
            ("start-limit-hit", 1, "", Some("it failed too often and was given up")),
            ("protocol", 0, "", Some("it ended before it was ready")),
            ("resources", 0, "", Some("its result is \"resources\"")),
        ] {
            let unit = unit(result, status, text);
            assert_eq!(unit.trouble().as_deref(), words, "{result} {status}");
        }
        assert_eq!(Unit::default().trouble(), None);
    }

    #[test]
    fn what_systemd_could_not_start_says_what_is_missing() {
        for (status, word) in [(217, "user"), (216, "group"), (200, "directory"), (226, "sandbox")]
        {
            let words = unit("exit-code", status, "").trouble().unwrap();
            assert!(words.contains(word) && words.contains(&status.to_string()), "{words}");
        }
    }
}
