//! What every host and path comes to, and from that the routes: what is closed wins, and nothing of what
//! is closed is reached by another way.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::{Import, Severity, quoted};
use super::host::Host;
use super::index::{Concerned, Index};
use super::path::{encloses, prefix};
use super::scope::Block;

/// What locations say, in their order.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    index: Index,
    /// Rules for paths that no prefix stands for: hosts, where they are, and what they are.
    pub(super) patterns: Vec<(Vec<Host>, String, String)>,
}

/// What one location says for one host.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) host: Host,
    /// As nginx has it: `/api/` is no `/api`.
    pub(super) path: String,
    pub(super) is_exact: bool,
    /// Whether it is a regular expression that comes to the same.
    pub(super) is_pattern: bool,
    /// Itself and what is around it, the outermost first.
    pub(super) blocks: Vec<Block>,
    /// The location: `site:4: location`.
    pub(super) at: String,
    pub(super) https: Https,
    pub(super) to: To,
}

/// What a route demands of the way there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Https {
    pub(super) redirect: bool,
    /// Seconds, and whether below the host, too.
    pub(super) hsts: Option<(u64, bool)>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    /// This upstream.
    Open(String),
    /// One of several, by this split.
    Split(String),
    /// Nobody, until somebody has decided.
    Shut(Shut),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shut {
    pub(super) why: Why,
    /// The upstream that would answer.
    pub(super) wants: Option<String>,
    /// Whether nginx answers those whom no rule keeps out.
    pub(super) serves: bool,
}

impl Shut {
    /// Closed by rules before what would answer.
    pub(super) fn by_rules(rules: String, to: Option<To>) -> Self {
        let serves = to.is_some();
        let wants = match to {
            Some(To::Open(upstream)) => Some(upstream),
            Some(To::Shut(shut)) => shut.wants,
            Some(To::Split(_)) | None => None,
        };
        Self { why: Why::Rules(rules), wants, serves }
    }

    /// Closed since the server cannot be asked as nginx asks it.
    pub(super) fn unserved(why: String, wants: Option<String>) -> Self {
        Self { why: Why::Unserved(why), wants, serves: true }
    }

    /// Closed since nothing of the host's own server is for it.
    pub(super) fn foreign() -> Self {
        Self { why: Why::Foreign, wants: None, serves: false }
    }
}

/// Why nobody may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// These rules keep somebody out.
    Rules(String),
    /// The server cannot be asked as nginx asks it.
    Unserved(String),
    /// No location of the host's own server is for it.
    Foreign,
}

/// The routes of all upstreams.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Upstream and route.
    pub(super) open: Vec<(String, String)>,
    /// Split and route.
    pub(super) split: Vec<(String, String)>,
    /// Routes that get 503.
    pub(super) closed: Vec<String>,
    /// What the upstreams have once it is open: as a comment.
    pub(super) wanted: Vec<(String, String)>,
}

impl Entry {
    fn prefix(&self) -> &str {
        prefix(&self.path)
    }

    fn place(&self) -> (&Host, &str) {
        (&self.host, &self.path)
    }

    fn is_open(&self) -> bool {
        !matches!(self.to, To::Shut(_))
    }

    pub(super) fn is_closed_by_rules(&self) -> bool {
        matches!(&self.to, To::Shut(shut) if matches!(shut.why, Why::Rules(_)))
    }

    fn is_foreign(&self) -> bool {
        matches!(&self.to, To::Shut(shut) if shut.why == Why::Foreign)
    }

    /// Whether nginx also takes paths that go on in the same word.
    fn ends_within_a_word(&self) -> bool {
        !self.is_exact && !self.path.ends_with('/')
    }

    /// Whether this one's requests come to the other's route, where they have none of their own.
    fn is_within(&self, other: &Self) -> bool {
        other.host.covers(&self.host)
            && (encloses(other.prefix(), self.prefix())
                || other.host != self.host && encloses(self.prefix(), other.prefix()))
    }

    pub(super) fn route(&self) -> String {
        let mut route = String::from("{ ");
        if let Some(host) = self.host.pattern() {
            let _ = write!(route, "host = {}, ", quoted(&host));
        }
        let _ = write!(route, "path = {}", quoted(self.prefix()));
        if self.https.redirect {
            route.push_str(", redirect-https = true");
        }
        if let Some((seconds, subdomains)) = self.https.hsts {
            let _ = write!(route, ", hsts = \"{seconds}s\"");
            if subdomains {
                route.push_str(", hsts-subdomains = true");
            }
        }
        route.push_str(" }");
        route
    }
}

