//! What a worker has said, as far as it tells why it failed: of one run, its own lines only, from the
//! first error on.

use std::fmt::Write as _;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// The most lines that are shown from an error on: half of them are its beginning, half its end.
const MOST: usize = 20;

/// How many lines before the first error may belong to it: Node shows the place before the words.
const BEFORE: usize = 6;

/// How many calls of a stack are shown.
const CALLS: usize = 4;

/// How often the journal is asked for what a process has just written, and how long between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// A line, and in which run of the unit it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    run: String,
    text: String,
}

/// What a worker said in its last run that failed, as a paragraph; empty when nothing is to be had.
pub(super) fn last_lines(unit: &str) -> String {
    paragraph(unit, &["--lines=400".to_owned()], last_run)
}

/// What it said in the first run since then.
pub(super) fn lines_since(unit: &str, since: SystemTime) -> String {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = format!("--since=@{}.{:06}", since.as_secs(), since.subsec_micros());
    paragraph(unit, &[since], first_run)
}

fn paragraph(unit: &str, which: &[String], choose: fn(&[Line]) -> Vec<&str>) -> String {
    let mut lines = Vec::new();
    for attempt in 1..=ATTEMPTS {
        lines = ask(unit, which);
        if !lines.is_empty() || attempt == ATTEMPTS {
            break;
        }
        sleep(PAUSE); // what was written last may be on its way yet
    }
    let chosen = choose(&lines);
    if chosen.is_empty() {
        return String::new();
    }
    let mut out = format!("\nWhat {unit} said:\n");
    for line in shown(&chosen) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "    {line}");
    }
    let _ = write!(out, "More: journalctl -u '{unit}'");
    out
}

/// The unit's own lines: systemd's about it are no words of the worker's.
fn ask(unit: &str, which: &[String]) -> Vec<Line> {
    let output = Command::new("journalctl")
        .args(["--no-pager", "--quiet", "--all", "--output=json"])
        .args(which)
        .arg(format!("_SYSTEMD_UNIT={unit}"))
        .output();
    let Ok(output) = output else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(entry).flatten().collect()
}

/// The lines of an entry of the journal.
fn entry(json: &str) -> Option<Vec<Line>> {
    let entry: Value = serde_json::from_str(json).ok()?;
    let run = entry["_SYSTEMD_INVOCATION_ID"].as_str().unwrap_or_default();
    let message = match &entry["MESSAGE"] {
        Value::String(text) => text.clone(),
        // As the journal gives what has bytes that are no text.
        Value::Array(bytes) => {
            let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Vec<u8> = bytes.iter().filter_map(byte).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    let line = |text: &str| Line { run: run.to_owned(), text: text.trim_end().to_owned() };
    Some(message.lines().map(line).collect())
}

fn of_run<'a>(lines: &'a [Line], run: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line.run == run).map(|line| &*line.text).collect()
}

/// The lines of the first run that shows an error, or else of the first one.
fn first_run(lines: &[Line]) -> Vec<&str> {
    let with_error = lines.iter().find(|line| is_error(&line.text));
    with_error.or(lines.first()).map_or_else(Vec::new, |line| of_run(lines, &line.run))
}

/// The same of the last one.
fn last_run(lines: &[Line]) -> Vec<&str> {
    let with_error = lines.iter().rev().find(|line| is_error(&line.text));
    with_error.or(lines.last()).map_or_else(Vec::new, |line| of_run(lines, &line.run))
}

/// Whether a line looks like the beginning of the reason.
fn is_error(line: &str) -> bool {
    const SIGNS: [&str; 13] = [
        "Error",
        "ERROR",
        "error:",
        "Exception",
        "Traceback",
        "panic",
        "fatal",
        "FATAL",
        "Cannot ",
        "cannot ",
        "not found",
        "denied",
        "No such file",
    ];
    SIGNS.iter().any(|sign| line.contains(sign))
}

