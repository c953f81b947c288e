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
                ("sticky", [what, cookie, options @ ..]) if *what == "cookie" => {
                    let table = self.sticky(inner, cookie, options);
                    upstream.tables.push(table);
                }
                ("include", [file, ..]) => self.lost(inner, format!("there is no file {file}: its servers are missing")),
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

    /// The table of a cookie that pins clients; ours is for `/`, and no script sees it.
    fn sticky(&mut self, directive: &Directive, cookie: &str, options: &[&str]) -> String {
        let mut table = format!("[sticky]\ncookie = {}\n", quoted(cookie));
        for option in options {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match (key, milliseconds(value)) {
                ("expires", Some(time)) if time > 0 => {
                    let _ = writeln!(table, "max-age = {}", quoted(&duration(time)));
                }
                ("secure", _) => table.push_str("secure = true\n"),
                ("httponly", _) => {}
                ("path", _) if value == "/" => {}
                _ => self.lost(directive, format!("the cookie does not get {option}")),
            }
        }
        table
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
                "slow_start" => {
                    let time = quoted(&duration(milliseconds(value).unwrap_or_default()));
                    write!(text, ", slow-start = {time}")
                }
                // All servers together; names are looked up again and again.
                "max_fails" | "fail_timeout" | "resolve" => Ok(()),
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
        let timeout = value("fail_timeout").and_then(milliseconds);
        let most = value("max_fails").and_then(|number| number.parse().ok()).unwrap_or(1);
        // For no time is never, as Puma's and Unicorn's example means it.
        Self { most: if timeout == Some(0) { 0 } else { most }, timeout }
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

#[cfg(test)]
mod tests {
    use super::super::outcomes::{said, tried};

    /// The file of `upstream u`, and what is said.
    fn upstream(block: &str) -> (String, String) {
        let import = tried(&format!(
            "upstream u {{ {block} }} server {{ server_name a; location / {{ proxy_pass http://u; }} }}"
        ));
        let file = import.files.iter().find(|file| file.path == "upstreams/u.toml");
        (file.map(|file| file.text.clone()).unwrap_or_default(), said(&import))
    }

    #[test]
    fn servers_keep_what_is_said_of_each() {
        for (server, line) in [
            ("10.0.0.1", "{ address = \"10.0.0.1:80\" }"),
            ("10.0.0.1:1 weight=3", "{ address = \"10.0.0.1:1\", weight = 3 }"),
            ("10.0.0.1:1 backup", "{ address = \"10.0.0.1:1\", backup = true }"),
            ("10.0.0.1:1 down", "{ address = \"10.0.0.1:1\", down = true }"),
            ("10.0.0.1:1 max_conns=7", "{ address = \"10.0.0.1:1\", max-connections = 7 }"),
            ("10.0.0.1:1 max_conns=0", "{ address = \"10.0.0.1:1\" }"),
            ("[::1]:1", "{ address = \"[::1]:1\" }"),
            ("unix:/run/x.sock", "{ address = \"unix:/run/x.sock\" }"),
            ("app.example", "{ address = \"dns:app.example:80\" }"),
            ("app:3000", "{ address = \"dns:app:3000\" }"),
            ("localhost", "{ address = \"dns:localhost:80\" }"),
        ] {
            let (file, said) = upstream(&format!("server {server};"));
            assert!(file.starts_with(&format!("servers = [{line}]\n")), "{server}: {file}");
            assert!(!said.contains("upstream.server") && !said.contains("left out"), "{said}");
        }
        for (server, told) in [
            (
                "unix:run/x.sock",
                "unix:run/x.sock: the path of a socket must be absolute; the server was left out",
            ),
            (
                "app",
                "app is no upstream of these files and was left out; if the name is to be looked up, write \"dns:app:80\"",
            ),
            ("a%b:80", "a%b:80 is no address; the server was left out"),
            (":80", ":80 is no address; the server was left out"),
            ("10.0.0.1:1 route=a", "route=a has no counterpart"),
        ] {
            let (file, said) = upstream(&format!("server 10.0.0.9:9; server {server};"));
            assert!(file.contains("10.0.0.9:9"), "{file}");
            assert!(
                said.contains(&format!("lost: nginx.conf:1: server: {told}")),
                "{server}: {said}"
            );
        }
        let (file, said) = upstream("");
        assert!(
            file.is_empty() && said.contains("/ is CLOSED (404): the upstream \"u\" has no server"),
            "{said}"
        );
        assert!(
            said.contains(
                "nginx.conf:1: upstream: the upstream \"u\" has no server that can be used"
            ),
            "{said}"
        );
    }

    #[test]
    fn balancing_is_that_of_nginx_or_named() {
        let two = "server 10.0.0.1:1; server 10.0.0.2:1;";
        for (block, lines, told) in [
            ("", "", ""),
            ("ip_hash;", "balance = \"ip-hash\"\n", ""),
            ("least_conn;", "balance = \"least-connections\"\n", ""),
            (
                "random two;",
                "balance = \"peak-ewma\"\n",
                "differs: nginx.conf:1: random: is \"peak-ewma\"",
            ),
            ("server 10.0.0.3:1 weight=2;", "balance = \"weighted-round-robin\"\n", ""),
            ("server 10.0.0.3:1 weight=2; ip_hash;", "balance = \"ip-hash\"\n", ""),
            (
                "hash $remote_addr;",
                "balance = \"hash\"\n\n[hash]\non = \"client-address\"\nmethod = \"modulo\"\n",
                "",
            ),
            ("hash $binary_remote_addr;", "on = \"client-address\"\n", ""),
            ("hash $request_uri consistent;", "on = \"path\"\nmethod = \"ketama\"\n", ""),
            ("hash $uri;", "on = \"path\"\n", ""),
            ("hash $cookie_id;", "on = \"cookie:id\"\n", ""),
            ("hash $http_x_user_id;", "on = \"header:x-user-id\"\n", ""),
            (
                "hash $server_port;",
                "",
                "lost: nginx.conf:1: hash: $server_port cannot be hashed on",
            ),
            ("sticky cookie id;", "\n[sticky]\ncookie = \"id\"\n", ""),
            ("sticky route $x;", "", "lost: nginx.conf:1: sticky: has no counterpart"),
            (
                "sticky cookie id expires=0;",
                "cookie = \"id\"\n",
                "the cookie does not get expires=0",
            ),
            ("sticky cookie id path=/x;", "cookie = \"id\"\n", "the cookie does not get path=/x"),
            ("keepalive 8; zone u 64k;", "", ""),
            (
                "keepalive_timeout 60s;",
                "",
                "differs: nginx.conf:1: keepalive_timeout: `upstream-idle`",
            ),
            (
                "include gone.conf;",
                "",
                "lost: nginx.conf:1: include: there is no file gone.conf: its servers",
            ),
        ] {
            let (file, said) = upstream(&format!("{two} {block}"));
            assert!(file.contains("route = [{ host = \"a\", path = \"/\" }]\n"), "{file}");
            assert!(file.contains(lines), "{block}: {file}");
            assert_eq!(
                file.contains("balance"),
                lines.contains("balance") || lines.starts_with("on"),
                "{file}"
            );
            assert!(said.contains(told), "{block}: {said}");
            assert!(!said.contains("OPEN"), "{block}: {said}");
        }
    }

    #[test]
    fn failures_are_counted_as_all_servers_say() {
        for (one, other, table) in [
            ("", "", ""),
            ("max_fails=1", "", ""),
            ("max_fails=5", "max_fails=5", "[passive]\nmax-fails = 5\n"),
            ("max_fails=5000", "max_fails=5000", "[passive]\nmax-fails = 1000\n"),
            (
                "max_fails=5 fail_timeout=30s",
                "fail_timeout=30s max_fails=5",
                "[passive]\nmax-fails = 5\nfail-window = \"30s\"\nfail-timeout = \"30s\"\n",
            ),
            (
                "fail_timeout=5s",
                "fail_timeout=5s",
                "[passive]\nmax-fails = 1\nfail-window = \"5s\"\nfail-timeout = \"5s\"\n",
            ),
            ("max_fails=0", "max_fails=0", "[passive]\nmax-fails = 0\nerror-rate = 0\n"),
            ("fail_timeout=0", "fail_timeout=0s", "[passive]\nmax-fails = 0\nerror-rate = 0\n"),
            ("max_fails=5", "max_fails=6", "differ"),
            ("max_fails=5", "", "differ"),
        ] {
            let (file, said) =
                upstream(&format!("server 10.0.0.1:1 {one}; server 10.0.0.2:1 {other};"));
            let is_told = said.contains("max_fails and fail_timeout differ between its servers");
            assert_eq!(is_told, table == "differ", "{one} {other}: {said}");
            assert_eq!(file.contains("[passive]"), table.starts_with('['), "{file}");
            assert!(is_told || file.ends_with(table), "{one} {other}: {file}");
        }
    }

    #[test]
    fn names_that_are_there_already_get_a_number() {
        let import = tried(
            "upstream a.b { server 10.0.0.1:1; } upstream a-b { server 10.0.0.2:1; } upstream A_B { server 10.0.0.3:1; }
             upstream a-B { server 10.0.0.4:1; }
             server { server_name a; location /1/ { proxy_pass http://a.b; } location /2/ { proxy_pass http://a-b; }
               location /3/ { proxy_pass http://A_B; } location /4/ { proxy_pass http://a-B; } }",
        );
        let names = super::super::outcomes::routes(&import);
        assert_eq!(names, "a/1 a-b, a/2 a-b-2, a/3 a_b, a/4 a-b-3");
    }
}
