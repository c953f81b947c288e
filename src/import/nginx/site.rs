//! A `server` and what it says outside of its locations.

use super::super::Severity;
use super::host::Host;
use super::location;
use super::reader::{Reader, Site};
use super::redirect::{self, Said};
use super::scope::Block;
use super::server::{self, Listen, Plain, Reach, Server};
use super::syntax::Directive;
use super::table::{Entry, Https, Shut, To};

impl Reader {
    pub(super) fn sites(&mut self, servers: &[Server<'_>]) {
        let (any, others) = server::catch_all(servers);
        let plain = Plain::of(servers);
        let all_for_some =
            servers.iter().filter(|one| one.passes_on()).all(|one| one.only_for_some().is_some());
        for (number, one) in servers.iter().enumerate() {
            let mut hosts = one.names.hosts.clone();
            if any == Some(number) {
                hosts.push(Host::Any);
            }
            for (inner, name) in &one.names.patterns {
                let text = format!(
                    "{name}: a host is a name or *.name, no pattern; such requests come to the routes for every host, or get 404"
                );
                self.lost(inner, text);
            }
            let site = Site {
                hosts,
                server: one,
                plain: &plain,
                locations: one
                    .directive
                    .block
                    .iter()
                    .filter(|inner| inner.name == "location")
                    .collect(),
            };
            if others.contains(&number) {
                self.differs(one.directive, "nginx has it answer every host that no other server of its port has; here such requests come to the routes for every host, or get 404");
            }
            self.site(&site, all_for_some);
        }
        self.look_after_redirects();
    }

    fn site(&mut self, site: &Site<'_>, all_for_some: bool) {
        let directive = site.server.directive;
        if site.hosts.is_empty() && !site.server.is_default {
            let why = if site.server.names.patterns.is_empty() {
                "no request comes to it in nginx, as it has no name and another server is the default of its port"
            } else {
                "it has no name that can be written"
            };
            self.lost(directive, format!("{why}; it was left out"));
            return;
        }
        let mut scope = site.server.scope.clone();
        scope.blocks.push(Block::of(directive));
        if let Some(listen) = site.server.only_for_some().filter(|_| site.server.passes_on()) {
            let place = match &listen.address {
                unix if unix == "unix" => listen.port.clone(),
                address => format!("{address}:{}", listen.port),
            };
            let rule = format!("listen {place}");
            if all_for_some {
                let who = match listen.reach() {
                    Reach::Machine => "this machine",
                    Reach::Network | Reach::All => "those who reach that address",
                };
                self.unprotected(format!("{}: server", directive.at), format!("`{rule}` lets only {who} in, and the front listens for everybody: `systemctl edit roundsman-http.socket` with [Socket], ListenStream= and ListenStream={}", place.trim_start_matches("unix:")));
            } else {
                scope.protection = scope.protection.with("listen", rule);
            }
        }
        if !site.server.is_plain() && site.server.passes_on() {
            self.tell_plain(site);
        }
        for inner in &directive.block {
            match inner.name.as_str() {
                "server_name" => {}
                "listen" => self.listen(inner),
                "location" if site.server.answer.is_for_all() => {}
                "location" => self.location(inner, site, &scope),
                _ if redirect::if_to_https(inner).is_some() => self.tell_condition(inner),
                _ => match redirect::said(inner) {
                    Some(said) => self.server_says(inner, said, site),
                    None => self.other(inner),
                },
            }
        }
        if let Some(location) =
            location::without_a_path(directive).filter(|_| !site.server.answer.is_for_all())
        {
            self.location(&location, site, &scope);
        }
        self.keep_apart(site);
    }

    /// A host of its own gets no other site's answer, whatever its locations leave out.
    fn keep_apart(&mut self, site: &Site<'_>) {
        let is_sent_away = site.server.answer.is_for_all() && !site.server.answer.is_refusal();
        for host in site.hosts.iter().filter(|host| **host != Host::Any) {
            let sent = site.server.answer.sends_to_https(host);
            if self.table.has(host, "/") || sent || is_sent_away {
                continue;
            }
            self.table.add(Entry {
                host: host.clone(),
                path: "/".to_owned(),
                is_exact: false,
                is_pattern: false,
                blocks: vec![Block::of(site.server.directive)],
                at: format!("{}: server", site.server.directive.at),
                https: Https::default(),
                to: To::Shut(Shut::foreign()),
            });
        }
    }

    /// What a server says to all.
    fn server_says(&mut self, directive: &Directive, said: Said, site: &Site<'_>) {
        match said {
            Said::ToHttps { host } => {
                for from in site.hosts.clone() {
                    if host.as_ref().is_none_or(|to| from.pattern().as_ref() == Some(to)) {
                        self.to_https.push((from, "/".to_owned(), directive.at.clone()));
                    } else {
                        let to = host.as_deref().unwrap_or_default();
                        self.lost(directive, format!("{from} is sent to https://{to} by nginx; no redirect is written, and requests for {from} come to the routes for every host, or get 404"));
                    }
                }
                if site.hosts.is_empty() {
                    self.to_https.push((Host::Any, "/".to_owned(), directive.at.clone()));
                }
            }
            Said::Elsewhere(to) => self.lost(directive, format!("{} sent to {to} by nginx; no redirect is written, and such requests come to the routes for every host, or get 404", all_of(&site.hosts))),
            Said::Text => self.lost(directive, "nginx answers these requests itself; here they get 404, or come to the routes for every host"),
            Said::Refuses(status) if status == "404" => {}
            Said::Refuses(status) => self.differs(directive, format!("nginx answers {status}{}; here a request that no route is for gets 404", if status == "444" { " (it closes the connection)" } else { "" })),
        }
    }

    /// Over plain HTTP a site that has TLS only is none.
    fn tell_plain(&mut self, site: &Site<'_>) {
        let is_sent =
            |host: &Host| match site.plain.of_host(host) {
                [] => site.plain.of_host(&Host::Any).iter().any(|other| {
                    other.answer.is_to_https() || redirects_somewhere(other.directive)
                }),
                own => own.iter().any(|other| {
                    other.answer.sends_to_https(host)
                        || redirects_somewhere(other.directive)
                        || other.passes_on()
                }),
            };
        if !site.hosts.iter().all(is_sent) {
            self.differs(site.server.directive, "it has TLS only: over plain HTTP nginx answers with the default server of the port, or not at all; here the client is sent to HTTPS");
        }
    }

    /// Who is sent to HTTPS must find something there.
    fn look_after_redirects(&mut self) {
        let redirected = self.table.hosts_of(|entry| entry.https.redirect);
        for (host, path, at) in std::mem::take(&mut self.to_https) {
            if !redirected.has(&host) {
                self.import.say(Severity::Lost, format!("{at}: return"), format!("{host}{path} is sent to HTTPS, where nothing of these files passes it on; no redirect is written"));
            } else if host == Host::Any && !self.table.has(&Host::Any, "/") {
                self.import.say(
                    Severity::Differs,
                    format!("{at}: return"),
                    "a host that no route is for gets 404 here, no redirect",
                );
            }
        }
    }

    fn listen(&mut self, directive: &Directive) {
        let Some((address, options)) = directive.arguments.split_first() else { return };
        let port = address.rsplit(':').next().unwrap_or(address);
        let one = Listen::of(directive, false).filter(|listen| listen.address != "*");
        if one.is_some_and(|listen| listen.reach() == Reach::All) {
            self.say_once("address", Severity::Differs, directive, "the front listens on every address of the machine, and every site answers there; `systemctl edit roundsman-http.socket` with [Socket], ListenStream= and ListenStream=ADDRESS:PORT has it listen on one");
        }
        let is_tls = options.iter().any(|option| option == "ssl" || option == "quic");
        if options.iter().any(|option| option == "quic") {
            self.lost(directive, "HTTP/3 is not spoken; clients come over HTTP/2 instead");
        } else if is_tls || port == "443" {
            self.say_once("https", Severity::ToDo, directive, "roundsman-https.socket listens on port 443: systemctl enable roundsman-https.socket && systemctl restart roundsman-https.socket");
            if port != "443" {
                self.say_once("https-port", Severity::Differs, directive, &format!("port {port}: every site that has TLS answers on 443 here, unless `systemctl edit roundsman-https.socket` says otherwise; all ports are one"));
            }
            if !options.iter().any(|option| option == "http2") {
                self.say_once("http2", Severity::Differs, directive, "HTTP/2 is offered, too; `http2 = false` under [listen.https] of roundsman.toml turns it off");
            }
        } else if port != "80" {
            self.say_once(
                "port",
                Severity::Differs,
                directive,
                &format!("roundsman-http.socket listens on port 80, where every site answers; `roundsman listen {address}` moves it. With another port than 80 the app sees it in Host, from which nginx takes it away ($host)"),
            );
        }
        if !is_tls && !port.starts_with('/') {
            let first = self.plain_port.get_or_insert_with(|| port.to_owned()).clone();
            if first != port {
                self.lost(directive, format!("ports {first} and {port} are one here: the front's; what only one of them answered is answered there for everybody, whatever a firewall said of the other"));
            }
        }
        if options.iter().any(|option| option == "proxy_protocol") {
            self.say(Severity::ToDo, directive, "write the addresses of those that connect with the PROXY protocol into `trusted-proxies` of roundsman.toml; nobody else may connect then");
        }
    }
}

fn all_of(hosts: &[Host]) -> String {
    match hosts {
        [] => "requests that no other server has are".to_owned(),
        [one] => format!("{one} is"),
        many => many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") + " are",
    }
}

/// Whether a location of it sends to HTTPS.
fn redirects_somewhere(server: &Directive) -> bool {
    server.block.iter().any(|inner| {
        inner.name == "location"
            && inner
                .block
                .iter()
                .filter_map(redirect::said)
                .any(|said| matches!(said, Said::ToHttps { .. }))
    })
}
