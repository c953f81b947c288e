//! What is in force where a location is.

use std::collections::BTreeMap;

use super::closed::{Level, Protection};
use super::syntax::Directive;

/// The rules and settings that blocks inherit.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) protection: Protection,
    /// What the app gets as Host.
    pub(super) sends: SentHost,
    /// For how many seconds browsers are to come over TLS only, and whether below the host, too.
    pub(super) hsts: Option<(u64, bool)>,
    /// Variables that `set` gives one value.
    pub(super) variables: BTreeMap<String, String>,
    /// The server and the locations around, the outermost first.
    pub(super) blocks: Vec<Block>,
}

/// A server, or a location with others in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Which one.
    pub(super) is: String,
    /// Whether no expression beside it is looked at for what it takes: `^~`.
    pub(super) is_final: bool,
}

impl Block {
    pub(super) fn of(directive: &Directive) -> Self {
        let is_final = directive.arguments.first().is_some_and(|word| word.starts_with("^~"));
        Self { is: format!("{} {}", directive.at, directive.arguments.join(" ")), is_final }
    }
}

/// The Host field that a server gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum SentHost {
    /// The address or name in `proxy_pass`: nginx's default.
    #[default]
    Upstream,
    /// The client's.
    Client,
    /// Another one, which is named where it is set.
    Other,
}

impl Scope {
    /// That of a block inside of this one.
    pub(super) fn within(&self, block: &[Directive], level: Level) -> Self {
        let all = |name: &str| -> Vec<&Directive> {
            block.iter().filter(|inner| inner.name == name).collect()
        };
        // Fields that are set in a block replace those of the outer one.
        let (asked, answered) = (all("proxy_set_header"), all("add_header"));
        let mut variables = self.variables.clone();
        for set in all("set") {
            if let [name, value] = set.arguments.as_slice() {
                variables.insert(name.trim_start_matches('$').to_owned(), value.clone());
            }
        }
        Self {
            protection: self.protection.within(block, level),
            sends: if asked.is_empty() { self.sends.clone() } else { SentHost::of(&asked) },
            hsts: if answered.is_empty() { self.hsts } else { answered.into_iter().find_map(hsts) },
            variables,
            blocks: self.blocks.clone(),
        }
    }
}

impl SentHost {
    fn of(fields: &[&Directive]) -> Self {
        let is_host = |field: &&&Directive| {
            field.arguments.first().is_some_and(|name| name.eq_ignore_ascii_case("host"))
        };
        match fields.iter().find(is_host).and_then(|field| field.arguments.get(1)) {
            None => Self::Upstream,
            Some(value) => match value.as_str() {
                "$host" | "$http_host" | "$host:$server_port" => Self::Client,
                "$proxy_host" => Self::Upstream,
                _ => Self::Other,
            },
        }
    }
}

/// What `add_header Strict-Transport-Security` says: seconds, and whether below the host, too.
pub(super) fn hsts(field: &Directive) -> Option<(u64, bool)> {
    let [name, value, ..] = field.arguments.as_slice() else { return None };
    if !name.eq_ignore_ascii_case("Strict-Transport-Security") {
        return None;
    }
    let value = value.to_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let age = parts.clone().find_map(|part| part.strip_prefix("max-age="))?;
    let seconds = age.trim_matches('"').parse().ok()?;
    Some((seconds, parts.any(|part| part == "includesubdomains")))
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn the_host_that_a_server_gets_is_the_last_word_on_it() {
        for (outer, inner, sends) in [
            ("", "", SentHost::Upstream),
            ("proxy_set_header Host $host;", "", SentHost::Client),
            ("proxy_set_header Host $host;", "proxy_set_header X a;", SentHost::Upstream),
            ("", "proxy_set_header host $http_host;", SentHost::Client),
            ("", "proxy_set_header Host $host:$server_port;", SentHost::Client),
            ("", "proxy_set_header Host $proxy_host;", SentHost::Upstream),
            ("", "proxy_set_header Host a.example;", SentHost::Other),
        ] {
            let block = |text: &str| parse(text, "f").unwrap();
            let scope = Scope::default().within(&block(outer), Level::Above);
            assert_eq!(
                scope.within(&block(inner), Level::Location).sends,
                sends,
                "{outer} | {inner}"
            );
        }
    }
}
