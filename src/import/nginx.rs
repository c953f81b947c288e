//! nginx's configuration: upstreams, servers and locations to upstream files with their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::nginx_syntax::{self, Directive};
use super::{Error, File, Import, quoted};
use crate::start::infer;

/// Makes upstream files of `nginx.conf`, a site's file, or a directory of sites.
///
/// # Errors
/// When a file cannot be read or is not in nginx's syntax.
pub fn import(path: &Path) -> Result<Import, Error> {
    let directives = nginx_syntax::read(path)?;
    let mut reader = Reader {
        import: Import::default(),
        upstreams: BTreeMap::new(),
        names: BTreeMap::new(),
        taken: BTreeSet::new(),
    };
    reader.top(&directives);
    let Reader { mut import, upstreams, .. } = reader;
    for (name, upstream) in upstreams {
        if upstream.servers.is_empty() {
            import.note(
                upstream.at,
                format!("the upstream \"{name}\" has no server that can be used, and was left out"),
            );
        } else if upstream.routes.is_empty() {
            import.note(
                upstream.at,
                format!("no location passes to the upstream \"{name}\", and it was left out"),
            );
        } else {
            import
                .files
                .push(File { path: format!("upstreams/{name}.toml"), text: upstream.text() });
        }
    }
    Ok(import)
}

/// An upstream on its way into its file.
#[derive(Debug, Default)]
struct Upstream {
    at: String,
    /// Lines of the top of the file.
    options: Vec<String>,
    /// Tables behind it.
    tables: Vec<String>,
    servers: Vec<String>,
    routes: Vec<String>,
    weighted: bool,
}

struct Reader {
    import: Import,
    upstreams: BTreeMap<String, Upstream>,
    /// nginx's name of an upstream → ours.
    names: BTreeMap<String, String>,
    /// Hosts and paths that have an answer.
    taken: BTreeSet<(Option<String>, String)>,
}

/// What is always so here, so that there is nothing to write.
const NEEDS_NOTHING: &[&str] = &[
    "events",
    "types",
    "include",
    "user",
    "pid",
    "worker_processes",
    "worker_connections",
    "worker_rlimit_nofile",
    "worker_cpu_affinity",
    "multi_accept",
    "use",
    "daemon",
    "sendfile",
    "tcp_nopush",
    "tcp_nodelay",
    "default_type",
    "keepalive_requests",
    "proxy_http_version",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_buffer_size",
    "proxy_busy_buffers_size",
    "proxy_request_buffering",
    "types_hash_max_size",
    "server_names_hash_bucket_size",
    "keepalive",
    "zone",
    "proxy_redirect",
    "server_tokens",
    "reset_timedout_connection",
    "map_hash_bucket_size",
    "charset",
    "proxy_socket_keepalive",
    "pcre_jit",
];

