//! nginx's configuration: upstreams, servers and locations to upstream files with their routes.

mod closed;
mod field;
mod front;
mod host;
mod index;
mod location;
#[cfg(test)]
mod outcomes;
mod path;
mod pattern;
mod precedence;
mod reader;
mod redirect;
mod remark;
mod rest;
mod scope;
mod server;
mod site;
mod split;
mod syntax;
mod table;
mod target;
mod upstream;
mod values;

use std::fmt::Write as _;
use std::path::Path;

use self::closed::Protection;
use self::front::Front;
use self::reader::Reader;
use self::scope::Scope;
use self::syntax::Directive;
use self::table::{Routes, Shut, To};
use super::{File, Import, ImportError, Severity};

/// The front's own file, below `/etc/roundsman`.
const FRONT: &str = "roundsman.toml";

/// Where the front's settings go when that file is somebody's already.
const FRONT_BESIDE: &str = "roundsman.toml.d/nginx.toml";

/// Makes upstream files of `nginx.conf`, a site's file, or a directory of sites. `to` is where the files
/// will be.
///
/// # Errors
/// When a file cannot be read or is not in nginx's syntax.
pub fn import(path: &Path, to: &Path) -> Result<Import, ImportError> {
    let is_taken = to.join(FRONT).exists() || to.join("roundsman.toml.d").exists();
    let directives = syntax::read(path)?;
    let front = if is_taken { FRONT_BESIDE } else { FRONT };
    Ok(import_directives(&directives, syntax::prefix(path), front))
}

/// The same of a text that includes no other file.
#[cfg(any(test, fuzzing))]
pub(crate) fn import_text(text: &str) -> Result<Import, ImportError> {
    let directives = syntax::parse(text, "nginx.conf")?;
    Ok(import_directives(&directives, Path::new("/etc/nginx"), FRONT))
}

fn import_directives(directives: &[Directive], prefix: &Path, front_file: &str) -> Import {
    let front = Front::of(directives, prefix);
    let mut reader = Reader::default();
    reader.counts = front.counts_connections();
    reader.around_servers(directives);
    let protection = Protection::none(reader.counts);
    let servers = server::all(directives, &Scope { protection, ..Scope::default() });
    reader.sites(&servers);
    reader.write();
    reader.tell_families();
    reader.tell_always(&front);
    if !reader.import.files.is_empty()
        && let Some(text) = front.text()
    {
        reader.import.files.push(File { path: front_file.to_owned(), text, secret: false });
    }
    reader.import
}

