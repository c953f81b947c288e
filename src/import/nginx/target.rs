//! Whom `proxy_pass` and `grpc_pass` ask, and for which path.

use super::super::quoted;
use super::reader::{Reader, Upstream};
use super::scope::Scope;
use super::syntax::Directive;
use super::table::To;

/// What a location passes to.
pub(super) struct Target {
    pub(super) to: To,
    /// What nginx puts in place of the location's path, where that is another one.
    pub(super) uri: Option<String>,
}

impl Reader {
    /// Whom a directive asks, made for it where it is an address; the error is why nobody can be asked.
    pub(super) fn target(
        &mut self,
        directive: &Directive,
        path: &str,
        scope: &Scope,
    ) -> Result<Target, String> {
        let is_grpc = directive.name == "grpc_pass";
        let given = directive.arguments.first().map_or("", String::as_str);
        let text = resolved(given, scope);
        if let Some(split) = self.split(&text) {
            return Ok(Target { to: To::Split(split), uri: None });
        }
        let to = whole_path(&text);
        if to.contains('$') {
            return Err(format!(
                "{given} has variables, and which server they mean is not known here; write a route to the upstream that is meant"
            ));
        }
        let rest = to.strip_prefix("http://").or_else(|| to.strip_prefix("grpc://"));
        let rest = match rest {
            Some(rest) => rest,
            None if is_grpc && !to.contains("://") => to,
            None => {
                return Err(format!("{given}: servers are reached over plain HTTP only"));
            }
        };
        let (host, uri) = match rest.strip_prefix("unix:") {
            Some(path) => {
                let (path, uri) = path.split_once(':').unwrap_or((path, ""));
                (format!("unix:{path}"), uri)
            }
            None => match rest.find('/') {
                Some(slash) => (rest[..slash].to_owned(), &rest[slash..]),
                None => (rest.to_owned(), ""),
            },
        };
        // With a variable nginx asks for exactly what is written.
        let is_same = uri.is_empty() || uri == path && !given.contains('$');
        let uri = (!is_same).then(|| uri.to_owned());
        let name = self
            .upstream_for(directive, &host)
            .ok_or_else(|| format!("{given} is no server that could be written"))?;
        Ok(Target { to: To::Open(self.speaking(&name, is_grpc)), uri })
    }

    fn upstream_for(&mut self, directive: &Directive, host: &str) -> Option<String> {
        if let Some(name) = self.names.get(host) {
            return Some(name.clone());
        }
        let address = self.address(directive, host)?;
        let short = ["unix:/", "127.0.0.1:", "dns:localhost:"]
            .iter()
            .find_map(|prefix| address.strip_prefix(prefix))
            .unwrap_or(&address);
        let name = self.name(short);
        let at = format!("{}: {}", directive.at, directive.name);
        let servers = vec![format!("{{ address = {} }}", quoted(&address))];
        self.names.insert(host.to_owned(), name.clone());
        self.upstreams.insert(name.clone(), Upstream { at, servers, ..Upstream::default() });
        Some(name)
    }

    /// The upstream as it speaks this protocol, which all its servers have in common: a second one where
    /// both are spoken.
    fn speaking(&mut self, name: &str, is_grpc: bool) -> String {
        let Some(upstream) = self.upstreams.get_mut(name) else { return name.to_owned() };
        if *upstream.is_grpc.get_or_insert(is_grpc) == is_grpc {
            return name.to_owned();
        }
        let key = format!("{name} {is_grpc}");
        if let Some(other) = self.names.get(&key) {
            return other.clone();
        }
        let copy = Upstream { is_grpc: Some(is_grpc), ..upstream.clone() };
        let other = self.name(&format!("{name}-{}", if is_grpc { "grpc" } else { "http" }));
        self.names.insert(key, other.clone());
        self.upstreams.insert(other.clone(), copy);
        other
    }

    /// Our name of the split that is the whole of an address.
    fn split(&mut self, text: &str) -> Option<String> {
        let variable = text.strip_prefix("http://$")?;
        let variable = variable.trim_start_matches('{').trim_end_matches('}');
        let split = self.splits.get(variable)?.clone();
        let all_known = split.shares.iter().all(|(value, _)| self.names.contains_key(value));
        if !all_known {
            return None;
        }
        for (value, _) in &split.shares {
            let name = self.names[value].clone();
            self.speaking(&name, false);
            if let Some(upstream) = self.upstreams.get_mut(&name) {
                upstream.is_used = true;
            }
        }
        Some(variable.to_owned())
    }
}

/// With the values of what `set` has set.
fn resolved(text: &str, scope: &Scope) -> String {
    let mut text = text.to_owned();
    for _ in 0..4 {
        for (name, value) in &scope.variables {
            for variable in [format!("${{{name}}}"), format!("${name}")] {
                let Some(at) = text.find(&variable) else { continue };
                let after = text[at + variable.len()..].chars().next();
                let ends = variable.ends_with('}')
                    || after.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_'));
                if ends && text.len() < 4096 {
                    text.replace_range(at..at + variable.len(), value);
                }
            }
        }
    }
    text
}

/// Without what stands for the path that the client asked for.
fn whole_path(to: &str) -> &str {
    ["$request_uri", "$uri$is_args$args"]
        .iter()
        .find_map(|path| to.strip_suffix(path))
        .filter(|rest| rest.matches('/').count() == 2)
        .unwrap_or(to)
}
