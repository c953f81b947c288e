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

#[cfg(test)]
mod tests {
    use super::super::outcomes::{routes, said, tried};

    #[test]
    fn who_is_asked_and_for_which_path() {
        const PLAIN: &str = "servers are reached over plain HTTP only";
        const VARIABLES: &str = "has variables, and which server they mean is not known here";
        for (location, expected, told) in [
            ("/ { proxy_pass http://127.0.0.1:3000; }", "a/ 3000", ""),
            ("/ { proxy_pass http://127.0.0.1:3000/; }", "a/ 3000", ""),
            ("/ { proxy_pass http://localhost:3000; }", "a/ 3000", ""),
            ("/ { proxy_pass http://10.0.0.1; }", "a/ 10-0-0-1-80", ""),
            ("/ { proxy_pass http://app.example:3000; }", "a/ dns-app-example-3000", ""),
            ("/ { proxy_pass http://unix:/run/x.sock; }", "a/ x-sock", ""),
            ("/ { proxy_pass http://unix:/run/x.sock:/; }", "a/ x-sock", ""),
            ("/v1/ { proxy_pass http://unix:/run/x.sock:/v1/; }", "a/v1 x-sock", ""),
            (
                "/v1/ { proxy_pass http://unix:/run/x.sock:/v2/; }",
                "a/v1 closed",
                "nginx replaces /v1/ by /v2/",
            ),
            ("/v1 { proxy_pass http://127.0.0.1:3000/v1; }", "a/v1 3000", ""),
            (
                "/v1/ { proxy_pass http://127.0.0.1:3000/; }",
                "a/v1 closed",
                "nginx replaces /v1/ by / (http",
            ),
            ("/ { proxy_pass http://127.0.0.1:3000$request_uri; }", "a/ 3000", ""),
            ("/ { proxy_pass http://127.0.0.1:3000$uri$is_args$args; }", "a/ 3000", ""),
            ("/ { proxy_pass http://127.0.0.1:3000/x$request_uri; }", "a/ closed", VARIABLES),
            ("/ { set $to http://127.0.0.1:3000; proxy_pass $to; }", "a/ 3000", ""),
            ("/ { set $to http://127.0.0.1:3000; proxy_pass ${to}; }", "a/ 3000", ""),
            (
                "/ { set $to http://127.0.0.1:3000; proxy_pass $to/; }",
                "a/ closed",
                "nginx replaces / by /",
            ),
            ("/ { set $po 1; set $port 3000; proxy_pass http://127.0.0.1:$port; }", "a/ 3000", ""),
            ("/ { set $port 3000; proxy_pass http://127.0.0.1:$port_; }", "a/ closed", VARIABLES),
            ("/ { set $p 3000; set $port $p; proxy_pass http://127.0.0.1:$port; }", "a/ 3000", ""),
            ("/ { set $a $b; set $b $a; proxy_pass http://$a; }", "a/ closed", VARIABLES),
            ("/ { set $a $a$a$a$a$a$a$a$a$a; proxy_pass http://$a; }", "a/ closed", VARIABLES),
            ("/ { proxy_pass http://$unknown; }", "a/ closed", VARIABLES),
            ("/ { proxy_pass https://127.0.0.1:3000; }", "a/ closed", PLAIN),
            ("/ { proxy_pass 127.0.0.1:3000; }", "a/ closed", PLAIN),
            ("/ { grpc_pass 127.0.0.1:3000; }", "a/ 3000", ""),
            ("/ { grpc_pass grpc://127.0.0.1:3000; }", "a/ 3000", ""),
            ("/ { grpc_pass grpcs://127.0.0.1:3000; }", "a/ closed", PLAIN),
            (
                "/ { proxy_pass http://no_such; }",
                "a/ closed",
                "http://no_such is no server that could be written",
            ),
        ] {
            // What is beside it is there in every case, so that what is closed is written.
            let import = tried(&format!(
                "server {{ server_name a; location {location} }} server {{ server_name z; location / {{ P4 }} }}"
            ));
            assert_eq!(
                routes(&import),
                format!("{expected}, z/ 4"),
                "{location}\n{}",
                said(&import)
            );
            assert!(said(&import).contains(told), "{location}: {}", said(&import));
            assert_eq!(said(&import).contains("CLOSED"), !told.is_empty(), "{}", said(&import));
        }
    }

    #[test]
    fn a_server_that_is_asked_in_two_ways_has_a_file_for_each() {
        let import = tried(
            "upstream u { server 10.0.0.1:1; server 10.0.0.2:1; }
             server { server_name a; location / { proxy_pass http://u; } location /g/ { grpc_pass u; }
               location /h/ { grpc_pass grpc://u; } location /x/ { proxy_pass http://u; } }",
        );
        assert_eq!(routes(&import), "a/ u, a/g u-grpc, a/h u-grpc, a/x u");
        let of = |path: &str| import.files.iter().find(|file| file.path == path).unwrap();
        for (path, is_grpc) in [("upstreams/u.toml", false), ("upstreams/u-grpc.toml", true)] {
            assert_eq!(of(path).text.contains("protocol = \"h2c\""), is_grpc, "{path}");
            assert!(of(path).text.contains("10.0.0.2:1"), "{path}");
        }
        let import = tried(
            "server { server_name a; location /g/ { grpc_pass 127.0.0.1:5; } location / { proxy_pass http://127.0.0.1:5; } }",
        );
        assert_eq!(routes(&import), "a/ 5-http, a/g 5");
    }

    #[test]
    fn shares_go_to_upstreams_that_are_known() {
        let split = |other: &str| {
            tried(&format!(
                "split_clients $remote_addr $to {{ 10% one; * {other}; }}
                 upstream one {{ server 10.0.0.1:1; }} upstream two {{ server 10.0.0.2:1; }}
                 server {{ server_name a; location / {{ proxy_pass http://$to; }} location /b {{ proxy_pass http://${{to}}; }} }}"
            ))
        };
        let text = |import: &crate::import::Import| {
            import
                .files
                .iter()
                .find(|file| file.path == "routes/nginx.toml")
                .map(|file| file.text.clone())
        };
        let import = split("two");
        assert_eq!(
            text(&import).unwrap(),
            "[[route]]\nhost = \"a\"\npath = \"/\"\nby = \"ip\"\nsplit = [\n    { to = \"upstream:one\", share = 1000 },\n    \
             { to = \"upstream:two\", share = 9000 },\n]\n[[route]]\nhost = \"a\"\npath = \"/b\"\nby = \"ip\"\nsplit = [\n    \
             { to = \"upstream:one\", share = 1000 },\n    { to = \"upstream:two\", share = 9000 },\n]\n"
        );
        let import = split("three");
        assert_eq!(text(&import), None);
        assert!(said(&import).contains("/ is CLOSED"), "{}", said(&import));
    }
}
