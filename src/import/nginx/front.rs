//! What nginx says of connections, limits and certificates, as `roundsman.toml` has it: once for all sites.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::{array, duration, quoted};
use super::syntax::Directive;
use super::values::{bytes, milliseconds, size};

/// nginx's times: the directive, its default in milliseconds, what it is under `[timeouts]`, and that
/// one's default.
const TIMES: &[(&str, u64, &[&str], u64)] = &[
    ("keepalive_timeout", 75_000, &["idle"], 75_000),
    ("client_header_timeout", 60_000, &["client-header"], 15_000),
    ("client_body_timeout", 60_000, &["client-body"], 30_000),
    ("send_timeout", 60_000, &["client-write"], 30_000),
    ("proxy_connect_timeout", 60_000, &["connect"], 2000),
    ("grpc_connect_timeout", 60_000, &["connect"], 2000),
    ("proxy_send_timeout", 60_000, &["upstream-write"], 30_000),
    ("grpc_send_timeout", 60_000, &["upstream-write"], 30_000),
    ("proxy_read_timeout", 60_000, &["response-header", "response-body"], 60_000),
    ("grpc_read_timeout", 60_000, &["response-header", "response-body"], 60_000),
];

/// How long a WebSocket may be silent here.
const TUNNEL: u64 = 3_600_000;

/// What nginx takes of a body where nothing is said.
const BODY: u64 = 1 << 20;

/// What `roundsman.toml` says.
#[derive(Debug, Default)]
pub(super) struct Front {
    top: Vec<String>,
    timeouts: BTreeMap<&'static str, u64>,
    limits: BTreeMap<&'static str, String>,
    certificates: Vec<(String, String)>,
    known: BTreeSet<(String, String)>,
    proxy_protocol: BTreeSet<&'static str>,
    /// The largest body that any site takes; `None` for any, and whether sites differ.
    pub(super) body: Option<(Option<u64>, bool)>,
}

impl Front {
    /// What the `http` blocks say. Paths are relative to `prefix`.
    pub(super) fn of(directives: &[Directive], prefix: &Path) -> Self {
        let mut front = Self::default();
        for (name, default, keys, ours) in TIMES {
            let values = effective(directives, name);
            if values.iter().all(Option::is_none) {
                continue;
            }
            let time = |value: &Option<Vec<String>>| match value {
                Some(words) => milliseconds(words.first()?),
                None => Some(*default),
            };
            let Some(longest) = values.iter().filter_map(time).max() else { continue };
            for key in *keys {
                let set = front.timeouts.get(key).copied().unwrap_or(0);
                if longest > 0 && (longest != *ours || set > 0) {
                    front.timeouts.insert(key, longest.max(set));
                }
            }
            if keys.contains(&"response-body") && longest > TUNNEL {
                front.timeouts.insert("tunnel-idle", longest);
            }
        }
        front.limits_of(directives);
        let mut trusted = Vec::new();
        walk(directives, &mut |directive| front.one(directive, &mut trusted));
        front.certificates_of(directives, &[], prefix);
        if !trusted.is_empty() {
            let list = array(trusted.iter().map(String::as_str));
            front.top.push(format!("trusted-proxies = {list}"));
        }
        front
    }

    fn limits_of(&mut self, directives: &[Directive]) {
        let bodies = effective(directives, "client_max_body_size");
        let body = |value: &Option<Vec<String>>| match value {
            Some(words) => bytes(words.first()?),
            None => Some(BODY),
        };
        let bodies: BTreeSet<u64> = bodies.iter().filter_map(body).collect();
        if let Some(largest) = bodies.last() {
            let largest = (!bodies.contains(&0)).then_some(*largest);
            let text = largest.map_or_else(|| "none".to_owned(), size);
            self.limits.insert("body", quoted(&text));
            self.body = Some((largest, bodies.len() > 1));
        }
        let connections = effective(directives, "limit_conn");
        let number = |value: &Option<Vec<String>>| value.as_ref()?.last()?.parse::<u64>().ok();
        let numbers: Option<BTreeSet<u64>> = connections.iter().map(number).collect();
        // The same for all that is passed on, or it would let more through somewhere.
        if let Some(most) =
            numbers.filter(|numbers| numbers.len() == 1).and_then(|n| n.first().copied())
            && (1..=10_000_000).contains(&most)
            && limits_by_client(directives)
        {
            self.limits.insert("connections-per-client", most.to_string());
        }
    }

    /// Whether `limit_conn` is in it.
    pub(super) fn counts_connections(&self) -> bool {
        self.limits.contains_key("connections-per-client")
    }