impl Table {
    pub(super) fn has(&self, host: &Host, path: &str) -> bool {
        !self.index.at(host, path).is_empty()
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.index.add(&entry.host, &entry.path, self.entries.len());
        self.entries.push(entry);
    }

    /// The hosts of those of which that is so.
    pub(super) fn hosts_of(&self, is_so: impl Fn(&Entry) -> bool) -> Concerned {
        Concerned::of(self.entries.iter().filter(|entry| is_so(entry)).map(|entry| &entry.host))
    }

    /// The routes, and what there is to say of them.
    pub(super) fn resolve(mut self, import: &mut Import) -> Routes {
        self.merge(import);
        self.settle_exact(import);
        self.look_for_holes(import);
        let mut routes = Routes::default();
        let anything = self.entries.iter().any(|entry| match &entry.to {
            To::Shut(shut) => shut.wants.is_some(),
            To::Open(_) | To::Split(_) => true,
        });
        for entry in &self.entries {
            match &entry.to {
                To::Open(upstream) => {
                    self.compare(entry, import);
                    routes.open.push((upstream.clone(), entry.route()));
                }
                To::Split(split) => {
                    self.compare(entry, import);
                    routes.split.push((split.clone(), entry.route()));
                }
                To::Shut(shut) => {
                    let is_reached = self.is_reached(entry);
                    let would_answer = shut.wants.is_some() || matches!(shut.why, Why::Unserved(_));
                    let is_written = is_reached || would_answer && anything;
                    say_shut(entry, shut, is_reached, is_written, import);
                    if shut.serves && entry.ends_within_a_word() {
                        self.compare(entry, import);
                    }
                    if is_written {
                        routes.closed.push(entry.route());
                    }
                    if let Some(upstream) = &shut.wants {
                        routes.wanted.push((upstream.clone(), entry.route()));
                    }
                }
            }
        }
        routes
    }

    /// One entry for each host and path: HTTP, HTTPS and all ports are one here.
    fn merge(&mut self, import: &mut Import) {
        let mut merged: Vec<Entry> = Vec::new();
        let mut known = BTreeMap::new();
        for entry in std::mem::take(&mut self.entries) {
            let same = (entry.host.clone(), entry.prefix().to_owned());
            let first = *known.entry(same).or_insert(merged.len());
            let Some(first) = merged.get_mut(first) else {
                merged.push(entry);
                continue;
            };
            if entry.is_foreign() {
                continue;
            }
            if first.is_foreign() {
                *first = entry;
                continue;
            }
            let https = Https {
                redirect: first.https.redirect && entry.https.redirect,
                hsts: first.https.hsts.or(entry.https.hsts),
            };
            let replaces =
                first.is_open() && (!entry.is_open() || first.is_exact && !entry.is_exact);
            let dropped = if replaces { std::mem::replace(first, entry) } else { entry };
            first.https = https;
            if first.to != dropped.to {
                let text = if dropped.is_exact && !first.is_exact {
                    format!(
                        "= {}: only the path itself, and here {} answers it with all below it; \
                         this one was left out",
                        dropped.path, first.at
                    )
                } else {
                    format!(
                        "{} {} has an answer already, by {} (HTTP, HTTPS and all ports are one \
                         here); this one was left out",
                        dropped.host, dropped.path, first.at
                    )
                };
                import.say(Severity::Lost, dropped.at, text);
            }
        }
        self.index = Index::of(merged.iter().map(Entry::place));
        self.entries = merged;
    }

    /// `= /x` as a prefix, where that opens nothing that was closed and takes nothing from `/`.
    fn settle_exact(&mut self, import: &mut Import) {
        let index = std::mem::take(&mut self.index);
        let all = Self { entries: self.entries.clone(), index, patterns: Vec::new() };
        self.entries.retain(|entry| {
            if !entry.is_exact || !entry.is_open() {
                return true;
            }
            let around = all.nearest(entry);
            let at = entry.at.clone();
            let path = &entry.path;
            match around {
                Some(other) if other.to == entry.to && other.https.redirect == entry.https.redirect => false,
                Some(other) if !other.is_open() => {
                    import.say(Severity::Closed, at, format!("= {path}: only the path itself, and here it would be everything below it, too, which {} keeps closed; the location was left out, and is closed with it", other.at));
                    false
                }
                _ if entry.prefix() == "/" => {
                    import.say(Severity::Lost, at, "= /: only the path itself, and here it would be everything below it, too; the location was left out");
                    false
                }
                _ => {
                    import.say(Severity::Differs, at, format!("= {path}: the path and all below it, not only itself"));
                    true
                }
            }
        });
        self.index = Index::of(self.entries.iter().map(Entry::place));
    }