/// From the first error on, or else the last ones; without most of a stack.
fn shown<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let Some(error) = lines.iter().position(|line| is_error(line)) else {
        return lines[lines.len().saturating_sub(MOST)..].to_vec();
    };
    let before = error.saturating_sub(BEFORE);
    let place = lines[before..error].iter().position(|line| is_place(line));
    let mut shown = Vec::new();
    let mut calls = 0;
    for line in &lines[place.map_or(error, |at| before + at)..] {
        calls = if line.trim_start().starts_with("at ") { calls + 1 } else { 0 };
        match calls {
            0..=CALLS => shown.push(*line),
            _ if calls == CALLS + 1 => shown.push("    …"),
            _ => {}
        }
    }
    if shown.len() > MOST {
        let end = shown.split_off(shown.len() - MOST / 2);
        shown.truncate(MOST / 2);
        shown.push("…");
        shown.extend(end);
    }
    shown
}

/// Whether a line is `/srv/shop/server.js:7`, as Node begins with.
fn is_place(line: &str) -> bool {
    let number = line.rsplit_once(':').map(|(_, number)| number);
    (line.starts_with('/') || line.starts_with("node:") || line.starts_with("file:"))
        && number.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: &str = "\
starting up
node:internal/modules/cjs/loader:1228
  throw err;
  ^

Error: Cannot find module 'express'
Require stack:
- /srv/shop/server.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15)
    at Module._load (node:internal/modules/cjs/loader:1051:27)
    at Module.require (node:internal/modules/cjs/loader:1311:19)
    at require (node:internal/modules/helpers:179:18)
    at Object.<anonymous> (/srv/shop/server.js:1:17)
    at Module._compile (node:internal/modules/cjs/loader:1469:14)
  code: 'MODULE_NOT_FOUND',
}

Node.js v20.18.0
the app ended by itself after 0.1 s: exit code 1";

    #[test]
    fn an_error_is_shown_from_its_place_on() {
        let lines: Vec<&str> = MISSING.lines().collect();
        let shown = shown(&lines);
        assert_eq!(shown[0], "node:internal/modules/cjs/loader:1228");
        assert!(shown.contains(&"Error: Cannot find module 'express'"), "{shown:?}");
        assert_eq!(shown.iter().filter(|line| line.trim_start().starts_with("at ")).count(), CALLS);
        assert_eq!(shown.last(), Some(&"the app ended by itself after 0.1 s: exit code 1"));
    }

    #[test]
    fn a_long_one_keeps_its_beginning_and_its_end() {
        let calls: Vec<String> = (0..60).map(|n| format!("  File \"x.py\", line {n}")).collect();
        let mut lines = vec!["hello", "Traceback (most recent call last):"];
        lines.extend(calls.iter().map(String::as_str));
        lines.push("ModuleNotFoundError: No module named 'flask'");
        let shown = shown(&lines);
        assert_eq!(shown.len(), MOST + 1);
        assert_eq!(shown[0], "Traceback (most recent call last):");
        assert_eq!(shown.last(), lines.last());
        let quiet: Vec<&str> = vec!["a"; 50];
        assert_eq!(super::shown(&quiet).len(), MOST);
    }

    #[test]
    fn only_one_run_is_shown() {
        let line = |run: &str, text: &str| Line { run: run.to_owned(), text: text.to_owned() };
        let lines = [
            line("1", "Error: one"),
            line("1", "more of one"),
            line("2", "Error: two"),
            line("3", "starting"),
        ];
        assert_eq!(first_run(&lines), ["Error: one", "more of one"]);
        assert_eq!(last_run(&lines), ["Error: two"]);
        assert_eq!(first_run(&lines[3..]), ["starting"]);
        assert!(first_run(&[]).is_empty() && last_run(&[]).is_empty());
    }

    #[test]
    fn entries_of_the_journal_are_lines() {
        let texts = |json: &str| -> Option<Vec<String>> {
            Some(entry(json)?.into_iter().map(|line| line.text).collect())
        };
        assert_eq!(texts(r#"{"MESSAGE": "a\nb"}"#).unwrap(), ["a", "b"]);
        assert_eq!(texts(r#"{"MESSAGE": [104, 105, 255]}"#).unwrap(), ["hi\u{fffd}"]);
        assert_eq!(texts(r#"{"MESSAGE": null}"#), None);
        assert_eq!(texts("journalctl"), None);
    }
}