    fn one(&mut self, directive: &Directive, trusted: &mut Vec<String>) {
        let first = directive.arguments.first().map_or("", String::as_str);
        let last = directive.arguments.last().map_or("", String::as_str);
        match directive.name.as_str() {
            "set_real_ip_from" if is_network(first) && !trusted.iter().any(|net| net == first) => {
                trusted.push(first.to_owned());
            }
            "worker_shutdown_timeout" => {
                if let Some(time) = milliseconds(first).filter(|time| *time > 0) {
                    self.timeouts.insert("shutdown", time);
                }
            }
            "http2_max_concurrent_streams" if (1..=10_000).contains(&number(first)) => {
                self.limits.insert("streams-per-connection", number(first).to_string());
            }
            "large_client_header_buffers" => {
                let all = bytes(last).and_then(|one| one.checked_mul(number(first)));
                if let Some(all) = all.filter(|all| (1024..=1 << 20).contains(all)) {
                    self.limits.insert("header-bytes", quoted(&size(all)));
                }
            }
            "listen" if directive.arguments.iter().any(|word| word == "proxy_protocol") => {
                let is_tls = directive.arguments.iter().any(|word| word == "ssl");
                self.proxy_protocol.insert(if is_tls { "https" } else { "http" });
            }
            _ => {}
        }
    }