/// What is said elsewhere: directive → what to do.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "keepalive_timeout",
        "`idle` under [timeouts] of roundsman.toml, for all sites; 75 s without it",
    ),
    (
        "client_max_body_size",
        "`body` under [limits] of roundsman.toml, for all sites; 1 GiB without it",
    ),
    ("client_header_timeout", "`client-header` under [timeouts] of roundsman.toml"),
    ("client_body_timeout", "`client-body` under [timeouts] of roundsman.toml"),
    ("send_timeout", "`client-write` under [timeouts] of roundsman.toml"),
    (
        "large_client_header_buffers",
        "`header-bytes` under [limits] of roundsman.toml; 32 KiB without it",
    ),
    (
        "client_header_buffer_size",
        "`header-bytes` under [limits] of roundsman.toml; 32 KiB without it",
    ),
    (
        "proxy_connect_timeout",
        "`connect` under [timeouts] of roundsman.toml, for all sites; 2 s without it",
    ),
    (
        "proxy_read_timeout",
        "`response-header` and `response-body` under [timeouts] of roundsman.toml, for all sites; 60 s without them; `tunnel-idle` for WebSockets",
    ),
    ("proxy_send_timeout", "`response-body` under [timeouts] of roundsman.toml, for all sites"),
    (
        "proxy_next_upstream",
        "another server is tried when a request cannot have been processed; `attempts` under [retries] of roundsman.toml",
    ),
    ("proxy_next_upstream_tries", "`attempts` under [retries] of roundsman.toml"),
    ("set_real_ip_from", "`trusted-proxies` of roundsman.toml"),
    (
        "real_ip_header",
        "`trusted-proxies` of roundsman.toml: X-Forwarded-For and Forwarded are believed from these",
    ),
    ("access_log", "logs are in the journal: journalctl -u roundsman"),
    ("error_log", "logs are in the journal: journalctl -u roundsman"),
    ("log_format", "logs are in the journal: journalctl -u roundsman"),
    ("limit_conn", "`connections-per-client` under [limits] of roundsman.toml is the nearest"),
    ("limit_conn_zone", "`connections-per-client` under [limits] of roundsman.toml is the nearest"),
    ("worker_shutdown_timeout", "`shutdown` under [timeouts] of roundsman.toml"),
    ("root", "files are not served here: let the app do it, or keep nginx for them"),
    ("alias", "files are not served here: let the app do it, or keep nginx for them"),
    ("index", "files are not served here: let the app do it, or keep nginx for them"),
    ("try_files", "files are not served here: let the app do it, or keep nginx for them"),
    ("gzip", "responses are passed on as they are: compress in the app"),
    ("rewrite", "paths are passed on as they are: rewrite in the app"),
];

