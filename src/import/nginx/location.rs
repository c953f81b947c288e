//! A `location`: which paths it is for, who answers them, and what it says besides.

use super::super::Severity;
use super::closed::{self, Level};
use super::field::LONGEST_HSTS;
use super::host::Host;
use super::path::{encloses, prefix};
use super::pattern;
use super::reader::{Reader, Site};
use super::redirect::{self, Condition, Said};
use super::scope::{Block, Scope, SentHost};
use super::syntax::Directive;
use super::table::{Entry, Https, Shut, To};

/// Which paths a location is for.
enum Paths<'a> {
    /// Where another location sends to.
    Named,
    Exact(&'a str),
    Prefixes(Vec<String>),
    Pattern(String),
}

/// What a location does with a request that none of its rules turns away.
struct Doing {
    to: Option<To>,
    /// Whether it says by itself that it passes nothing on, in a note.
    is_told: bool,
}

impl Reader {
    pub(super) fn location(&mut self, directive: &Directive, site: &Site<'_>, outer: &Scope) {
        let mut scope = outer.within(&directive.block, Level::Location);
        scope.blocks.push(Block::of(directive));
        let closed = scope.protection.reason();
        let paths = match paths(&directive.arguments) {
            Paths::Named => return,
            Paths::Exact(path) if is_path(path) => vec![path.to_owned()],
            Paths::Prefixes(paths) if paths.iter().all(|path| is_path(path)) => paths,
            Paths::Exact(path) => {
                return self.left_out(
                    directive,
                    site,
                    closed,
                    &format!("{path} is no path that a route can have"),
                );
            }
            Paths::Prefixes(paths) => {
                return self.left_out(
                    directive,
                    site,
                    closed,
                    &format!("{} is no path that a route can have", paths.join(", ")),
                );
            }
            Paths::Pattern(pattern) => {
                let what = passes_to(&directive.block).map(|to| format!(" (it passes to {to})"));
                let text = format!(
                    "{pattern}: paths are prefixes here, not patterns{}",
                    what.unwrap_or_default()
                );
                return self.left_out(directive, site, closed, &text);
            }
        };
        let is_pattern = directive.arguments.first().is_some_and(|word| word.starts_with('~'));
        let is_exact = directive.arguments.first().is_some_and(|word| word.starts_with('='));
        if is_exact && closed.is_some() && prefix(&paths[0]) == "/" {
            return self.left_out(
                directive,
                site,
                closed,
                "= /: only the path itself, and here it would be everything below it, too",
            );
        }
        let doing = self.doing(directive, site, &paths[0], &scope);
        let to = match (closed.as_ref(), doing.to) {
            (Some(rules), to) => Some(To::Shut(Shut::by_rules(rules.clone(), to))),
            (None, to) => to,
        };
        for inner in &directive.block {
            match inner.name.as_str() {
                "proxy_pass" | "grpc_pass" => {}
                "location" => self.location(inner, site, &scope),
                "internal" if !is_exact && closed.is_some() => self.say_once("internal", Severity::Lost, inner, "X-Accel-Redirect, by which an app has nginx send what is here, is passed on to the client"),
                name if closed.is_some() && closed::is_rule(name) => {}
                "return" | "rewrite" if redirect::said(inner).is_some() => {}
                _ if redirect::if_to_https(inner).is_some() => self.tell_condition(inner),
                _ => self.other(inner),
            }
        }
        let Some(to) = to else {
            if !doing.is_told {
                let path = &paths[0];
                if path.starts_with("/.well-known/acme-challenge") {
                    self.say_once("acme", Severity::ToDo, directive, "certificates are renewed by files that nginx serves here; nothing does so now: renew them in another way before they expire, as by DNS");
                }
                self.lost(directive, format!("{path} passes nothing on, and was left out: requests for it come to the route around it, or get 404"));
            }
            return;
        };
        let is_redirected = directive.block.iter().any(|inner| {
            matches!(redirect::if_to_https(inner), Some(Condition::Plain | Condition::Balancer))
        });
        for path in &paths {
            for host in &site.hosts {
                let https = Https {
                    redirect: is_redirected && site.server.is_plain()
                        || site.is_redirected(host, path),
                    hsts: scope.hsts.map(|(seconds, below)| (seconds.min(LONGEST_HSTS), below)),
                };
                self.table.add(Entry {
                    host: host.clone(),
                    path: path.clone(),
                    is_exact,
                    is_pattern,
                    blocks: scope.blocks.clone(),
                    at: format!("{}: location", directive.at),
                    https,
                    to: to.clone(),
                });
            }
        }
    }

