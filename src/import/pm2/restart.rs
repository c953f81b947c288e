//! What follows a crash: PM2's four options as our `[restart]`.

use serde_json::Value;

use super::super::{duration, quoted};
use super::app::App;
use super::value::milliseconds;

/// The longest that PM2 waits when the times grow, in milliseconds.
const PM2_LONGEST: u64 = 15_000;

/// The longest that can be written into `[restart]`, in milliseconds.
const LONGEST: u64 = 30 * 60 * 1000;

impl App<'_> {
    /// Writes what they say. They belong together: a growing time wins over a fixed one.
    pub(super) fn restart(&mut self) {
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        if let Some(value) = self.get(&["max_restarts", "maxRestarts"]).cloned() {
            match number(&value) {
                Some(limit @ 1..=100) => {
                    self.restart_line("limit", &limit.to_string());
                    self.note("max_restarts", "is limit: it counts crashes in a row, also those of workers that lived long, until one has been ready for reset-after");
                }
                Some(101..) => {
                    self.restart_line("limit", "\"none\"");
                    self.note("max_restarts", format!("{value} is \"none\": a worker is never given up, and waits longer and longer"));
                }
                _ => self.lost("max_restarts", format!("{value} was left out; limit is 16")),
            }
        }
        let growing = self.milliseconds("exp_backoff_restart_delay", "expBackoffRestartDelay");
        let fixed = self.milliseconds("restart_delay", "restartDelay");
        if let Some(first) = growing {
            self.restart_line("delay", &quoted(&duration(first)));
            self.restart_line("max-delay", &quoted(&duration(first.max(PM2_LONGEST))));
            self.note("exp_backoff_restart_delay", "is delay and max-delay: twice as long after each crash in a row (PM2: half as long again); the first start after a crash waits for nothing");
        }
        if let Some(always) = fixed {
            if growing.is_some() {
                self.note("restart_delay", "exp_backoff_restart_delay wins, as in PM2");
            } else {
                let time = quoted(&duration(always));
                self.restart_line("delay", &time);
                self.restart_line("max-delay", &time);
                self.note(
                    "restart_delay",
                    "is delay and max-delay; the first start after a crash waits for nothing",
                );
            }
        }
        if let Some(time) = self.milliseconds("min_uptime", "minUptime") {
            self.restart_line("reset-after", &quoted(&duration(time)));
            self.note("min_uptime", "is reset-after: how long a worker must have been ready for its crash to be the first in a row");
        }
    }

    fn milliseconds(&mut self, key: &str, other: &str) -> Option<u64> {
        let value = self.get(&[key, other])?.clone();
        let time = milliseconds(&value);
        match time {
            None => self.lost(key, format!("{value} is no time, and was left out")),
            Some(time) if time > LONGEST && key != "min_uptime" => {
                self.note(
                    key,
                    format!("{value} is cut to 30 minutes, the longest that can be written"),
                );
                return Some(LONGEST);
            }
            Some(_) => {}
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::tests::imported_from;

    #[test]
    fn the_four_options_are_one_table() {
        for (mut app, table) in [
            (
                json!({ "max_restarts": 10, "min_uptime": "10s", "restart_delay": 4000 }),
                "limit = 10, delay = \"4s\", max-delay = \"4s\", reset-after = \"10s\"",
            ),
            (
                json!({ "restart_delay": 5000, "exp_backoff_restart_delay": 200, "max_restarts": "50" }),
                "limit = 50, delay = \"200ms\", max-delay = \"15s\"",
            ),
            (json!({ "exp_backoff_restart_delay": 20000 }), "delay = \"20s\", max-delay = \"20s\""),
            (
                json!({ "max_restarts": 99_999, "restart_delay": "1h" }),
                "limit = \"none\", delay = \"1800s\", max-delay = \"1800s\"",
            ),
            (json!({ "restart_delay": "30m" }), "delay = \"1800s\", max-delay = \"1800s\""),
            (json!({ "max_restarts": 0, "min_uptime": "soon" }), ""),
        ] {
            app["script"] = json!("a.js");
            let (file, notes) = imported_from(&app, Path::new("/srv"), None);
            let lines = file.get("restart").map(ToString::to_string).unwrap_or_default();
            assert_eq!(lines.trim().lines().collect::<Vec<_>>().join(", "), table, "{app}");
            assert_eq!(
                notes.contains("is cut to 30 minutes"),
                app["restart_delay"] == "1h",
                "{notes}"
            );
            for option in app.as_object().unwrap().keys().filter(|key| *key != "script") {
                assert!(notes.contains(&format!("a: {option}: ")), "{option}: {notes}");
            }
        }
    }
}