    /// Rules that hold in nginx where prefixes of whole segments do not.
    fn look_for_holes(&self, import: &mut Import) {
        let open = self.hosts_of(Entry::is_open);
        for (hosts, at, text) in &self.patterns {
            if hosts.iter().any(|host| open.has(host)) {
                import.say_unprotected(at, text);
            }
        }
        for entry in self.entries.iter().filter(|entry| entry.ends_within_a_word()) {
            let To::Shut(Shut { why: Why::Rules(rules), .. }) = &entry.to else { continue };
            if let Some(other) = self.nearest(entry).filter(|other| other.is_open()) {
                let (path, to) = (&entry.path, &other.path);
                import.say_unprotected(
                    &entry.at,
                    format!(
                        "{rules} also holds for paths that go on in the same word, as {path}x, and these come to {to} here; see to it that the app has no such path, or keeps them closed itself"
                    ),
                );
            }
        }
    }

    /// Whether a closed path would be answered if nothing were written for it.
    fn is_reached(&self, entry: &Entry) -> bool {
        let around = self.index.around(&entry.host, entry.prefix());
        let own = around.iter().map(|number| &self.entries[*number]);
        let mut own = own.filter(|other| other.host == entry.host && other.is_open());
        let mut wider = self.index.wider(&entry.host).map(|number| &self.entries[number]);
        !entry.is_foreign() && own.next().is_some()
            || wider.any(|other| {
                other.is_open()
                    && entry.is_within(other)
                    && (!self.has(&entry.host, other.prefix()) || other.prefix() == entry.prefix())
            })
    }

    /// The entry whose route takes the requests if this one has none.
    fn nearest(&self, entry: &Entry) -> Option<&Entry> {
        let rank = |other: &&Entry| {
            let host = match (&other.host, other.host == entry.host) {
                (_, true) => 3,
                (Host::Below(_), _) => 2,
                _ => 1,
            };
            (host, other.prefix().len())
        };
        let is_around = |other: &&Entry| {
            let is_same = other.host == entry.host && other.prefix() == entry.prefix();
            !is_same && !other.is_exact && !other.is_foreign()
        };
        let around = self.index.around(&entry.host, entry.prefix()).into_iter();
        around.map(|number| &self.entries[number]).filter(is_around).max_by_key(rank)
    }

    /// Where prefixes of whole segments are others than nginx's.
    fn compare(&self, entry: &Entry, import: &mut Import) {
        let bare = entry.prefix();
        if bare == "/" || entry.is_exact {
            return;
        }
        let is_apart = |host: &Host| {
            // Nothing but the whole of a host is foreign.
            self.index.at(host, "/").iter().any(|number| self.entries[*number].is_foreign())
        };
        let around =
            self.nearest(entry).filter(|other| other.host == entry.host || !is_apart(&entry.host));
        if !entry.ends_within_a_word() {
            let nginx = if entry.is_pattern {
                format!("{bare} itself is not meant in nginx")
            } else {
                format!("nginx redirects {bare} to {bare}/")
            };
            import.say(
                Severity::Differs,
                entry.at.clone(),
                format!("{nginx}; here it is passed on, too"),
            );
        } else if around.is_none_or(|other| other.to != entry.to) {
            let to = around.map_or("has no answer (404)".to_owned(), |other| {
                format!("comes to {}", other.path)
            });
            import.say(Severity::Differs, entry.at.clone(), format!("a path that only begins with the same letters, as {bare}x, is another one here: it {to}"));
        }
    }
}

fn say_shut(entry: &Entry, shut: &Shut, is_reached: bool, is_written: bool, import: &mut Import) {
    let (path, host) = (&entry.path, &entry.host);
    let status = if is_written { 503 } else { 404 };
    let (severity, text) = match &shut.why {
        Why::Rules(rules) if shut.serves => (
            Severity::Closed,
            format!(
                "{path} is CLOSED ({status}): {rules} cannot be carried over. Let the app do it, or keep nginx for it, and move the route to its upstream then"
            ),
        ),
        Why::Rules(rules) if is_reached => (
            Severity::Closed,
            format!(
                "{path} is CLOSED ({status}): {rules} cannot be carried over, and what is around it is open"
            ),
        ),
        Why::Rules(rules) => {
            (Severity::Differs, format!("{path} has no answer ({status}); nginx says {rules}"))
        }
        Why::Unserved(why) => (Severity::Closed, format!("{path} is CLOSED ({status}): {why}")),
        Why::Foreign if is_reached => (
            Severity::Differs,
            format!(
                "paths of {host} that no location of its own passes on get 503, lest they come to a site with a wider name"
            ),
        ),
        Why::Foreign => return,
    };
    import.say(severity, entry.at.clone(), text);
}
