//! Fragments: single TOML files as trees that remember where each value was written.
//!
//! A tree of our own instead of serde's derive, for two reasons: serde stops at the first error of
//! a file, and people want all of them; and values of a drop-in must keep pointing into the
//! drop-in after they were merged over the main file.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::{File, Place, Problem, Problems};

/// A value, and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where.
    pub(super) place: Place,
    /// What.
    pub(super) value: Value,
}

/// TOML's values.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Table(Table),
    Array(Vec<Node>),
    String(String),
    Integer(i64),
    /// An integer that no setting could ever take, or a float or a date, which none takes.
    Other(&'static str, String),
    Boolean(bool),
}

/// A table's entries by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<String, Entry>,
}

/// One line `key = value`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) node: Node,
}

/// Parses one file; `None` when it is not TOML, with the first syntax error of each line
/// reported.
pub(super) fn parse(file: &Arc<File>, problems: &mut Problems) -> Option<Table> {
    let (document, errors) = DeTable::parse_recoverable(&file.text);
    let mut last_line = 0;
    for error in &errors {
        let end = file.text.len();
        let place = Place::new(file, error.span().unwrap_or(end..end));
        if place.line() <= last_line {
            continue; // what follows on the same line is mostly a consequence
        }
        last_line = place.line();
        // toml's messages are one line with the cause, sometimes followed by what it expected.
        let (first, rest) = error.message().split_once('\n').unwrap_or((error.message(), ""));
        let problem = Problem::error(&place, format!("not valid TOML: {first}"), "");
        problems.push(if rest.is_empty() {
            problem
        } else {
            problem.help(rest.replace('\n', ", "))
        });
    }
    errors.is_empty().then(|| table(file, document.get_ref()))
}

fn table(file: &Arc<File>, source: &DeTable<'_>) -> Table {
    let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let key_place = Place::new(file, key.span());
        (key.get_ref().to_string(), Entry { key: key_place, node: node(file, value) })
    };
    Table { entries: source.iter().map(entry).collect() }
}

fn node(file: &Arc<File>, source: &Spanned<DeValue<'_>>) -> Node {
    let value = match source.get_ref() {
        DeValue::String(s) => Value::String(s.to_string()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => Value::Integer(i),
            Err(_) => Value::Other("a number that is too large", i.as_str().to_owned()),
        },
        DeValue::Float(f) => Value::Other("a number with a fraction", f.as_str().to_owned()),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(d) => Value::Other("a date", d.to_string()),
        DeValue::Array(a) => Value::Array(a.iter().map(|v| node(file, v)).collect()),
        DeValue::Table(t) => Value::Table(table(file, t)),
    };
    Node { place: Place::new(file, source.span()), value }
}

// === impl Node ===

impl Node {
    /// What it is, for messages that expected something else.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Table(_) => "a table",
            Value::Array(_) => "an array",
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Other(kind, _) => kind,
            Value::Boolean(_) => "a boolean",
        }
    }
}

// === impl Table ===

impl Table {
    /// Lays `over` over this table: tables merge key by key, everything else is replaced.
    pub(super) fn merge(&mut self, over: Self) {
        for (name, entry) in over.entries {
            match (self.entries.get_mut(&name), entry) {
                (
                    Some(Entry { node: Node { value: Value::Table(mine), .. }, .. }),
                    Entry { node: Node { value: Value::Table(theirs), .. }, .. },
                ) => mine.merge(theirs),
                (_, entry) => {
                    self.entries.insert(name, entry);
                }
            }
        }
    }
}
