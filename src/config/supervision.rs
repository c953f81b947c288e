//! How an app's workers are looked after: crashes, age, file changes, credentials; input → settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::Problems;
use super::fragment::{Node, Value};
use super::input::{
    self, Input, Read, absolute_path, array, duration, duration_or_zero, integer, list, or_word,
    string,
};
use super::pattern::{self, Watch};
use super::{calendar, schema};

/// How an app's workers are looked after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supervision {
    /// What follows a crash.
    pub restart: Restart,
    /// Exit codes of the app after which its worker is not started again.
    pub stop_exit_codes: BTreeSet<u8>,
    /// How long a worker may run before it is replaced.
    pub max_age: Option<Duration>,
    /// When all workers are replaced, one after the other: systemd's calendar events.
    pub restart_at: Vec<String>,
    /// Which changed files have the workers replaced; `None` for none.
    pub watch: Option<Watch>,
    /// Files that the app gets as systemd credentials, by name.
    pub credentials: BTreeMap<String, PathBuf>,
}

/// What follows a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Between the second crash in a row and the next start; twice as long after each further one.
    pub delay: Duration,
    /// The longest such time.
    pub max_delay: Duration,
    /// After how many crashes in a row the worker is given up; `None` for never.
    pub limit: Option<u32>,
    /// How long a worker must have been ready for its crash to be the first in a row.
    pub reset_after: Duration,
}

/// The longest time between two attempts: what systemd lets a service ask for in one go is 71 min.
const LONGEST_DELAY: Duration = Duration::from_mins(30);

/// Reads what an app's file says about it.
pub(super) fn read(top: Input<'_>, problems: &mut Problems) -> Supervision {
    let restart = top
        .node("restart")
        .and_then(|node| Input::of_node(node, &[&schema::APP_RESTART], problems))
        .map_or_else(Restart::default, |section| restart(section, problems));
    let codes = |node: &Node, problems: &mut Problems| list(node, problems, integer(0..=125_u8));
    let supervision = Supervision {
        restart,
        stop_exit_codes: top
            .get("stop-exit-codes", Vec::new(), problems, codes)
            .into_iter()
            .collect(),
        max_age: top.optional("max-age", problems, duration),
        restart_at: top.get("restart-at", Vec::new(), problems, restart_at),
        watch: top.get("watch", None, problems, watch),
        credentials: top.get("credentials", BTreeMap::new(), problems, credentials),
    };
    if let (Some(_), Some(node), None) =
        (&supervision.watch, top.node("watch"), top.node("directory"))
    {
        problems.error(
            &node.place,
            "there is no directory to watch",
            "needs `directory`",
            "add `directory = \"/…\"`",
        );
    }
    supervision
}

fn restart(section: Input<'_>, problems: &mut Problems) -> Restart {
    let default = Restart::default();
    let restart = Restart {
        delay: section.get("delay", default.delay, problems, duration_or_zero),
        max_delay: section.get("max-delay", default.max_delay, problems, duration_or_zero),
        limit: section.get("limit", default.limit, problems, or_word("none", integer(1..=100_u32))),
        reset_after: section.get("reset-after", default.reset_after, problems, duration),
    };
    for (key, value) in [("delay", restart.delay), ("max-delay", restart.max_delay)] {
        if let (true, Some(node)) = (value > LONGEST_DELAY, section.node(key)) {
            problems.error(&node.place, "this is too long", "", "write \"30min\" or less");
        }
    }
    if restart.delay > restart.max_delay
        && let Some(node) = section.node("delay").or_else(|| section.node("max-delay"))
    {
        problems.error(
            &node.place,
            "`delay` is longer than `max-delay`",
            "",
            "write a shorter `delay`, or a longer `max-delay`",
        );
    }
    restart
}

/// One calendar event, or several.
fn restart_at(node: &Node, problems: &mut Problems) -> Read<Vec<String>> {
    let event = |node: &Node, problems: &mut Problems| {
        let text = string(node, problems)?;
        match calendar::check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(why) => {
                problems.error(
                    &node.place,
                    format!("`{text}` is no calendar event: {why}"),
                    "not a calendar event",
                    "write it as systemd does: \"04:00\", \"Mon 04:00\", \"*-*-01 03:30\", \"daily\"; \
                     `systemd-analyze calendar` explains it",
                );
                None
            }
        }
    };
    match &node.value {
        Value::String(_) => event(node, problems).map(|event| vec![event]),
        _ => list(node, problems, event),
    }
}

fn watch(node: &Node, problems: &mut Problems) -> Read<Option<Watch>> {
    match &node.value {
        Value::Boolean(all) => Some(all.then_some(Watch::All)),
        Value::Array(_) => {
            let patterns = list(node, problems, pattern)?;
            if array(node, problems)?.is_empty() {
                problems.error(
                    &node.place,
                    "nothing is watched like this",
                    "",
                    "write what to watch, or `watch = false`",
                );
                return None;
            }
            Some(Some(Watch::Patterns(patterns)))
        }
        _ => input::mismatch(
            node,
            "true, false or an array of paths",
            "write true, or [\"src\", \"config/*.json\"]",
            problems,
        ),
    }
}

fn pattern(node: &Node, problems: &mut Problems) -> Read<String> {
    let text = string(node, problems)?;
    let relative = text.strip_prefix('!').unwrap_or(text);
    let wrong = if relative.starts_with('/') {
        Some("it is absolute; write it relative to `directory`")
    } else if relative.is_empty() || relative.trim() != relative {
        Some("it is empty, or begins or ends with a space")
    } else if relative.split('/').any(|part| part == "..") {
        Some("it leaves `directory`; only files below that can be watched")
    } else if relative.chars().any(char::is_control) {
        Some("it has control characters")
    } else {
        pattern::check(text).err()
    };
    if let Some(wrong) = wrong {
        problems.error(
            &node.place,
            format!("`{text}` cannot be watched: {wrong}"),
            "",
            "write a path or a pattern such as \"src\" or \"config/**/*.json\"",
        );
        return None;
    }
    Some(text.to_owned())
}

fn credentials(node: &Node, problems: &mut Problems) -> Read<BTreeMap<String, PathBuf>> {
    let mut credentials = BTreeMap::new();
    for (name, key, value) in Input::named(node, problems)? {
        let valid = name.len() <= 64
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !valid {
            problems.error(
                key,
                format!("`{name}` cannot be the name of a credential"),
                "",
                "write at most 64 letters, digits, '.', '_' and '-', not starting with '.'",
            );
        }
        // What the worker's main process gets itself has such names.
        if name.starts_with("roundsman.") {
            let title = format!("`{name}` is a name of Roundsman's own");
            problems.error(key, title, "", "choose one that does not begin with \"roundsman.\"");
        }
        if let (true, Some(path)) = (valid, absolute_path(value, problems)) {
            credentials.insert(name.to_owned(), path);
        }
    }
    Some(credentials)
}

// === impl Restart ===

impl Default for Restart {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(1),
            max_delay: Duration::from_mins(1),
            limit: Some(16),
            reset_after: Duration::from_mins(1),
        }
    }
}