impl Reader {
    fn top(&mut self, directives: &[Directive]) {
        // Upstreams first: a server may name one that comes after it.
        for directive in directives.iter().filter(|directive| directive.name == "upstream") {
            self.upstream(directive);
        }
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.top(&directive.block),
                "server" => self.server(directive),
                "upstream" => {}
                _ => self.other(directive),
            }
        }
    }

    fn note(&mut self, directive: &Directive, text: impl Into<String>) {
        self.import.note(format!("{}: {}", directive.at, directive.name), text);
    }

    fn other(&mut self, directive: &Directive) {
        let name = directive.name.as_str();
        if NEEDS_NOTHING.contains(&name) && name != "include" {
            return;
        }
        // What every WebSocket needs there: here upgrades pass.
        if name == "map" && directive.arguments.first().is_some_and(|on| on == "$http_upgrade") {
            return;
        }
        if let Some((_, text)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
            self.note(directive, *text);
        } else if name == "include" {
            let what = directive.arguments.join(" ");
            if !what.ends_with("mime.types") {
                self.note(directive, format!("there is no file {what}"));
            }
        } else if name == "proxy_set_header" {
            self.header(directive);
        } else if matches!(name, "ssl_certificate" | "ssl_certificate_key") {
            self.note(
                directive,
                "`certificates` under [listen.https] of roundsman.toml names both, readable by the user roundsman",
            );
        } else if name.starts_with("ssl_") {
            self.note(
                directive,
                "[listen.https] of roundsman.toml has what there is to set for TLS",
            );
        } else if name == "add_header" && is_hsts(directive) {
            self.note(directive, "`hsts = \"365d\"` in the route");
        } else if name.starts_with("gzip") {
            self.note(directive, "responses are passed on as they are: compress in the app");
        } else {
            self.note(directive, "has no counterpart");
        }
    }

    /// Fields that the front sets itself are no loss.
    fn header(&mut self, directive: &Directive) {
        let name = directive.arguments.first().map(|name| name.to_lowercase()).unwrap_or_default();
        let value = directive.arguments.get(1).map_or("", String::as_str);
        let own = match name.as_str() {
            "host" => matches!(value, "$host" | "$http_host"),
            "upgrade" | "connection" | "x-forwarded-for" | "x-forwarded-proto"
            | "x-forwarded-host" | "x-forwarded-port" | "forwarded" => true,
            _ => false,
        };
        if own {
            return;
        }
        let text = match name.as_str() {
            "x-real-ip" => {
                "is not set; the client's address is in X-Forwarded-For and Forwarded".to_owned()
            }
            "host" => format!("the client's Host is passed on, not {value}"),
            _ => format!("the field {name} is not added; let the app do without, or add it there"),
        };
        self.note(directive, text);
    }

    // === upstreams ===

    fn upstream(&mut self, directive: &Directive) {
        let Some(given) = directive.arguments.first() else {
            self.note(directive, "has no name, and was left out");
            return;
        };
        let name = self.name(given);
        self.names.insert(given.clone(), name.clone());
        let mut upstream =
            Upstream { at: format!("{}: upstream", directive.at), ..Upstream::default() };
        let mut balance = None;
        for inner in &directive.block {
            let arguments: Vec<&str> = inner.arguments.iter().map(String::as_str).collect();
            match (inner.name.as_str(), arguments.as_slice()) {
                ("server", _) => self.add_server(inner, &mut upstream),
                ("ip_hash", _) => balance = Some("ip-hash"),
                ("least_conn", _) => balance = Some("least-connections"),
                ("random", _) => {
                    balance = Some("peak-ewma");
                    self.note(
                        inner,
                        "is \"peak-ewma\": the better of two drawn at random, by latency and load",
                    );
                }
                ("hash", [key, rest @ ..]) => {
                    balance = Some("hash");
                    let method = if rest.contains(&"consistent") { "ketama" } else { "modulo" };
                    if let Some(on) = hash_key(key) {
                        let on = quoted(&on);
                        upstream.tables.push(format!("[hash]\non = {on}\nmethod = \"{method}\"\n"));
                    } else {
                        balance = None;
                        self.note(
                            inner,
                            format!(
                                "{key} cannot be hashed on: client-address, header:NAME, cookie:NAME \
                                 and path can"
                            ),
                        );
                    }
                }
                ("sticky", [what, cookie, ..]) if *what == "cookie" => {
                    upstream.tables.push(format!("[sticky]\ncookie = {}\n", quoted(cookie)));
                }
                _ => self.other(inner),
            }
        }
        // nginx's default is smooth weighted round-robin; without weights that is in turn.
        let balance = balance.or(upstream.weighted.then_some("weighted-round-robin"));
        if let Some(balance) = balance {
            upstream.options.push(format!("balance = \"{balance}\""));
        }
        self.upstreams.insert(name, upstream);
    }

    /// A name that fits and is not there yet.
    fn name(&self, given: &str) -> String {
        let base = infer::app_name(given).unwrap_or_else(|| "upstream".to_owned());
        let mut name = base.clone();
        let mut n = 2;
        while self.upstreams.contains_key(&name) {
            name = format!("{base}-{n}");
            n += 1;
        }
        name
    }

    fn add_server(&mut self, directive: &Directive, upstream: &mut Upstream) {
        let Some((address, options)) = directive.arguments.split_first() else { return };
        let Some(address) = self.address(directive, address) else { return };
        let mut text = format!("{{ address = {}", quoted(&address));
        for option in options {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let _ = match key {
                "weight" => {
                    upstream.weighted = true;
                    write!(text, ", weight = {value}")
                }
                "backup" => write!(text, ", backup = true"),
                "down" => write!(text, ", down = true"),
                "max_conns" if value == "0" => Ok(()),
                "max_conns" => write!(text, ", max-connections = {value}"),
                "slow_start" => write!(text, ", slow-start = {}", quoted(value)),
                "max_fails" | "fail_timeout" => {
                    self.note(
                        directive,
                        format!(
                            "{option}: `{}` under [passive] of the upstream, for all its servers",
                            key.replace('_', "-")
                        ),
                    );
                    Ok(())
                }
                _ => {
                    self.note(directive, format!("{option} has no counterpart"));
                    Ok(())
                }
            };
        }
        text.push_str(" }");
        upstream.servers.push(text);
    }

    /// `127.0.0.1:3000`, `unix:/run/x.sock`; names are looked up by the front.
    fn address(&mut self, directive: &Directive, text: &str) -> Option<String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Some(format!("unix:{}", path.trim_end_matches(':')));
        }
        let with_port =
            if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                text.to_owned()
            } else {
                format!("{text}:80")
            };
        if let Ok(address) = with_port.parse::<SocketAddr>() {
            return Some(address.to_string());
        }
        if let Some(port) = with_port.strip_prefix("localhost:") {
            return Some(format!("127.0.0.1:{port}"));
        }
        let host = with_port.rsplit_once(':').map_or("", |(host, _)| host);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if host.is_empty() || !host.chars().all(allowed) {
            self.note(directive, format!("{text} is no address; the server was left out"));
            return None;
        }
        if host == text && !host.contains('.') {
            self.note(directive, format!("{text} is no upstream of these files and was left out; if the name is to be looked up, write \"dns:{with_port}\""));
            return None;
        }
        Some(format!("dns:{with_port}"))
    }

    // === servers and locations ===

    fn server(&mut self, directive: &Directive) {
        let mut hosts: Vec<Option<String>> = Vec::new();
        for inner in directive.block.iter().filter(|inner| inner.name == "server_name") {
            for name in &inner.arguments {
                match name.to_lowercase().as_str() {
                    "_" | "" => hosts.push(None),
                    name if name.starts_with('~') || name.ends_with(".*") => {
                        self.note(inner, format!("{name}: a host is a name or *.name, no pattern"));
                    }
                    name => match name.strip_prefix('.') {
                        Some(domain) => {
                            hosts.extend([Some(domain.to_owned()), Some(format!("*.{domain}"))]);
                        }
                        None => hosts.push(Some(name.to_owned())),
                    },
                }
            }
        }
        if hosts.is_empty() {
            hosts.push(None);
        }
        for inner in &directive.block {
            match inner.name.as_str() {
                "server_name" => {}
                "listen" => self.listen(inner),
                "location" => self.location(inner, &hosts),
                "return" if inner.arguments.iter().any(|word| word.starts_with("https://")) => {
                    self.note(inner, "`redirect-https = true` in the routes of these hosts");
                }
                _ => self.other(inner),
            }
        }
    }

    fn listen(&mut self, directive: &Directive) {
        let Some((address, options)) = directive.arguments.split_first() else { return };
        let port = address.rsplit(':').next().unwrap_or(address);
        if options.iter().any(|option| option == "ssl") || port == "443" {
            self.note(directive, "roundsman-https.socket listens on port 443: systemctl enable --now roundsman-https.socket");
        } else if port != "80" {
            self.note(directive, format!("roundsman-http.socket listens on port 80; systemctl edit it for {address}: [Socket], ListenStream={address}"));
        }
    }

    fn location(&mut self, directive: &Directive, hosts: &[Option<String>]) {
        let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
        let path = match arguments.as_slice() {
            [path] | ["^~", path] => *path,
            ["=", path] => {
                self.note(
                    directive,
                    format!("= {path}: the path and all below it, not only itself"),
                );
                *path
            }
            _ => {
                self.note(
                    directive,
                    format!(
                        "{}: paths are prefixes here, not patterns; the location was left out",
                        arguments.join(" ")
                    ),
                );
                return;
            }
        };
        if !path.starts_with('/') {
            self.note(directive, format!("{path} is no path, and was left out"));
            return;
        }
        let mut passes = false;
        for inner in &directive.block {
            match (inner.name.as_str(), inner.arguments.first()) {
                ("proxy_pass", Some(to)) => {
                    passes = true;
                    if let Some(name) = self.target(inner, to) {
                        self.route(inner, &name, path, hosts);
                    }
                }
                ("location", _) => self.location(inner, hosts),
                _ => self.other(inner),
            }
        }
        if !passes {
            self.note(directive, format!("{path} passes nothing on, and was left out"));
        }
    }

    /// The upstream that `proxy_pass` means, made for it where it is an address.
    fn target(&mut self, directive: &Directive, to: &str) -> Option<String> {
        if to.contains('$') {
            self.note(directive, format!("{to} has variables; the location was left out"));
            return None;
        }
        let Some(rest) = to.strip_prefix("http://") else {
            self.note(
                directive,
                format!(
                    "{to}: servers are reached over plain HTTP only; the location was left out"
                ),
            );
            return None;
        };
        let (host, uri) = match rest.strip_prefix("unix:") {
            Some(path) => {
                let (path, uri) = path.split_once(':').unwrap_or((path, ""));
                (format!("unix:{path}"), uri.to_owned())
            }
            None => match rest.find('/') {
                Some(slash) => (rest[..slash].to_owned(), rest[slash..].to_owned()),
                None => (rest.to_owned(), String::new()),
            },
        };
        if !uri.is_empty() {
            self.note(directive, format!("{to}: nginx replaces the location's path by {uri}; here paths are passed on as they are"));
        }
        if let Some(name) = self.names.get(&host) {
            return Some(name.clone());
        }
        let address = self.address(directive, &host)?;
        let name = self.name(address.trim_start_matches("unix:/").trim_start_matches("127.0.0.1:"));
        let at = format!("{}: {}", directive.at, directive.name);
        let servers = vec![format!("{{ address = {} }}", quoted(&address))];
        self.names.insert(host, name.clone());
        self.upstreams.insert(name.clone(), Upstream { at, servers, ..Upstream::default() });
        Some(name)
    }

    fn route(&mut self, directive: &Directive, name: &str, path: &str, hosts: &[Option<String>]) {
        // `/api/` and `/api` are one prefix here, on the borders of segments.
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        for host in hosts {
            if !self.taken.insert((host.clone(), path.to_owned())) {
                let host = host.as_deref().unwrap_or("every host");
                self.note(directive, format!("{host} {path} has an answer already (HTTP and HTTPS are one here); this one was left out"));
                continue;
            }
            let mut route = String::from("{ ");
            if let Some(host) = host {
                let _ = write!(route, "host = {}, ", quoted(host));
            }
            let _ = write!(route, "path = {} }}", quoted(path));
            if let Some(upstream) = self.upstreams.get_mut(name) {
                upstream.routes.push(route);
            }
        }
    }
}

fn is_hsts(directive: &Directive) -> bool {
    let field = directive.arguments.first();
    field.is_some_and(|name| name.eq_ignore_ascii_case("Strict-Transport-Security"))
}

/// nginx's variable as a key of ours.
fn hash_key(key: &str) -> Option<String> {
    Some(match key {
        "$remote_addr" | "$binary_remote_addr" => "client-address".to_owned(),
        "$uri" | "$request_uri" | "$document_uri" => "path".to_owned(),
        _ => match (key.strip_prefix("$cookie_"), key.strip_prefix("$http_")) {
            (Some(cookie), _) => format!("cookie:{cookie}"),
            (_, Some(header)) => format!("header:{}", header.replace('_', "-")),
            _ => return None,
        },
    })
}

impl Upstream {
    fn text(&self) -> String {
        let list = |items: &[String]| match items {
            [one] => format!("[{one}]"),
            many => format!("[\n    {},\n]", many.join(",\n    ")),
        };
        let mut text =
            format!("servers = {}\nroute = {}\n", list(&self.servers), list(&self.routes));
        for option in &self.options {
            let _ = writeln!(text, "{option}");
        }
        for table in &self.tables {
            let _ = write!(text, "\n{table}");
        }
        text
    }
}
