//! What is known while nginx's configuration is read.

use std::collections::{BTreeMap, BTreeSet};

use super::nginx_closed::{Level, Protection};
use super::nginx_syntax::Directive;
use super::{Import, Note};

/// Reads directives one after the other.
pub(super) struct Reader {
    pub(super) import: Import,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    /// nginx's name of an upstream → ours.
    pub(super) names: BTreeMap<String, String>,
    /// Hosts and paths that have an answer.
    pub(super) taken: BTreeSet<(Option<String>, String)>,
    /// Hosts that something is passed on for over plain HTTP.
    pub(super) plain: BTreeSet<Option<String>>,
    /// Our name of the upstream that nobody answers for.
    pub(super) closed: Option<String>,
}

/// What is in force where a location is.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) protection: Protection,
    /// Whether the app gets the client's Host.
    pub(super) keeps_host: bool,
}

/// A `server`, as far as its locations must know it.
pub(super) struct Site<'a> {
    pub(super) hosts: Vec<Option<String>>,
    /// Whether plain HTTP reaches it, too.
    pub(super) is_plain: bool,
    pub(super) locations: Vec<&'a Directive>,
}

/// An upstream on its way into its file.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) at: String,
    /// Lines of the top of the file.
    pub(super) options: Vec<String>,
    /// Tables behind it.
    pub(super) tables: Vec<String>,
    pub(super) servers: Vec<String>,
    pub(super) routes: Vec<String>,
    /// Those that are closed for now.
    pub(super) closed: Vec<String>,
    pub(super) weighted: bool,
}

impl Reader {
    pub(super) fn note(&mut self, directive: &Directive, text: impl Into<String>) {
        self.import.note(format!("{}: {}", directive.at, directive.name), text);
    }

    /// Says that a rule that keeps somebody out is not in the files.
    pub(super) fn unprotected(&mut self, directive: &Directive, text: impl Into<String>) {
        let at = format!("{}: {}", directive.at, directive.name);
        self.import.unprotected.push(Note { at, text: text.into() });
    }
}

impl Scope {
    /// That of a block inside of this one.
    pub(super) fn within(&self, block: &[Directive], level: Level) -> Self {
        // Fields that are set in a block replace those of the outer one.
        let fields: Vec<&Directive> =
            block.iter().filter(|inner| inner.name == "proxy_set_header").collect();
        let is_host = |inner: &&Directive| {
            inner.arguments.first().is_some_and(|name| name.eq_ignore_ascii_case("host"))
        };
        Self {
            protection: self.protection.within(block, level),
            keeps_host: if fields.is_empty() {
                self.keeps_host
            } else {
                fields.iter().any(is_host)
            },
        }
    }
}
