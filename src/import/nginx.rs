//! nginx's configuration: upstreams, servers and locations to upstream files with their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::nginx_closed::{self, Level};
use super::nginx_reader::{Reader, Scope, Site, Upstream};
use super::nginx_syntax::{self, Directive};
use super::{File, Import, ImportError, nginx_rest, quoted};

/// Makes upstream files of `nginx.conf`, a site's file, or a directory of sites.
///
/// # Errors
/// When a file cannot be read or is not in nginx's syntax.
pub fn import(path: &Path) -> Result<Import, ImportError> {
    Ok(import_directives(&nginx_syntax::read(path)?))
}

/// The same of a text that includes no other file.
#[cfg(any(test, fuzzing))]
pub(crate) fn import_text(text: &str) -> Result<Import, ImportError> {
    Ok(import_directives(&nginx_syntax::parse(text, "nginx.conf")?))
}

fn import_directives(directives: &[Directive]) -> Import {
    let mut reader = Reader {
        import: Import::default(),
        upstreams: BTreeMap::new(),
        names: BTreeMap::new(),
        taken: BTreeSet::new(),
        plain: BTreeSet::new(),
        closed: None,
    };
    reader.plain_hosts(directives);
    reader.top(directives, &Scope::default());
    let Reader { mut import, upstreams, .. } = reader;
    for (name, upstream) in upstreams {
        if upstream.servers.is_empty() {
            import.note(
                upstream.at,
                format!("the upstream \"{name}\" has no server that can be used, and was left out"),
            );
        } else if upstream.routes.is_empty() && upstream.closed.is_empty() {
            import.note(
                upstream.at,
                format!("no location passes to the upstream \"{name}\", and it was left out"),
            );
        } else {
            import.files.push(File {
                path: format!("upstreams/{name}.toml"),
                text: upstream.text(),
                secret: false,
            });
        }
    }
    import
}

