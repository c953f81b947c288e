//! nginx's `upstream` blocks, and the file that each comes to.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::super::{duration, quoted};
use super::reader::{Reader, Upstream};
use super::syntax::Directive;
use super::values::milliseconds;
use crate::base::paths;
use crate::start::infer;

impl Upstream {
    /// Its file.
    pub(super) fn text(&self) -> String {
        let list = |items: &[String]| match items {
            [] => "[]".to_owned(),
            [one] => format!("[{one}]"),
            many => format!("[\n    {},\n]", many.join(",\n    ")),
        };
        let mut text = format!("servers = {}\n", list(&self.servers));
        for route in &self.closed {
            let _ = writeln!(text, "# Closed, see closed.toml: {route}");
        }
        let _ = writeln!(text, "route = {}", list(&self.routes));
        if self.is_grpc == Some(true) {
            text.push_str("protocol = \"h2c\"\n");
        }
        for option in &self.options {
            let _ = writeln!(text, "{option}");
        }
        for table in &self.tables {
            let _ = write!(text, "\n{table}");
        }
        text
    }
}

impl Reader {
    pub(super) fn upstream(&mut self, directive: &Directive) {
        let Some(given) = directive.arguments.first() else {
            self.lost(directive, "has no name, and was left out");
            return;
        };
        let name = self.name(given);
        self.names.insert(given.clone(), name.clone());
        let mut upstream =
            Upstream { at: format!("{}: upstream", directive.at), ..Upstream::default() };
        let mut balance = None;
        let mut fails = Vec::new();
        for inner in &directive.block {
            let arguments: Vec<&str> = inner.arguments.iter().map(String::as_str).collect();
            match (inner.name.as_str(), arguments.as_slice()) {
                ("server", _) => {
                    fails.push(Fails::of(inner));
                    self.add_server(inner, &mut upstream);
                }
                ("ip_hash", _) => balance = Some("ip-hash"),
                ("least_conn", _) => balance = Some("least-connections"),
                ("random", _) => {
                    balance = Some("peak-ewma");
                    self.differs(
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
                        self.lost(
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
                ("keepalive_timeout", _) => self.differs(inner, "`upstream-idle` under [timeouts] of roundsman.toml, 4 s without it: shorter than the server's own limit"),
                _ => self.other(inner),
            }
        }
        self.passive(directive, &fails, &mut upstream);
        // nginx's default is smooth weighted round-robin; without weights that is in turn.
        let balance = balance.or(upstream.weighted.then_some("weighted-round-robin"));
        if let Some(balance) = balance {
            upstream.options.push(format!("balance = \"{balance}\""));
        }
        self.upstreams.insert(name, upstream);
    }

    /// A name that fits and is not there yet.
    pub(super) fn name(&mut self, given: &str) -> String {
        let base = infer::app_name(given).unwrap_or_else(|| "upstream".to_owned());
        let mut name = base.clone();
        let next = self.numbers.entry(base.clone()).or_insert(2_usize);
        while self.upstreams.contains_key(&name) {
            name = format!("{base}-{next}");
            *next += 1;
        }
        name
    }

    /// When servers are left alone, if all say the same.
    fn passive(&mut self, directive: &Directive, fails: &[Fails], upstream: &mut Upstream) {
        let Some(first) = fails.iter().find(|one| **one != Fails::default()) else { return };
        if fails.iter().any(|one| one != first) {
            self.differs(directive, "max_fails and fail_timeout differ between its servers; `max-fails`, `fail-window` and `fail-timeout` under [passive] go for all: 3 failures in 10 s without them");
            return;
        }
        let mut table = format!("[passive]\nmax-fails = {}\n", first.most.min(1000));
        if let Some(time) = first.timeout.filter(|time| *time > 0) {
            let time = quoted(&duration(time));
            let _ = write!(table, "fail-window = {time}\nfail-timeout = {time}\n");
        }
        if first.most == 0 {
            table.push_str("error-rate = 0\n");
        }
        upstream.tables.push(table);
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
                "max_fails" | "fail_timeout" => Ok(()), // all servers together
                _ => {
                    self.lost(directive, format!("{option} has no counterpart"));
                    Ok(())
                }
            };
        }
        text.push_str(" }");
        upstream.servers.push(text);
    }

    /// `127.0.0.1:3000`, `unix:/run/x.sock`; names are looked up by the front.
    pub(super) fn address(&mut self, directive: &Directive, text: &str) -> Option<String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.trim_end_matches(':');
            if !path.starts_with('/') {
                self.lost(
                    directive,
                    format!(
                        "{text}: the path of a socket must be absolute; the server was left out"
                    ),
                );
                return None;
            }
            if is_own_socket(Path::new(path)) {
                self.lost(
                    directive,
                    format!("{path} is a socket of Roundsman's own, where no request may go; the server was left out"),
                );
                return None;
            }
            return Some(format!("unix:{path}"));
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
        let host = with_port.rsplit_once(':').map_or("", |(host, _)| host);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if host.is_empty() || !host.chars().all(allowed) {
            self.lost(directive, format!("{text} is no address; the server was left out"));
            return None;
        }
        // With a port, or with a dot, it is a name; localhost is one in both families.
        if host == text && !host.contains('.') && host != "localhost" {
            self.lost(directive, format!("{text} is no upstream of these files and was left out; if the name is to be looked up, write \"dns:{with_port}\""));
            return None;
        }
        Some(format!("dns:{with_port}"))
    }
}

/// Whether Roundsman itself is asked there, and no app.
fn is_own_socket(path: &Path) -> bool {
    let path: PathBuf = path.components().collect();
    let path = path.strip_prefix("/var").map_or(path.clone(), |rest| Path::new("/").join(rest));
    Path::new(paths::ADMIN_SOCKET).parent().is_some_and(|own| path.starts_with(own))
}

/// `max_fails` and `fail_timeout` of a server.
#[derive(Debug, PartialEq, Eq)]
struct Fails {
    most: u64,
    timeout: Option<u64>,
}

impl Default for Fails {
    fn default() -> Self {
        Self { most: 1, timeout: None }
    }
}

impl Fails {
    fn of(server: &Directive) -> Self {
        let value = |key: &str| {
            let mut options = server.arguments.iter();
            options.find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
        };
        Self {
            most: value("max_fails").and_then(|number| number.parse().ok()).unwrap_or(1),
            timeout: value("fail_timeout").and_then(milliseconds),
        }
    }
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
