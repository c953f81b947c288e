//! Inputs: merged fragments, read key by key. Each reading either gives a value of the right type
//! or adds a problem and goes on, so that one run finds everything.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::diagnostic::{Place, Problem, Problems};
use super::foreign;
use super::fragment::{Node, Table, Value};
use super::schema::{self, Section};
use super::units;
use crate::base::nearest::nearest;

/// One table under the rules of its section.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    table: &'a Table,
    /// Where problems with the table as a whole are shown.
    place: &'a Place,
    sections: &'a [&'static Section],
}

/// What reading a value gives: nothing when a problem was added.
pub(super) type Read<T> = Option<T>;

// === impl Input ===

impl<'a> Input<'a> {
    /// Opens a table: keys that none of the sections knows are errors.
    pub(super) fn new(
        table: &'a Table,
        place: &'a Place,
        sections: &'a [&'static Section],
        problems: &mut Problems,
    ) -> Self {
        let input = Self { table, place, sections };
        for (name, entry) in &table.entries {
            if input.known().any(|k| k == name) {
                continue;
            }
            let problem = Problem::error(&entry.key, format!("unknown key `{name}`"), "not known");
            let help = match input.meant(name) {
                Some(near) => format!("did you mean `{near}`?"),
                None if input.is_below(name) => format!(
                    "a key is part of the [table] before it: write `{name}` above the first one"
                ),
                None => format!("known here: {}", input.known().collect::<Vec<_>>().join(", ")),
            };
            problems.push(problem.help(help));
        }
        input
    }

    /// The keys that may be here.
    fn known(&self) -> impl Iterator<Item = &'static str> + use<'a> {
        self.sections.iter().flat_map(|section| section.keys).map(|key| key.name)
    }

    /// Whether this is a key of a file's top, and here is a table.
    fn is_below(&self, name: &str) -> bool {
        self.sections.iter().all(|section| !section.title.is_empty()) && schema::is_of_a_top(name)
    }

    /// The key that was probably meant by one that is not known.
    fn meant(&self, unknown: &str) -> Option<&'static str> {
        let ours = foreign::ours(unknown).filter(|ours| self.known().any(|known| known == *ours));
        ours.or_else(|| nearest(unknown, self.known()))
    }

    /// Opens a node that must be a table.
    pub(super) fn of_node(
        node: &'a Node,
        sections: &'a [&'static Section],
        problems: &mut Problems,
    ) -> Read<Self> {
        Some(Self::new(table(node, problems)?, &node.place, sections, problems))
    }

    /// Where problems with the table as a whole are shown.
    pub(super) fn place(&self) -> &'a Place {
        self.place
    }

    /// The value of a key, if it is there.
    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(
            self.sections.iter().flat_map(|s| s.keys).any(|k| k.name == key),
            "`{key}` is read but not in the schema"
        );
        self.table.entries.get(key).map(|entry| &entry.node)
    }

    /// The value of a key, read by `read`; `default` when it is not there, or is wrong.
    pub(super) fn get<T>(
        &self,
        key: &str,
        default: T,
        problems: &mut Problems,
        read: impl FnOnce(&'a Node, &mut Problems) -> Read<T>,
    ) -> T {
        self.optional(key, problems, read).unwrap_or(default)
    }

    /// The value of a key, if it is there and right.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        problems: &mut Problems,
        read: impl FnOnce(&'a Node, &mut Problems) -> Read<T>,
    ) -> Option<T> {
        read(self.node(key)?, problems)
    }

    /// The value of a key that must be there; `example` is what to write.
    pub(super) fn required<T>(
        &self,
        key: &str,
        example: &str,
        problems: &mut Problems,
        read: impl FnOnce(&'a Node, &mut Problems) -> Read<T>,
    ) -> Read<T> {
        if let Some(node) = self.node(key) {
            return read(node, problems);
        }
        // Who has misspelt it has been told so, and has not forgotten it.
        let mut unknown = self.table.entries.keys().filter(|name| self.known().all(|k| k != *name));
        if unknown.any(|name| self.meant(name) == Some(key)) {
            return None;
        }
        problems.error(
            self.place,
            format!("`{key}` is missing"),
            "needed here",
            format!("write `{key} = {example}`"),
        );
        None
    }

    /// The entries of a table whose keys are names of the user's choice.
    pub(super) fn named(
        node: &'a Node,
        problems: &mut Problems,
    ) -> Read<Vec<(&'a str, &'a Place, &'a Node)>> {
        let entries = &table(node, problems)?.entries;
        Some(entries.iter().map(|(name, e)| (name.as_str(), &e.key, &e.node)).collect())
    }
}

// === readers of single values ===

/// Adds "must be X, not Y".
pub(super) fn mismatch<T>(
    node: &Node,
    expected: &str,
    help: &str,
    problems: &mut Problems,
) -> Read<T> {
    let problem = Problem::error(
        &node.place,
        format!("this must be {expected}"),
        format!("this is {}", node.kind()),
    );
    problems.push(if help.is_empty() { problem } else { problem.help(help) });
    None
}

fn table<'a>(node: &'a Node, problems: &mut Problems) -> Read<&'a Table> {
    match &node.value {
        Value::Table(table) => Some(table),
        _ => mismatch(
            node,
            "a table",
            "write its keys below a line with its name in brackets",
            problems,
        ),
    }
}