impl Reader {
    fn top(&mut self, directives: &[Directive], outer: &Scope) {
        let scope = outer.within(directives, Level::Above);
        // Upstreams first: a server may name one that comes after it.
        for directive in directives.iter().filter(|directive| directive.name == "upstream") {
            self.upstream(directive);
        }
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.top(&directive.block, &scope),
                "server" => self.server(directive, &scope),
                "upstream" => {}
                _ => self.other(directive),
            }
        }
    }

    /// Says what there is to say of a directive that comes to no file.
    pub(super) fn other(&mut self, directive: &Directive) {
        if nginx_closed::for_some(directive) {
            let rule = format!("{} {}", directive.name, directive.arguments.join(" "));
            self.unprotected(
                directive,
                format!("`{rule}` turns some requests away, and nothing here does it"),
            );
        } else if let Some(text) = nginx_rest::remark(directive) {
            self.note(directive, text);
        }
    }

    // === servers and locations ===

    /// Looks for the hosts that are served over plain HTTP, before any route is written.
    fn plain_hosts(&mut self, directives: &[Directive]) {
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.plain_hosts(&directive.block),
                "server" if is_plain(directive) && passes_on(&directive.block) => {
                    let (hosts, _) = hosts(directive);
                    self.plain.extend(hosts);
                }
                _ => {}
            }
        }
    }

    fn server(&mut self, directive: &Directive, outer: &Scope) {
        let (hosts, patterns) = hosts(directive);
        for (inner, name) in patterns {
            self.note(inner, format!("{name}: a host is a name or *.name, no pattern"));
        }
        if hosts.is_empty() {
            self.note(directive, "it has no name that can be written, and was left out");
            return;
        }
        let scope = outer.within(&directive.block, Level::Above);
        let site = Site {
            hosts,
            is_plain: is_plain(directive),
            locations: directive.block.iter().filter(|inner| inner.name == "location").collect(),
        };
        for inner in &directive.block {
            match inner.name.as_str() {
                "server_name" => {}
                "listen" => self.listen(inner),
                "location" => self.location(inner, &site, &scope),
                "return" if inner.arguments.iter().any(|word| word.starts_with("https://")) => {
                    self.note(
                        inner,
                        "a host that has HTTPS only gets `redirect-https = true` in its routes",
                    );
                }
                _ => self.other(inner),
            }
        }
    }

    fn listen(&mut self, directive: &Directive) {
        let Some((address, options)) = directive.arguments.split_first() else { return };
        let port = address.rsplit(':').next().unwrap_or(address);
        if options.iter().any(|option| option == "ssl") || port == "443" {
            self.note(directive, "roundsman-https.socket listens on port 443: systemctl enable roundsman-https.socket && systemctl restart roundsman-https.socket");
        } else if port != "80" {
            self.note(directive, format!("roundsman-http.socket listens on port 80; systemctl edit it for {address}: [Socket], ListenStream={address}"));
        }
    }

    fn location(&mut self, directive: &Directive, site: &Site<'_>, outer: &Scope) {
        let scope = outer.within(&directive.block, Level::Location);
        let closed = scope.protection.reason();
        let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
        let path = match arguments.as_slice() {
            [name] if name.starts_with('@') => return, // where another location sends to
            ["=", "/"] => {
                self.left_out(
                    directive,
                    closed,
                    "= /: only the path itself, and here it would be everything below it, too",
                );
                return;
            }
            ["=", path] => {
                self.note(
                    directive,
                    format!("= {path}: the path and all below it, not only itself"),
                );
                *path
            }
            [path] | ["^~", path] => *path,
            _ => {
                let pattern = arguments.join(" ");
                self.left_out(
                    directive,
                    closed,
                    &format!("{pattern}: paths are prefixes here, not patterns"),
                );
                return;
            }
        };
        if !path.starts_with('/') {
            self.left_out(directive, closed, &format!("{path} is no path"));
            return;
        }
        let is_closed = closed.is_some();
        let mut passes = self.pass(directive, path, site, &scope, is_closed);
        if !passes && let Some(named) = fallback(directive, site) {
            let scope = scope.within(&named.block, Level::Location);
            passes = self.pass(named, path, site, &scope, is_closed);
        }
        if let Some(rules) = closed {
            self.note(directive, format!("{path} is CLOSED (503): {rules} cannot be carried over. Let the app do it, or keep nginx for it, and move the route to its upstream then"));
            let name = self.closed_upstream(directive);
            self.route(directive, &name, path, site);
            passes = true;
        }
        for inner in &directive.block {
            match inner.name.as_str() {
                "proxy_pass" | "grpc_pass" => {}
                "location" => self.location(inner, site, &scope),
                name if is_closed && nginx_closed::is_rule(name) => {}
                _ => self.other(inner),
            }
        }
        if !passes {
            self.note(directive, format!("{path} passes nothing on, and was left out"));
        }
    }

    /// A location without a route. What it protects would be open now.
    fn left_out(&mut self, directive: &Directive, closed: Option<String>, why: &str) {
        match closed {
            None => self.note(directive, format!("{why}; the location was left out")),
            Some(rules) => {
                self.unprotected(directive, format!("{why}; {rules} keeps somebody out there"));
            }
        }
    }

    /// Writes the route to what a location passes to, if it does.
    fn pass(
        &mut self,
        location: &Directive,
        path: &str,
        site: &Site<'_>,
        scope: &Scope,
        is_closed: bool,
    ) -> bool {
        let mut passes = false;
        for inner in &location.block {
            let is_grpc = inner.name == "grpc_pass";
            let (true, Some(to)) = (is_grpc || inner.name == "proxy_pass", inner.arguments.first())
            else {
                continue;
            };
            passes = true;
            let Some(name) = self.target(inner, to) else { continue };
            if is_grpc && let Some(upstream) = self.upstreams.get_mut(&name) {
                let h2c = "protocol = \"h2c\"".to_owned();
                if !upstream.options.contains(&h2c) {
                    upstream.options.push(h2c);
                }
            } else if !scope.keeps_host {
                self.note(
                    inner,
                    format!("nginx sends the Host of {to}; here the app sees the client's"),
                );
            }
            if is_closed {
                let routes =
                    site.hosts.iter().map(|host| self.route_text(host.as_ref(), path, site));
                let routes: Vec<String> = routes.collect();
                if let Some(upstream) = self.upstreams.get_mut(&name) {
                    upstream.closed.extend(routes);
                }
                continue;
            }
            let bare = path.trim_end_matches('/');
            if path.ends_with('/') && !bare.is_empty() {
                self.note(
                    location,
                    format!("nginx redirects {bare} to {path}; here it is passed on, too"),
                );
            } else if !bare.is_empty() {
                self.note(location, format!("a path that only begins with the same letters, as {bare}x, is another one here"));
            }
            self.route(inner, &name, path, site);
        }
        passes
    }

    /// The upstream that nobody answers for.
    fn closed_upstream(&mut self, directive: &Directive) -> String {
        if let Some(name) = &self.closed {
            return name.clone();
        }
        let name = self.name("closed");
        let upstream = Upstream {
            at: format!("{}: {}", directive.at, directive.name),
            options: vec!["queue = 0".to_owned()],
            servers: vec!["{ address = \"127.0.0.1:9\", down = true }".to_owned()],
            ..Upstream::default()
        };
        self.upstreams.insert(name.clone(), upstream);
        self.closed = Some(name.clone());
        name
    }

    /// The upstream that `proxy_pass` means, made for it where it is an address.
    fn target(&mut self, directive: &Directive, to: &str) -> Option<String> {
        if to.contains('$') {
            self.note(directive, format!("{to} has variables; the location was left out"));
            return None;
        }
        let Some(rest) = to.strip_prefix("http://").or_else(|| to.strip_prefix("grpc://")) else {
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

    fn route(&mut self, directive: &Directive, name: &str, path: &str, site: &Site<'_>) {
        for host in &site.hosts {
            let text = self.route_text(host.as_ref(), path, site);
            if !self.taken.insert((host.clone(), prefix(path).to_owned())) {
                let host = host.as_deref().unwrap_or("every host");
                self.note(directive, format!("{host} {path} has an answer already (HTTP and HTTPS are one here); this one was left out"));
                continue;
            }
            if let Some(upstream) = self.upstreams.get_mut(name) {
                upstream.routes.push(text);
            }
        }
    }

    fn route_text(&self, host: Option<&String>, path: &str, site: &Site<'_>) -> String {
        let mut route = String::from("{ ");
        if let Some(host) = host {
            let _ = write!(route, "host = {}, ", quoted(host));
        }
        let _ = write!(route, "path = {}", quoted(prefix(path)));
        // nginx has no answer over plain HTTP, or sends to HTTPS.
        if !site.is_plain && !self.plain.contains(&host.cloned()) {
            route.push_str(", redirect-https = true");
        }
        route.push_str(" }");
        route
    }
}

/// `/api/` and `/api` are one prefix here, on the borders of segments.
fn prefix(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// The hosts of a server, and the names that cannot be written.
fn hosts(server: &Directive) -> (Vec<Option<String>>, Vec<(&Directive, &str)>) {
    let (mut hosts, mut patterns) = (Vec::new(), Vec::new());
    for inner in server.block.iter().filter(|inner| inner.name == "server_name") {
        for name in &inner.arguments {
            match name.to_lowercase().as_str() {
                "_" | "" => hosts.push(None),
                lower if lower.starts_with('~') || lower.ends_with(".*") => {
                    patterns.push((inner, name.as_str()));
                }
                lower => match lower.strip_prefix('.') {
                    Some(domain) => {
                        hosts.extend([Some(domain.to_owned()), Some(format!("*.{domain}"))]);
                    }
                    None => hosts.push(Some(lower.to_owned())),
                },
            }
        }
    }
    if hosts.is_empty() && patterns.is_empty() {
        hosts.push(None);
    }
    (hosts, patterns)
}

/// Whether a server listens for plain HTTP, as it does where nothing is said.
fn is_plain(server: &Directive) -> bool {
    let mut listens = server.block.iter().filter(|inner| inner.name == "listen").peekable();
    listens.peek().is_none()
        || listens
            .any(|listen| !listen.arguments.iter().any(|word| word == "ssl" || word == "quic"))
}

/// Whether anything in a block is passed on.
fn passes_on(block: &[Directive]) -> bool {
    block.iter().any(|inner| {
        matches!(inner.name.as_str(), "proxy_pass" | "grpc_pass") || passes_on(&inner.block)
    })
}

/// The named location that gets what `try_files` has not found.
fn fallback<'a>(location: &Directive, site: &Site<'a>) -> Option<&'a Directive> {
    let files = location.block.iter().find(|inner| inner.name == "try_files")?;
    let last = files.arguments.last().filter(|last| last.starts_with('@'))?;
    site.locations.iter().find(|other| other.arguments == [last.as_str()]).copied()
}