impl Reader {
    /// What stands outside of servers. Upstreams first: a split may name one that comes after it.
    fn around_servers(&mut self, directives: &[Directive]) {
        for name in ["upstream", "split_clients"] {
            for directive in directives.iter().filter(|directive| directive.name == name) {
                match name {
                    "upstream" => self.upstream(directive),
                    _ => self.split_clients(directive),
                }
            }
        }
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.around_servers(&directive.block),
                "server" | "upstream" | "split_clients" => {}
                _ => self.other(directive),
            }
        }
    }

    /// Says what there is to say of a directive that comes to no file.
    fn other(&mut self, directive: &Directive) {
        if closed::is_unknown(directive) {
            let at = format!("{}: include", directive.at);
            let file = directive.arguments.join(" ");
            self.unprotected(
                at,
                format!("there is no file {file}, and whom it keeps out nobody knows"),
            );
        } else if closed::for_some(directive) && !(self.counts && directive.name == "limit_conn") {
            let rule = format!("{} {}", directive.name, directive.arguments.join(" "));
            let at = format!("{}: {}", directive.at, directive.name);
            self.unprotected(
                at,
                format!("`{rule}` turns some requests away, and nothing here does it"),
            );
        } else if let Some(remark) = rest::remark(directive) {
            match remark.family {
                Some(family) => self.say_once(family, remark.severity, directive, &remark.text),
                None => self.say(remark.severity, directive, remark.text),
            }
        }
    }

    /// Makes the files of the upstreams.
    fn write(&mut self) {
        let mut table = std::mem::take(&mut self.table);
        for entry in &mut table.entries {
            if let To::Open(name) = &entry.to
                && self.upstreams.get(name).is_none_or(|upstream| upstream.servers.is_empty())
            {
                let why = format!("the upstream \"{name}\" has no server that can be used");
                entry.to = To::Shut(Shut::unserved(why, None));
            }
        }
        table.settle_precedence(&mut self.import);
        let Routes { open, split, closed, wanted } = table.resolve(&mut self.import);
        for (name, route) in open {
            if let Some(upstream) = self.upstreams.get_mut(&name) {
                upstream.routes.push(route);
            }
        }
        for (name, route) in wanted {
            if let Some(upstream) = self.upstreams.get_mut(&name) {
                upstream.closed.push(route);
            }
        }
        self.write_splits(&split);
        if !closed.is_empty() {
            let name = self.name("closed");
            let upstream = reader::Upstream {
                options: vec!["queue = 0".to_owned()],
                servers: vec!["{ address = \"127.0.0.1:9\", down = true }".to_owned()],
                routes: closed,
                ..reader::Upstream::default()
            };
            self.upstreams.insert(name, upstream);
        }
        for (name, upstream) in std::mem::take(&mut self.upstreams) {
            if upstream.servers.is_empty() {
                let text = format!(
                    "the upstream \"{name}\" has no server that can be used, and was left out"
                );
                self.import.say(Severity::Lost, upstream.at, text);
            } else if upstream.routes.is_empty() && upstream.closed.is_empty() && !upstream.is_used
            {
                let text = format!(
                    "no location that could be written passes HTTP to the upstream \"{name}\", and it was left out"
                );
                self.import.say(Severity::Lost, upstream.at, text);
            } else {
                self.import.files.push(File {
                    path: format!("upstreams/{name}.toml"),
                    text: upstream.text(),
                    secret: false,
                });
            }
        }
    }

    /// What is never as in nginx, whatever is written; said once.
    fn tell_always(&mut self, front: &Front) {
        if self.import.files.is_empty() {
            self.import.say(Severity::Lost, "nginx", "nothing could be carried over: no location passes HTTP on to a server in a way that can be written. Keep nginx for this configuration");
            return;
        }
        let mut text = String::from(
            "what clients send in X-Forwarded-For, -Proto, -Host, -Port, Forwarded and X-Real-IP never reaches the app, unless it comes from `trusted-proxies` of roundsman.toml; the app gets the front's own X-Forwarded-* and Forwarded, whatever proxy_set_header said. A balancer before this machine that ends TLS must be among them, or X-Forwarded-Proto is http",
        );
        let _ = write!(text, ". Fields with _ in their names are passed on, which nginx drops");
        self.import.say(Severity::Differs, "always: proxy_set_header", text);
        self.import.say(Severity::Differs, "always: proxy_redirect", "redirects of the app that name its own address are passed on as they are; nginx translates those that begin with what proxy_pass says");
        self.import.say(Severity::Differs, "always: location", "a path that one server reads as another one does not (%2f, %5c, %00, `..;`) gets 400, unless `pass-ambiguous-paths = true` in roundsman.toml");
        let several =
            self.import.files.iter().any(|file| file.text.matches("address = ").count() > 1);
        if several {
            self.import.say(Severity::Differs, "always: upstream", "servers get the same shares as in nginx, not always in the same order, and a hash may choose another one; a server is left alone after 3 failures in 10 s, or as [passive] says, nginx's default is 1");
        }
        if let Some((body, differ)) = front.body {
            let largest = body.map_or("any size".to_owned(), values::size);
            let more = if differ {
                ", the largest of all locations: smaller ones are not told apart"
            } else {
                ""
            };
            self.import.say(Severity::Differs, "always: client_max_body_size", format!("a body may have {largest} for all sites (`body` under [limits]; nginx has 1 MiB where nothing is said){more}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_may_have_thousands_of_servers() {
        const SERVERS: usize = 2000;
        let server = |n: usize| {
            format!(
                "server {{ server_name n{n}; return 301 https://$host$request_uri; }}
                 server {{ listen 443 ssl; server_name n{n}; ssl_certificate /c{n}; ssl_certificate_key /k;
                   location / {{ proxy_pass http://127.0.0.1:3000; }}
                   location /api {{ deny all; }}
                   location ~ /\\.ht {{ deny all; }} }}\n"
            )
        };
        let text: String = (0..SERVERS).map(server).collect();
        let import = import_text(&text).unwrap();
        let file = import.files.iter().find(|file| file.text.contains("127.0.0.1:3000")).unwrap();
        // The first one has every other host, too.
        assert_eq!(file.text.matches("path = \"/\", redirect-https").count(), SERVERS + 1);
        assert_eq!(import.unprotected.len(), 2 * SERVERS);
    }

    #[test]
    fn nobody_is_sent_to_a_socket_of_our_own() {
        for (socket, is_own) in [
            ("/run/roundsman/admin.sock", true),
            ("/var/run//roundsman/helper.sock", true),
            ("/run/shop.sock", false),
        ] {
            let pass = format!("server {{ location / {{ proxy_pass http://unix:{socket}; }} }}");
            let block = format!(
                "upstream a {{ server unix:{socket}; }} server {{ location / {{ proxy_pass http://a; }} }}"
            );
            for text in [pass, block] {
                let import = import_text(&text).unwrap();
                let said = import.notes.iter().any(|note| note.text.contains("Roundsman's own"));
                let written = import.files.iter().any(|file| file.text.contains(socket));
                assert_eq!((said, written), (is_own, !is_own), "{text}");
            }
        }
    }
}
