//! nginx's servers: where they listen, for whom, and which of them answers whom nobody else does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::closed::Level;
use super::host::{Host, Names};
use super::redirect::{self, Answer};
use super::scope::Scope;
use super::syntax::Directive;

/// A `server`.
pub(super) struct Server<'a> {
    pub(super) directive: &'a Directive,
    /// What is in force in it.
    pub(super) scope: Scope,
    pub(super) listens: Vec<Listen>,
    pub(super) names: Names<'a>,
    /// What it says before any location is looked at.
    pub(super) answer: Answer,
    /// Whether it has the hosts that no server of its port has.
    pub(super) is_default: bool,
}

/// The servers that plain HTTP reaches, by host.
#[derive(Default)]
pub(super) struct Plain<'a>(BTreeMap<&'a Host, Vec<&'a Server<'a>>>);

/// One place where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    /// `*` for every address.
    pub(super) address: String,
    pub(super) port: String,
    pub(super) is_tls: bool,
    is_default: bool,
}

impl<'a> Server<'a> {
    fn new(directive: &'a Directive, outer: &Scope) -> Self {
        let scope = outer.within(&directive.block, Level::Above);
        let on = |name: &str| {
            let mut all = directive.block.iter();
            all.any(|inner| inner.name == name && inner.arguments == ["on"])
        };
        let mut listens: Vec<Listen> = directive
            .block
            .iter()
            .filter(|inner| inner.name == "listen")
            .filter_map(|inner| Listen::of(inner, on("ssl")))
            .collect();
        if listens.is_empty() {
            listens.push(Listen::everywhere());
        }
        let names = Names::of(directive);
        let answer = redirect::of_server(directive);
        Self { directive, scope, listens, names, answer, is_default: false }
    }

    /// Whether plain HTTP reaches it.
    pub(super) fn is_plain(&self) -> bool {
        self.listens.iter().any(|listen| !listen.is_tls)
    }

    /// Whether it passes requests on.
    pub(super) fn passes_on(&self) -> bool {
        !self.answer.is_for_all() && passes_on(&self.directive.block)
    }

    /// Where it listens, if only this machine or a network of somebody's own reaches it.
    pub(super) fn only_for_some(&self) -> Option<&Listen> {
        let all = self.listens.iter().all(|listen| listen.reach() != Reach::All);
        all.then(|| self.listens.first()).flatten()
    }
}

/// Who reaches an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Machine,
    /// A network without addresses of the internet.
    Network,
    All,
}

impl<'a> Plain<'a> {
    pub(super) fn of(servers: &'a [Server<'a>]) -> Self {
        let mut plain = Self::default();
        for server in servers.iter().filter(|server| server.is_plain()) {
            for host in &server.names.hosts {
                plain.0.entry(host).or_default().push(server);
            }
            if server.is_default {
                plain.0.entry(&Host::Any).or_default().push(server);
            }
        }
        plain
    }

    /// Those whose a request for this host over plain HTTP is; of every host: the defaults.
    pub(super) fn of_host(&self, host: &Host) -> &[&'a Server<'a>] {
        self.0.get(host).map_or(&[], Vec::as_slice)
    }
}

impl Listen {
    fn everywhere() -> Self {
        Self { address: "*".to_owned(), port: "80".to_owned(), is_tls: false, is_default: false }
    }

    /// Who reaches it.
    pub(super) fn reach(&self) -> Reach {
        let address = self.address.trim_start_matches('[').trim_end_matches(']');
        match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) if address.is_loopback() => Reach::Machine,
            Ok(IpAddr::V4(v4))
                if v4.is_private()
                    || v4.is_link_local()
                    || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64 =>
            {
                Reach::Network
            }
            Ok(IpAddr::V6(v6)) if v6.is_unique_local() || v6.is_unicast_link_local() => {
                Reach::Network
            }
            Err(_) if matches!(address, "localhost" | "unix") => Reach::Machine,
            _ => Reach::All,
        }
    }

    pub(super) fn of(directive: &Directive, is_tls: bool) -> Option<Self> {
        let (place, options) = directive.arguments.split_first()?;
        let has = |name: &str| options.iter().any(|option| option == name);
        let (address, port) = if place.starts_with("unix:") {
            ("unix", place.as_str())
        } else {
            match place.rsplit_once(':') {
                Some((address, port)) if port.parse::<u16>().is_ok() => (address, port),
                None if place.parse::<u16>().is_ok() => ("*", place.as_str()),
                _ => (place.as_str(), "80"),
            }
        };
        let address = if matches!(address, "0.0.0.0" | "[::]") { "*" } else { address };
        Some(Self {
            address: address.to_owned(),
            port: port.to_owned(),
            is_tls: is_tls || has("ssl") || has("quic"),
            is_default: has("default_server") || has("default"),
        })
    }
}

/// All servers of all `http` blocks, in order, with who is the default of a port.
pub(super) fn all<'a>(directives: &'a [Directive], outer: &Scope) -> Vec<Server<'a>> {
    let mut servers = Vec::new();
    collect(directives, outer, &mut servers);
    let mut defaults: BTreeMap<(&str, &str), (usize, bool)> = BTreeMap::new();
    for (number, server) in servers.iter().enumerate() {
        for listen in &server.listens {
            let first = defaults
                .entry((&listen.address, &listen.port))
                .or_insert((number, listen.is_default));
            if listen.is_default && !first.1 {
                *first = (number, true);
            }
        }
    }
    let defaults: Vec<usize> = defaults.into_values().map(|(number, _)| number).collect();
    for number in defaults {
        servers[number].is_default = true;
    }
    servers
}