pub(super) fn string<'a>(node: &'a Node, problems: &mut Problems) -> Read<&'a str> {
    match &node.value {
        Value::String(string) => Some(string),
        Value::Integer(i) => mismatch(node, "a string", &format!("write \"{i}\""), problems),
        Value::Boolean(b) => mismatch(node, "a string", &format!("write \"{b}\""), problems),
        Value::Other(_, text) => mismatch(node, "a string", &format!("write \"{text}\""), problems),
        _ => mismatch(node, "a string", "", problems),
    }
}

pub(super) fn boolean(node: &Node, problems: &mut Problems) -> Read<bool> {
    match &node.value {
        Value::Boolean(boolean) => Some(*boolean),
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => {
                mismatch(node, "true or false", "write true, without quotes", problems)
            }
            _ => mismatch(node, "true or false", "write false, without quotes", problems),
        },
        _ => mismatch(node, "true or false", "", problems),
    }
}

pub(super) fn array<'a>(node: &'a Node, problems: &mut Problems) -> Read<&'a [Node]> {
    match &node.value {
        Value::Array(array) => Some(array),
        Value::String(text) => {
            mismatch(node, "an array", &format!("write [{}]", quoted(text)), problems)
        }
        Value::Table(_) => mismatch(
            node,
            "an array",
            "write [{ … }], or a heading in double brackets: [[ ]]",
            problems,
        ),
        _ => mismatch(node, "an array", "write it in brackets: [ ]", problems),
    }
}

/// Every entry of an array, each read by `read`; the wrong ones are left out (and reported).
pub(super) fn list<'a, T>(
    node: &'a Node,
    problems: &mut Problems,
    mut read: impl FnMut(&'a Node, &mut Problems) -> Read<T>,
) -> Read<Vec<T>> {
    Some(array(node, problems)?.iter().filter_map(|n| read(n, problems)).collect())
}

/// A whole number in a range.
pub(super) fn integer<T>(
    range: std::ops::RangeInclusive<T>,
) -> impl Fn(&Node, &mut Problems) -> Read<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    move |node, problems| {
        let (low, high) = (range.start(), range.end());
        let expected = format!("a whole number from {low} to {high}");
        match &node.value {
            Value::Integer(i) => match T::try_from(*i) {
                Ok(value) if range.contains(&value) => Some(value),
                _ => {
                    problems.push(Problem::error(
                        &node.place,
                        format!("this must be {expected}"),
                        "out of range",
                    ));
                    None
                }
            },
            Value::String(text) if text.trim().parse::<i64>().is_ok() => mismatch(
                node,
                &expected,
                &format!("write {}, without quotes", text.trim()),
                problems,
            ),
            _ => mismatch(node, &expected, "", problems),
        }
    }
}

