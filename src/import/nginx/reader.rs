//! What is known while nginx's configuration is read.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Import, Note, Severity};
use super::host::Host;
use super::server::{Plain, Server};
use super::syntax::Directive;
use super::table::Table;

/// Reads directives one after the other.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) import: Import,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    /// nginx's name of an upstream → ours.
    pub(super) names: BTreeMap<String, String>,
    /// Where to go on with a name that is there already.
    pub(super) numbers: BTreeMap<String, usize>,
    pub(super) table: Table,
    /// Whether the front counts connections as `limit_conn` says.
    pub(super) counts: bool,
    /// `split_clients` → who gets which share.
    pub(super) splits: BTreeMap<String, Split>,
    /// The first port for plain HTTP.
    pub(super) plain_port: Option<String>,
    /// Who is sent to HTTPS, for which path, and where that is said.
    pub(super) to_https: Vec<(Host, String, String)>,
    /// What is said once of several directives → its note, and where else they are.
    families: BTreeMap<&'static str, (usize, BTreeSet<String>)>,
}

/// A `server`, as far as its locations must know it.
pub(super) struct Site<'a> {
    pub(super) hosts: Vec<Host>,
    pub(super) server: &'a Server<'a>,
    pub(super) plain: &'a Plain<'a>,
    pub(super) locations: Vec<&'a Directive>,
}

/// An upstream on its way into its file.
#[derive(Debug, Clone, Default)]
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
    /// Whether gRPC is spoken to it; `None` while nothing passes to it.
    pub(super) is_grpc: Option<bool>,
    /// Whether a split passes to it.
    pub(super) is_used: bool,
}

/// A `split_clients`.
#[derive(Debug, Clone)]
pub(super) struct Split {
    /// What decides, as a route has it.
    pub(super) by: String,
    /// Values and their shares, in hundredths of a percent.
    pub(super) shares: Vec<(String, u32)>,
}

impl Reader {
    pub(super) fn say(
        &mut self,
        severity: Severity,
        directive: &Directive,
        text: impl Into<String>,
    ) {
        self.import.say(severity, format!("{}: {}", directive.at, directive.name), text);
    }

    pub(super) fn lost(&mut self, directive: &Directive, text: impl Into<String>) {
        self.say(Severity::Lost, directive, text);
    }

    pub(super) fn differs(&mut self, directive: &Directive, text: impl Into<String>) {
        self.say(Severity::Differs, directive, text);
    }

    /// Says it at the first of several directives that are about one thing, with where the others are.
    pub(super) fn say_once(
        &mut self,
        family: &'static str,
        severity: Severity,
        directive: &Directive,
        text: &str,
    ) {
        let at = format!("{}: {}", directive.at, directive.name);
        if let Some((_, others)) = self.families.get_mut(family) {
            others.insert(at);
            return;
        }
        self.families.insert(family, (self.import.notes.len(), BTreeSet::new()));
        self.import.notes.push(Note { severity, at, text: text.to_owned() });
    }

    /// Writes where else they are.
    pub(super) fn tell_families(&mut self) {
        for (note, others) in self.families.values() {
            let note = &mut self.import.notes[*note];
            let others: Vec<&str> =
                others.iter().map(String::as_str).filter(|other| *other != note.at).collect();
            if !others.is_empty() {
                note.text = format!("{} (so {})", note.text, others.join(", "));
            }
        }
    }

    /// Says that a rule that keeps somebody out is not in the files.
    pub(super) fn unprotected(&mut self, at: String, text: impl Into<String>) {
        self.import.say_unprotected(at, text);
    }
}