    /// Those of the servers of a block, which have its own where they name none.
    fn certificates_of(&mut self, block: &[Directive], outer: &[(String, String)], prefix: &Path) {
        let all = |name: &str| {
            let found: Vec<String> = block
                .iter()
                .filter(|inner| inner.name == name)
                .filter_map(|inner| absolute(inner.arguments.first()?, prefix))
                .collect();
            found
        };
        let own: Vec<_> =
            all("ssl_certificate").into_iter().zip(all("ssl_certificate_key")).collect();
        let names_own = block.iter().any(|inner| inner.name == "ssl_certificate");
        let pairs = if names_own { &own } else { outer };
        for inner in block {
            match inner.name.as_str() {
                "http" => self.certificates_of(&inner.block, pairs, prefix),
                "server" if is_tls(inner) => self.certificates_of(&inner.block, pairs, prefix),
                // In a server it stands for itself.
                "listen" => {
                    for pair in pairs {
                        if self.known.insert(pair.clone()) {
                            self.certificates.push(pair.clone());
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The file, if there is anything to say.
    pub(super) fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.top.is_empty() {
            parts.push(self.top.join("\n"));
        }
        if !self.timeouts.is_empty() {
            let lines =
                self.timeouts.iter().map(|(key, time)| format!("{key} = \"{}\"", duration(*time)));
            parts.push(table("timeouts", lines));
        }
        if !self.limits.is_empty() {
            let lines = self.limits.iter().map(|(key, value)| format!("{key} = {value}"));
            parts.push(table("limits", lines));
        }
        if self.proxy_protocol.contains("http") {
            parts.push(table("listen.http", ["proxy-protocol = true".to_owned()]));
        }
        if !self.certificates.is_empty() {
            let list: Vec<String> = self
                .certificates
                .iter()
                .map(|(certificate, key)| {
                    let (certificate, key) = (quoted(certificate), quoted(key));
                    format!("    {{ certificate = {certificate}, key = {key} }},\n")
                })
                .collect();
            let mut lines = vec![format!("certificates = [\n{}]", list.concat())];
            if self.proxy_protocol.contains("https") {
                lines.push("proxy-protocol = true".to_owned());
            }
            parts.push(table("listen.https", lines));
        }
        (!parts.is_empty()).then(|| parts.join("\n\n") + "\n")
    }
}

/// Whether a server names a certificate, or listens for TLS.
fn is_tls(server: &Directive) -> bool {
    server.block.iter().any(|inner| match inner.name.as_str() {
        "ssl_certificate" => true,
        "listen" => inner.arguments.iter().any(|word| word == "ssl" || word == "quic"),
        "ssl" => inner.arguments == ["on"],
        _ => false,
    })
}

fn table(name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<String> = lines.into_iter().collect();
    format!("[{name}]\n{}", lines.join("\n"))
}

/// What each location that passes on has for a directive: its arguments, or nothing where nobody says
/// anything.
fn effective(directives: &[Directive], name: &str) -> Vec<Option<Vec<String>>> {
    fn look(
        block: &[Directive],
        outer: Option<&Vec<String>>,
        name: &str,
        found: &mut Vec<Option<Vec<String>>>,
    ) {
        let own = block.iter().find(|inner| inner.name == name).map(|inner| &inner.arguments);
        let value = own.or(outer);
        if block.iter().any(|i| matches!(i.name.as_str(), "proxy_pass" | "grpc_pass")) {
            found.push(value.cloned());
        }
        for inner in block {
            if matches!(inner.name.as_str(), "http" | "server" | "location" | "if" | "limit_except")
            {
                look(&inner.block, value, name, found);
            }
        }
    }
    let mut found = Vec::new();
    look(directives, None, name, &mut found);
    found
}

fn walk(directives: &[Directive], look: &mut impl FnMut(&Directive)) {
    for directive in directives {
        look(directive);
        if matches!(directive.name.as_str(), "http" | "server" | "location") {
            walk(&directive.block, look);
        }
    }
}

/// Whether connections are counted for each client, and in one way only.
fn limits_by_client(directives: &[Directive]) -> bool {
    let mut keys = BTreeSet::new();
    walk(directives, &mut |directive| {
        if directive.name == "limit_conn_zone" {
            keys.insert(directive.arguments.first().cloned().unwrap_or_default());
        }
    });
    !keys.is_empty()
        && keys.iter().all(|key| matches!(key.as_str(), "$binary_remote_addr" | "$remote_addr"))
}

fn is_network(text: &str) -> bool {
    text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn absolute(path: &str, prefix: &Path) -> Option<String> {
    if path.contains('$') || path.starts_with("data:") || path.starts_with("engine:") {
        return None;
    }
    let path: PathBuf = prefix.join(path).components().collect();
    let path = if path.is_absolute() { path } else { Path::new("/etc/nginx").join(path) };
    path.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    fn front(text: &str) -> String {
        let tree = parse(text, "f").unwrap();
        Front::of(&tree, Path::new("/etc/nginx")).text().unwrap_or_default()
    }

    #[test]
    fn the_largest_of_all_sites_is_written_once() {
        let text = front(
            "http { keepalive_timeout 65; client_max_body_size 8m; set_real_ip_from 10.0.0.0/8; set_real_ip_from unix:;
             server { proxy_read_timeout 90s; client_max_body_size 20m; location / { proxy_pass http://a; }
               location /ws { proxy_read_timeout 1d; proxy_pass http://a; } }
             server { listen 443 ssl; ssl_certificate a.pem; ssl_certificate_key /k; location / { proxy_pass http://b; } } }",
        );
        assert_eq!(
            text,
            "trusted-proxies = [\"10.0.0.0/8\"]\n\n\
             [timeouts]\nidle = \"65s\"\nresponse-body = \"86400s\"\nresponse-header = \"86400s\"\ntunnel-idle = \"86400s\"\n\n\
             [limits]\nbody = \"20MiB\"\n\n\
             [listen.https]\ncertificates = [\n    { certificate = \"/etc/nginx/a.pem\", key = \"/k\" },\n]\n"
        );
    }

    #[test]
    fn each_setting_is_written_where_it_is_another_one_here() {
        let pass = "location / { proxy_pass http://a; }";
        for (text, lines) in [
            ("keepalive_timeout 75s;", ""),
            ("keepalive_timeout 0;", ""),
            ("keepalive_timeout 20s;", "[timeouts]\nidle = \"20s\"\n\n"),
            ("client_header_timeout 15s;", ""),
            ("send_timeout soon;", ""),
            (
                "proxy_send_timeout 5s; grpc_send_timeout 9s;",
                "[timeouts]\nupstream-write = \"9s\"\n\n",
            ),
            (
                "proxy_send_timeout 9s; grpc_send_timeout 5s;",
                "[timeouts]\nupstream-write = \"9s\"\n\n",
            ),
            (
                "proxy_send_timeout 9s; grpc_send_timeout 30s;",
                "[timeouts]\nupstream-write = \"30s\"\n\n",
            ),
            (
                "proxy_read_timeout 1h;",
                "[timeouts]\nresponse-body = \"3600s\"\nresponse-header = \"3600s\"\n\n",
            ),
            (
                "proxy_read_timeout 2h;",
                "[timeouts]\nresponse-body = \"7200s\"\nresponse-header = \"7200s\"\ntunnel-idle = \"7200s\"\n\n",
            ),
            ("proxy_send_timeout 2h;", "[timeouts]\nupstream-write = \"7200s\"\n\n"),
        ] {
            assert_eq!(
                front(&format!("server {{ {text} {pass} }}")),
                format!("{lines}[limits]\nbody = \"1MiB\"\n"),
                "{text}"
            );
        }
        for (text, line) in [
            ("worker_shutdown_timeout 10s;", "shutdown = \"10s\"\n"),
            ("worker_shutdown_timeout 0;", ""),
            ("http { http2_max_concurrent_streams 50; }", "streams-per-connection = 50\n"),
            ("http { http2_max_concurrent_streams 0; }", ""),
            ("http { http2_max_concurrent_streams 10001; }", ""),
            ("http { large_client_header_buffers 4 16k; }", "header-bytes = \"64KiB\"\n"),
            ("http { large_client_header_buffers 4 1m; }", ""),
            ("http { large_client_header_buffers 4 100; }", ""),
            (
                "http { set_real_ip_from 10.0.0.1; set_real_ip_from 10.0.0.1; set_real_ip_from x; }",
                "trusted-proxies = [\"10.0.0.1\"]\n",
            ),
            ("server { listen 80 proxy_protocol; }", "[listen.http]\nproxy-protocol = true\n"),
            ("server { listen 80; }", ""),
            ("server { listen 443 ssl proxy_protocol; }", ""),
            (
                "server { listen 443 ssl proxy_protocol; ssl_certificate /c; ssl_certificate_key /k; }",
                "certificate = \"/c\", key = \"/k\" },\n]\nproxy-protocol = true\n",
            ),
            ("server { listen 443 ssl; ssl_certificate $c; ssl_certificate_key /k; }", ""),
            ("server { listen 443 ssl; ssl_certificate data:x; ssl_certificate_key data:x; }", ""),
            ("server { listen 443 ssl; ssl_certificate /c; ssl_certificate_key engine:x; }", ""),
            ("http { ssl_certificate /c; ssl_certificate_key /k; server { listen 80; } }", ""),
            (
                "http { ssl_certificate /c; ssl_certificate_key /k; server { ssl on; listen 443; } }",
                "{ certificate = \"/c\", key = \"/k\" },\n]\n",
            ),
        ] {
            let all = front(text);
            assert!(all.ends_with(line) && all.is_empty() == line.is_empty(), "{text}: {all}");
        }
    }

    #[test]
    fn connections_are_counted_only_where_nginx_counts_them_by_client_and_alike() {
        let pass = "proxy_pass http://a;";
        let zone = |key: &str| format!("limit_conn_zone {key} zone=z:1m;");
        for (text, counts) in [
            (
                format!(
                    "{} server {{ limit_conn z 20; location / {{ {pass} }} }}",
                    zone("$remote_addr")
                ),
                true,
            ),
            (
                format!(
                    "{} server {{ limit_conn z 20; location / {{ {pass} }} }}",
                    zone("$server_name")
                ),
                false,
            ),
            (format!("server {{ limit_conn z 20; location / {{ {pass} }} }}"), false),
            (
                format!(
                    "{} {} server {{ limit_conn z 20; location / {{ {pass} }} }}",
                    zone("$remote_addr"),
                    zone("$server_name")
                ),
                false,
            ),
            (
                format!(
                    "{} server {{ location / {{ limit_conn z 20; {pass} }} location /b {{ limit_conn z 2; {pass} }} }}",
                    zone("$binary_remote_addr")
                ),
                false,
            ),
            (
                format!(
                    "{} server {{ limit_conn z 0; location / {{ {pass} }} }}",
                    zone("$remote_addr")
                ),
                false,
            ),
        ] {
            let tree = parse(&text, "f").unwrap();
            let front = Front::of(&tree, Path::new("/etc/nginx"));
            assert_eq!(front.counts_connections(), counts, "{text}");
        }
    }

    #[test]
    fn what_nginx_has_without_a_word_is_written_where_it_differs() {
        let pass = "location / { proxy_pass http://a; }";
        assert_eq!(front(&format!("server {{ {pass} }}")), "[limits]\nbody = \"1MiB\"\n");
        assert_eq!(
            front(&format!("server {{ client_max_body_size 0; {pass} }}")),
            "[limits]\nbody = \"none\"\n"
        );
        assert_eq!(front("server { location / { root /srv; } }"), "", "nothing is passed on");
        let limit = "limit_conn_zone $binary_remote_addr zone=a:1m; server { limit_conn a 20;";
        assert!(front(&format!("{limit} {pass} }}")).contains("connections-per-client = 20\n"));
        assert!(!front(&format!("{limit} {pass} }} server {{ {pass} }}")).contains("connections"));
    }
}