/// The word `word` for nothing, or what `read` reads.
pub(super) fn or_word<'a, T>(
    word: &'static str,
    read: impl FnOnce(&'a Node, &mut Problems) -> Read<T>,
) -> impl FnOnce(&'a Node, &mut Problems) -> Read<Option<T>> {
    move |node, problems| match &node.value {
        Value::String(text) if text == word => Some(None),
        // A misspelt word is told the word; everything else is told what else may stand here.
        Value::String(text) if nearest(text, std::iter::once(word)).is_some() => {
            problems.error(
                &node.place,
                format!("`{text}` is not known"),
                "not known",
                format!("did you mean \"{word}\"?"),
            );
            None
        }
        _ => read(node, problems).map(Some),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&Node, &mut Problems) -> Read<T> {
    move |node, problems| {
        let text = string(node, problems)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names = || words.iter().map(|(word, _)| *word);
        let all = || match names().collect::<Vec<_>>().as_slice() {
            [one] => format!("write \"{one}\""),
            several => format!("write one of \"{}\"", several.join("\", \"")),
        };
        let help = match nearest(text, names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => all(),
        };
        problems.error(&node.place, format!("`{text}` is not known"), "not known", help);
        None
    }
}

/// A duration above zero.
pub(super) fn duration(node: &Node, problems: &mut Problems) -> Read<Duration> {
    let duration = duration_or_zero(node, problems)?;
    if duration.is_zero() {
        problems.push(Problem::error(&node.place, "this must be longer than zero", "too short"));
        return None;
    }
    Some(duration)
}

/// A duration.
pub(super) fn duration_or_zero(node: &Node, problems: &mut Problems) -> Read<Duration> {
    unit(node, "a duration", "s", units::duration, problems)
}

/// A duration that browsers are to remember.
pub(super) fn long_duration(node: &Node, problems: &mut Problems) -> Read<Duration> {
    unit(node, "a duration", "s", units::long_duration, problems)
}

/// A size.
pub(super) fn size(node: &Node, problems: &mut Problems) -> Read<u64> {
    unit(node, "a size", "MiB", units::size, problems)
}

/// A size in a range.
pub(super) fn size_within(
    range: std::ops::RangeInclusive<u64>,
    help: &'static str,
) -> impl Fn(&Node, &mut Problems) -> Read<u64> {
    move |node, problems| {
        let size = size(node, problems)?;
        if !range.contains(&size) {
            problems.error(&node.place, "this size is out of range", "out of range", help);
            return None;
        }
        Some(size)
    }
}

fn unit<T>(
    node: &Node,
    expected: &str,
    common: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Problems,
) -> Read<T> {
    match &node.value {
        Value::String(text) => match parse(text) {
            Ok(value) => Some(value),
            Err(help) => {
                problems.error(&node.place, format!("`{text}` is not {expected}"), "", help);
                None
            }
        },
        Value::Integer(i) => mismatch(
            node,
            &format!("{expected} with its unit, as a string"),
            &format!("write \"{i}{common}\""),
            problems,
        ),
        _ => mismatch(
            node,
            &format!("{expected} with its unit, as a string"),
            &format!("as in \"10{common}\""),
            problems,
        ),
    }
}

/// An absolute path of a file or directory, fit for a unit file.
pub(super) fn absolute_path(node: &Node, problems: &mut Problems) -> Read<PathBuf> {
    let text = string(node, problems)?;
    let path = Path::new(text);
    let mut fail = |title: &str, help: String| {
        problems.error(&node.place, title, "", help);
        None
    };
    if text.starts_with('~') {
        return fail(
            "`~` is a shell's word for a home directory",
            "write the whole path, from `/`".into(),
        );
    }
    if !path.is_absolute() {
        return fail(
            "the path must be absolute",
            format!("write it from `/`, as in \"/srv/{}\"", text.trim_start_matches("./")),
        );
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return fail("the path must not contain `..`", "write where it leads".into());
    }
    // systemd trims values and takes a final backslash for a continued line.
    if text.contains(char::is_control) || text.ends_with(['\\', ' ']) || text.len() > 4095 {
        return fail(
            "a path like this cannot be in a unit file",
            "use one without control characters, and without a space or backslash at the end"
                .into(),
        );
    }
    Some(path.to_owned())
}

/// A network, or a single address.
pub(super) fn network(node: &Node, problems: &mut Problems) -> Read<ipnet::IpNet> {
    let text = string(node, problems)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.into());
    }
    match text.parse::<ipnet::IpNet>() {
        Ok(network) if network.trunc() == network => Some(network),
        Ok(network) => {
            problems.error(
                &node.place,
                format!("`{text}` has bits set beyond its prefix"),
                "",
                format!("write \"{}\"", network.trunc()),
            );
            None
        }
        Err(_) => {
            problems.error(
                &node.place,
                format!("`{text}` is no network"),
                "",
                "write an address and a prefix length, as in \"10.0.0.0/8\" or \"2001:db8::/32\"",
            );
            None
        }
    }
}

/// A string as TOML, in double quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                {
                    let _ = write!(quoted, "\\u{:04x}", u32::from(c)); // strings take everything
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