    /// A location without a route. What it protects would be open now.
    fn left_out(
        &mut self,
        directive: &Directive,
        site: &Site<'_>,
        closed: Option<String>,
        why: &str,
    ) {
        match closed {
            None => self.lost(directive, format!("{why}; the location was left out")),
            Some(rules) => {
                let at = format!("{}: location", directive.at);
                let text = format!("{why}; {rules} keeps somebody out there");
                self.lost(directive, format!("{why}; the location was left out"));
                self.table.patterns.push((site.hosts.clone(), at, text));
            }
        }
    }

    fn doing(&mut self, location: &Directive, site: &Site<'_>, path: &str, scope: &Scope) -> Doing {
        if let Some(said) =
            location.block.iter().find_map(|inner| Some((inner, redirect::said(inner)?)))
        {
            return Doing { to: None, is_told: self.own_answer(said.0, said.1, path, site) };
        }
        if let Some(to) = self.pass(location, path, scope) {
            return Doing { to: Some(to), is_told: true };
        }
        if let Some(named) = fallback(&location.block, &site.locations) {
            let scope = scope.within(&named.block, Level::Location);
            for inner in &named.block {
                match inner.name.as_str() {
                    "proxy_pass" | "grpc_pass" => {}
                    _ => self.other(inner),
                }
            }
            let to = self.pass(named, path, &scope).map(|to| match scope.protection.reason() {
                Some(rules) => To::Shut(Shut::by_rules(rules, Some(to))),
                None => to,
            });
            return Doing { is_told: to.is_some(), to };
        }
        Doing { to: None, is_told: false }
    }

    /// What nginx says itself. Gives whether there is nothing more to tell.
    fn own_answer(
        &mut self,
        directive: &Directive,
        said: Said,
        path: &str,
        site: &Site<'_>,
    ) -> bool {
        match said {
            Said::ToHttps { host } => {
                let hosts = site.hosts.clone();
                for from in hosts {
                    let is_same = host.as_ref().is_none_or(|to| from.pattern().as_ref() == Some(to));
                    if is_same && site.server.is_plain() {
                        self.to_https.push((from, path.to_owned(), directive.at.clone()));
                    } else {
                        let to = host.as_deref().unwrap_or("itself");
                        self.lost(directive, format!("{from} is sent to https://{to} by nginx; no redirect is written"));
                    }
                }
            }
            Said::Elsewhere(to) => self.lost(directive, format!("{path} is sent to {to} by nginx; no redirect is written, and requests for it come to the route around it, or get 404")),
            Said::Text => self.lost(directive, format!("nginx answers {path} itself; here requests for it come to the route around it, or get 404")),
            Said::Refuses(_) => {} // a rule, which closes it
        }
        true
    }

    /// Who answers, if the block passes requests on.
    fn pass(&mut self, location: &Directive, path: &str, scope: &Scope) -> Option<To> {
        let rewrite = location
            .block
            .iter()
            .find(|inner| inner.name == "rewrite" && !redirect::sends_away(inner));
        for inner in &location.block {
            let name = inner.name.as_str();
            if let "fastcgi_pass" | "uwsgi_pass" | "scgi_pass" | "memcached_pass" = name {
                let to = inner.arguments.join(" ");
                return Some(unserved(format!(
                    "`{name} {to}`: only HTTP is spoken to servers. Keep nginx for it, or have the app listen for HTTP"
                )));
            }
            if !matches!(name, "proxy_pass" | "grpc_pass") {
                continue;
            }
            let given = inner.arguments.first().map_or("", String::as_str);
            let target = match self.target(inner, path, scope) {
                Ok(target) => target,
                Err(why) => return Some(unserved(why)),
            };
            let changed = target.uri.map(|uri| format!("{path} by {uri} ({given})"));
            let changed = changed.or_else(|| {
                rewrite
                    .map(|rewrite| format!("what `rewrite {}` says", rewrite.arguments.join(" ")))
            });
            if let Some(changed) = changed {
                let wants = if let To::Open(upstream) = target.to { Some(upstream) } else { None };
                let why = format!(
                    "nginx replaces {changed}, and here paths are passed on as they are. Have the app take the paths that clients ask for, and move the route to its upstream then"
                );
                return Some(To::Shut(Shut::unserved(why, wants)));
            }
            if name == "proxy_pass" && scope.sends == SentHost::Upstream {
                let host = given.split("://").nth(1).unwrap_or(given);
                let host = host.split('/').next().unwrap_or(host);
                self.differs(inner, format!("nginx sends the Host of {given} ({host}) and translates redirects that name it (proxy_redirect); here the app sees the client's Host and X-Forwarded-Host, and redirects are passed on as they are"));
            }
            return Some(target.to);
        }
        None
    }