fn collect<'a>(directives: &'a [Directive], outer: &Scope, servers: &mut Vec<Server<'a>>) {
    let scope = outer.within(directives, Level::Above);
    for directive in directives {
        match directive.name.as_str() {
            "http" => collect(&directive.block, &scope, servers),
            "server" => servers.push(Server::new(directive, &scope)),
            _ => {}
        }
    }
}

/// Whether anything in a block is passed on over HTTP.
fn passes_on(block: &[Directive]) -> bool {
    block.iter().any(|inner| {
        matches!(inner.name.as_str(), "proxy_pass" | "grpc_pass") || passes_on(&inner.block)
    })
}

/// Which server gets the hosts that no other has, where routes can say so, and which else do in nginx.
pub(super) fn catch_all(servers: &[Server<'_>]) -> (Option<usize>, BTreeSet<usize>) {
    let mut passing: Vec<usize> = (0..servers.len())
        .filter(|number| servers[*number].is_default && servers[*number].passes_on())
        .collect();
    let agrees = |other: &Server<'_>| !other.is_default || other.answer.is_to_https();
    let nameless = |number: &usize| servers[*number].names.hosts.is_empty();
    let chosen = match passing.as_slice() {
        [one] => {
            let alone = servers.iter().enumerate().all(|(n, other)| n == *one || agrees(other));
            (alone || nameless(one)).then_some(*one)
        }
        several => several.iter().copied().find(|number| nameless(number)),
    };
    passing.retain(|number| Some(*number) != chosen);
    (chosen, passing.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    fn chosen(text: &str) -> (Option<usize>, Vec<usize>) {
        let (chosen, others) = catch_all(&all(&parse(text, "f").unwrap(), &Scope::default()));
        (chosen, others.into_iter().collect())
    }

    #[test]
    fn the_only_server_of_a_port_has_every_name() {
        let pass = "location / { proxy_pass http://127.0.0.1:1; }";
        let to_https = "return 301 https://$host$request_uri;";
        let server = |text: &str| format!("server {{ {text} }}");
        for (servers, expected) in [
            (vec![format!("server_name a; {pass}")], (Some(0), vec![])),
            (
                vec![format!("server_name a; {pass}"), format!("server_name b; {pass}")],
                (Some(0), vec![]),
            ),
            (
                vec![format!("server_name a; {pass}"), format!("listen 80 default_server; {pass}")],
                (Some(1), vec![]),
            ),
            (
                vec![
                    format!("server_name a; {pass}"),
                    "listen 80 default_server; return 444;".to_owned(),
                ],
                (None, vec![]),
            ),
            (
                vec![format!("listen 443 ssl; server_name a; {pass}"), to_https.to_owned()],
                (Some(0), vec![]),
            ),
            (
                vec![format!("listen 443 ssl; server_name a; {pass}"), "return 404;".to_owned()],
                (None, vec![0]),
            ),
            (vec![format!("listen 443 ssl; {pass}"), "return 404;".to_owned()], (Some(0), vec![])),
            (
                vec![format!("server_name a; {pass}"), format!("listen 81; server_name b; {pass}")],
                (None, vec![0, 1]),
            ),
            (vec![format!("listen [::]:80; listen 80; server_name a; {pass}")], (Some(0), vec![])),
        ] {
            let text: String = servers.iter().map(|text| server(text)).collect();
            assert_eq!(chosen(&text), expected, "{text}");
        }
    }

    #[test]
    fn places_to_listen() {
        use Reach::{All, Machine, Network};
        for (text, address, port, is_tls, reach) in [
            ("80", "*", "80", false, All),
            ("443 ssl", "*", "443", true, All),
            ("443 quic", "*", "443", true, All),
            ("[::]:8080", "*", "8080", false, All),
            ("127.0.0.1:9000", "127.0.0.1", "9000", false, Machine),
            ("10.0.0.1", "10.0.0.1", "80", false, Network),
            ("172.31.0.1:81", "172.31.0.1", "81", false, Network),
            ("100.64.0.1:80", "100.64.0.1", "80", false, Network),
            ("100.128.0.1:80", "100.128.0.1", "80", false, All),
            ("101.64.0.1:80", "101.64.0.1", "80", false, All),
            ("169.254.1.1:80", "169.254.1.1", "80", false, Network),
            ("203.0.113.1:80", "203.0.113.1", "80", false, All),
            ("[::1]", "[::1]", "80", false, Machine),
            ("[fd00::1]:80", "[fd00::1]", "80", false, Network),
            ("[fe80::1]:80", "[fe80::1]", "80", false, Network),
            ("localhost:80", "localhost", "80", false, Machine),
            ("web.example:80", "web.example", "80", false, All),
            ("unix:/run/x.sock", "unix", "unix:/run/x.sock", false, Machine),
        ] {
            let tree = parse(&format!("listen {text};"), "f").unwrap();
            let listen = Listen::of(&tree[0], false).unwrap();
            let found = (&*listen.address, &*listen.port, listen.is_tls, listen.reach());
            assert_eq!(found, (address, port, is_tls, reach), "{text}");
        }
    }
}
