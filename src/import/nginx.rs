//! nginx's configuration: upstreams, servers and locations to upstream files with their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::nginx_reader::{Reader, Upstream};
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
    };
    reader.top(directives);
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

    /// Says what there is to say of a directive that comes to no file.
    pub(super) fn other(&mut self, directive: &Directive) {
        if let Some(text) = nginx_rest::remark(directive) {
            self.note(directive, text);
        }
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