    /// An `if` that sends to HTTPS, which is in the routes.
    pub(super) fn tell_condition(&mut self, directive: &Directive) {
        if redirect::if_to_https(directive) == Some(Condition::Balancer) {
            self.say(Severity::ToDo, directive, "a balancer before this one says who came over TLS: write its addresses into `trusted-proxies` of roundsman.toml, or all its requests count as plain HTTP and are redirected without end");
        }
    }
}

impl Site<'_> {
    /// Whether plain HTTP for this host and path is sent to HTTPS: nginx does so, or has no such site
    /// over plain HTTP.
    fn is_redirected(&self, host: &Host, path: &str) -> bool {
        if self.server.is_plain() {
            return self.server.answer.sends_to_https(host);
        }
        !self.plain.of_host(host).iter().any(|other| {
            other.passes_on()
                && !other.answer.sends_to_https(host)
                && passes_at(&other.directive.block, path)
        })
    }
}

/// Whether what a server says of a path is to pass it on.
fn passes_at(server: &[Directive], path: &str) -> bool {
    let locations: Vec<&Directive> = server.iter().filter(|i| i.name == "location").collect();
    let around = |inner: &&Directive| match paths(&inner.arguments) {
        Paths::Prefixes(paths) => paths.iter().any(|own| encloses(prefix(own), prefix(path))),
        _ => false,
    };
    let length = |inner: &&Directive| inner.arguments.last().map_or(0, String::len);
    let found = locations.iter().copied().filter(around).max_by_key(length);
    let block = found.map_or(server, |location| &location.block);
    let passes = passes_to(block).is_some()
        || fallback(block, &locations).is_some_and(|named| passes_to(&named.block).is_some());
    passes && !block.iter().any(|inner| redirect::said(inner).is_some())
}

fn unserved(why: String) -> To {
    To::Shut(Shut::unserved(why, None))
}

/// What a block passes to, in nginx's words.
fn passes_to(block: &[Directive]) -> Option<String> {
    block.iter().find(|inner| inner.name.ends_with("_pass")).map(|inner| {
        let to = inner.arguments.join(" ");
        match inner.name.as_str() {
            "proxy_pass" => to,
            "fastcgi_pass" | "uwsgi_pass" | "scgi_pass" => {
                format!("{to} by `{}`, and only HTTP is spoken here", inner.name)
            }
            name => format!("{to} by `{name}`"),
        }
    })
}

fn paths(arguments: &[String]) -> Paths<'_> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [name] if name.starts_with('@') => Paths::Named,
        ["=", path] => Paths::Exact(path),
        ["^~", path] => Paths::Prefixes(vec![(*path).to_owned()]),
        ["~", expression] => pattern::prefixes(expression)
            .map_or_else(|| Paths::Pattern(words.join(" ")), Paths::Prefixes),
        [one] => {
            let split = ["=", "^~", "~*", "~"]
                .iter()
                .find_map(|mark| Some((*mark, one.strip_prefix(mark)?)));
            match split {
                Some(("=", path)) => Paths::Exact(path),
                Some(("^~", path)) => Paths::Prefixes(vec![path.to_owned()]),
                Some(("~", expression)) => pattern::prefixes(expression)
                    .map_or_else(|| Paths::Pattern(words.join(" ")), Paths::Prefixes),
                Some(_) => Paths::Pattern(words.join(" ")),
                None => Paths::Prefixes(vec![(*one).to_owned()]),
            }
        }
        _ => Paths::Pattern(words.join(" ")),
    }
}

