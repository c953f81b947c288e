//! What is known while nginx's configuration is read.

use std::collections::{BTreeMap, BTreeSet};

use super::Import;
use super::nginx_syntax::Directive;

/// Reads directives one after the other.
pub(super) struct Reader {
    pub(super) import: Import,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    /// nginx's name of an upstream → ours.
    pub(super) names: BTreeMap<String, String>,
    /// Hosts and paths that have an answer.
    pub(super) taken: BTreeSet<(Option<String>, String)>,
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
    pub(super) weighted: bool,
}

impl Reader {
    pub(super) fn note(&mut self, directive: &Directive, text: impl Into<String>) {
        self.import.note(format!("{}: {}", directive.at, directive.name), text);
    }
}
