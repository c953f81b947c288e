//! Which hosts a server of nginx is for, and which of them a route can name.

use std::fmt;

use super::syntax::Directive;

/// Whom a route is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// This name.
    Exact(String),
    /// Every name below this one.
    Below(String),
    /// Every host for which nothing else is written.
    Any,
}

/// The names of one server.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) hosts: Vec<Host>,
    /// Those that no route can have: regular expressions, `www.example.*`.
    pub(super) patterns: Vec<(&'a Directive, &'a str)>,
}

impl Host {
    /// Whether the other one's requests would come here, if nothing were written for them.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let below = |domain: &str, name: &str| {
            name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        };
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Below(domain), Self::Exact(name)) => below(domain, name),
            (Self::Below(domain), Self::Below(name)) => domain == name || below(domain, name),
            (one, other) => one == other,
        }
    }

    /// This one, and all others that cover it.
    pub(super) fn covering(&self) -> impl Iterator<Item = Self> {
        let name = match self {
            Self::Exact(name) | Self::Below(name) => name.as_str(),
            Self::Any => "",
        };
        let domains = name.match_indices('.').map(move |(dot, _)| &name[dot + 1..]);
        let wider = domains.filter(|domain| !domain.is_empty()).map(|d| Self::Below(d.to_owned()));
        let any = (*self != Self::Any).then_some(Self::Any);
        [self.clone()].into_iter().chain(wider).chain(any)
    }

    /// As a route has it; nothing for every host.
    pub(super) fn pattern(&self) -> Option<String> {
        match self {
            Self::Exact(name) => Some(name.clone()),
            Self::Below(domain) => Some(format!("*.{domain}")),
            Self::Any => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pattern().as_deref().unwrap_or("every host"))
    }
}

impl<'a> Names<'a> {
    /// Those of a `server`. `_` and the empty name are none: nothing but the port's default gives a
    /// server the hosts that nobody has.
    pub(super) fn of(server: &'a Directive) -> Self {
        let mut names = Self::default();
        for inner in server.block.iter().filter(|inner| inner.name == "server_name") {
            for name in &inner.arguments {
                match name.to_lowercase().as_str() {
                    "_" | "" | "$hostname" | "*" => {}
                    lower if is_pattern(lower) => names.patterns.push((inner, name.as_str())),
                    lower => names.add(lower),
                }
            }
        }
        names
    }

    fn add(&mut self, name: &str) {
        let hosts = match (name.strip_prefix("*."), name.strip_prefix('.')) {
            (Some(domain), _) => vec![Host::Below(domain.to_owned())],
            (None, Some(domain)) => {
                vec![Host::Exact(domain.to_owned()), Host::Below(domain.to_owned())]
            }
            (None, None) => vec![Host::Exact(name.to_owned())],
        };
        self.hosts.extend(
            hosts.into_iter().filter(|host| !self.hosts.contains(host)).collect::<Vec<_>>(),
        );
    }
}

fn is_pattern(name: &str) -> bool {
    let rest = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(name);
    name.starts_with('~') || rest.contains('*') || crate::config::host(rest).is_err()
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn names_are_hosts_or_patterns() {
        let tree = parse(
            "server { server_name a.Example .b.example *.c.example _ \"\" ~^d e.* *.*.f g_h!; }",
            "f",
        );
        let tree = tree.unwrap();
        let names = Names::of(&tree[0]);
        let hosts: Vec<String> = names.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["a.example", "b.example", "*.b.example", "*.c.example"]);
        let patterns: Vec<&str> = names.patterns.iter().map(|(_, name)| *name).collect();
        assert_eq!(patterns, ["~^d", "e.*", "*.*.f", "g_h!"]);
    }

    #[test]
    fn a_wider_host_gets_what_nobody_else_has() {
        let exact = |name: &str| Host::Exact(name.to_owned());
        let below = |name: &str| Host::Below(name.to_owned());
        for (wide, narrow, covers) in [
            (Host::Any, exact("a"), true),
            (below("b.c"), exact("a.b.c"), true),
            (below("b.c"), exact("b.c"), false),
            (below("b.c"), exact("ab.c"), false),
            (below("c"), below("b.c"), true),
            (exact("a"), exact("a"), true),
            (exact("a"), Host::Any, false),
        ] {
            assert_eq!(wide.covers(&narrow), covers, "{wide} {narrow}");
        }
    }
}