/// Whether a route can have it.
fn is_path(path: &str) -> bool {
    let bare = path.trim_end_matches('/');
    path.starts_with('/')
        && !path.contains(['?', '#'])
        && path.chars().all(|c| c.is_ascii_graphic())
        && !bare.contains("//")
        && !bare.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// The named location that gets what is no file.
fn fallback<'a>(block: &[Directive], locations: &[&'a Directive]) -> Option<&'a Directive> {
    let last = |name: &str| {
        let found = block.iter().find(|inner| inner.name == name)?;
        found.arguments.last().filter(|last| last.starts_with('@'))
    };
    let is_404 = |inner: &&Directive| {
        inner.name == "error_page" && inner.arguments.first().is_some_and(|status| status == "404")
    };
    let missing = block.iter().find(is_404).and_then(|page| page.arguments.last());
    let name = last("try_files").or(missing.filter(|last| last.starts_with('@')))?;
    locations.iter().find(|other| other.arguments == [name.as_str()]).copied()
}

/// The location that a server is by itself, as Puma's and Unicorn's example has it: what no location is for
/// is looked for among its files, and goes to a named one.
pub(super) fn without_a_path(server: &Directive) -> Option<Directive> {
    let is_root = |inner: &Directive| {
        inner.name == "location"
            && matches!(paths(&inner.arguments), Paths::Prefixes(all) if all.contains(&"/".to_owned()))
    };
    let try_files = server.block.iter().find(|inner| inner.name == "try_files")?;
    let is_named = try_files.arguments.last().is_some_and(|last| last.starts_with('@'));
    (is_named && !server.block.iter().any(is_root)).then(|| Directive {
        name: "location".to_owned(),
        arguments: vec!["/".to_owned()],
        block: vec![try_files.clone()],
        at: try_files.at.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::outcomes::{routes, said, tried};

    /// What one location of `a` comes to.
    fn location(text: &str) -> (String, String) {
        let import = tried(&format!("server {{ server_name a; {text} }}"));
        (routes(&import), said(&import))
    }

    #[test]
    fn a_route_has_paths_that_it_can_have() {
        for (text, expected) in [
            ("location /x { P1 }", "a/x 1"),
            ("location /x/ { P1 }", "a/x 1"),
            ("location ^~ /x/ { P1 }", "a/x 1"),
            ("location ^~/x/ { P1 }", "a/x 1"),
            ("location = /x { P1 }", "a/x 1"),
            ("location =/x { P1 }", "a/x 1"),
            ("location ~ ^/(x|y)/ { P1 }", "a/x 1, a/y 1"),
            ("location ~^/x/ { P1 }", "a/x 1"),
            ("location /%20 { P1 }", "a/%20 1"),
            ("location // { P1 }", "a/ 1"),
            ("location x { P1 }", ""),
            ("location /x//y { P1 }", ""),
            ("location /x?y { P1 }", ""),
            ("location '/x#y' { P1 }", ""),
            ("location '/x y' { P1 }", ""),
            ("location /é { P1 }", ""),
            ("location /x/../y { P1 }", ""),
            ("location /x/./y { P1 }", ""),
            ("location = /x?y { P1 }", ""),
            ("location ~* ^/x/ { P1 }", ""),
            ("location ~*^/x/ { P1 }", ""),
            ("location ~ x$ { P1 }", ""),
            ("location ~x$ { P1 }", ""),
            ("location a b c { P1 }", ""),
        ] {
            let (routes, said) = location(text);
            assert_eq!(routes, expected, "{text}: {said}");
            let is_told = said.contains("the location was left out");
            assert_eq!(is_told, expected.is_empty(), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_no_file_goes_to_the_named_location() {
        let app = "location @app { P1 }";
        for (text, expected) in [
            ("location / { try_files $uri @app; }", "a/ 1"),
            ("location / { error_page 404 = @app; }", "a/ 1"),
            ("location / { error_page 404 @app; }", "a/ 1"),
            ("location / { error_page 500 = @app; }", ""),
            ("location / { error_page 404 /404.html; }", ""),
            ("location / { try_files $uri /index.html; }", ""),
            ("location / { try_files $uri @other; }", ""),
            ("location /x/ { try_files $uri @app; }", "a/x 1"),
            ("try_files $uri @app;", "a/ 1"),
            ("try_files $uri @app; location /x/ { P2 }", "a/ 1, a/x 2"),
            ("try_files $uri @app; location / { P2 }", "a/ 2"),
            ("try_files $uri =404;", ""),
        ] {
            assert_eq!(location(&format!("{text} {app}")).0, expected, "{text}");
        }
        let closed = "location / { try_files $uri @app; } location @app { auth_basic x; P1 }";
        assert_eq!(location(closed).0, "a/ closed");
        let (_, told) =
            location("location / { try_files $uri @app; } location @app { P1 expires 1h; }");
        assert!(
            told.contains("expires: responses do not get") && !told.contains(": proxy_pass: has"),
            "{told}"
        );
    }

    #[test]
    fn who_is_sent_to_https_is_sent_there_by_nginx() {
        let tls = "listen 443 ssl; server_name a;";
        let to_https = "return 301 https://$host$request_uri;";
        for (plain, secure, expected) in [
            ("", "location / { P1 }", "a/ 1+https"),
            ("location / { P1 }", "location / { P1 }", "a/ 1"),
            ("location /x/ { P1 }", "location / { P1 }", "a/ 1+https, a/x 1"),
            ("location / { root /srv; }", "location / { P1 }", "a/ 1+https"),
            (
                "location / { return 301 https://$host$request_uri; }",
                "location / { P1 }",
                "a/ 1+https",
            ),
            (
                "location / { P1 } location /x/ { return 404; }",
                "location / { P1 } location /x/ { P2 }",
                "a/ 1, a/x closed",
            ),
            (
                "location / { try_files $uri @app; } location @app { P1 }",
                "location / { P1 }",
                "a/ 1",
            ),
            ("try_files $uri @app; location @app { P1 }", "location / { P1 }", "a/ 1"),
            (to_https, "location / { P1 }", "a/ 1+https"),
            (
                "if ($host = a) { return 301 https://$host$request_uri; } location / { P1 }",
                "location / { P1 }",
                "a/ 1+https",
            ),
            ("location ~ ^/x/ { P1 }", "location /x/ { P1 }", "a/x 1"),
        ] {
            let plain = if plain.is_empty() {
                String::new()
            } else {
                format!("server {{ server_name a; {plain} }}")
            };
            let import = tried(&format!("{plain} server {{ {tls} {secure} }}"));
            assert_eq!(routes(&import), expected, "{plain} | {secure}: {}", said(&import));
        }
        for (text, told) in [
            (
                "location / { return 301 https://$host$request_uri; }",
                "is sent to HTTPS, where nothing of these files passes it on",
            ),
            (
                "location / { return 301 https://b.example$request_uri; } location /x/ { P1 }",
                "a is sent to https://b.example by nginx; no redirect is written",
            ),
            (
                "location /old { return 301 /new; } location / { P1 }",
                "/old is sent to /new by nginx",
            ),
            ("location /up { return 200 ok; } location / { P1 }", "nginx answers /up itself"),
            (
                "location / { root /srv; } location /x/ { P1 }",
                "/ passes nothing on, and was left out",
            ),
            (
                "location /.well-known/acme-challenge/ { root /srv; } location / { P1 }",
                "certificates are renewed by files that nginx serves here",
            ),
            (
                "if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; } location / { P1 }",
                "to do: nginx.conf:1: if: a balancer before this one says who came over TLS",
            ),
            (
                "location / { if ($http_x_forwarded_proto != https) { return 301 https://$host$request_uri; } P1 }",
                "to do: nginx.conf:1: if: a balancer before this one says who came over TLS",
            ),
        ] {
            assert!(location(text).1.contains(told), "{text}: {}", location(text).1);
        }
        let balancer = location(
            "if ($scheme = http) { return 301 https://$host$request_uri; } location / { P1 }",
        );
        assert_eq!(balancer.0, "a/ 1+https");
        assert!(!balancer.1.contains(": if:"), "{}", balancer.1);
    }
}
