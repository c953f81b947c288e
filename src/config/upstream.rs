//! `upstreams/NAME.toml`: input → settings.

use std::fmt;

use super::diagnostic::{Place, Problem, Problems};
use super::fragment::{Node, Table, Value};
use super::input::{self, Input, Read, array, boolean, duration_or_zero, integer, quoted};
use super::route::{self, OwnRoutes};
use super::settings::{
    Address, Algorithm, Balancing, DnsName, NamedServers, ServerOptions, Upstream, UpstreamServer,
};
use super::{net, schema, sharing};

/// What `address` says.
#[derive(PartialEq)]
enum Location {
    Address(Address),
    Name(DnsName),
}

/// Reads the file; what is missing or wrong has a placeholder, and a problem.
pub(super) fn read(
    name: &str,
    table: &Table,
    place: &Place,
    problems: &mut Problems,
) -> (Upstream, OwnRoutes) {
    let top = Input::new(table, place, &[&schema::UPSTREAM, &schema::BALANCING], problems);
    let mut balancing = sharing::read(top, problems);
    balancing.active = top
        .node("health")
        .and_then(|node| Input::of_node(node, &[&schema::UPSTREAM_HEALTH], problems))
        .and_then(|section| sharing::active(section, problems));
    let example = "[{ address = \"10.0.0.1:8080\" }]";
    let (servers, names) = top
        .required("servers", example, problems, |node, problems| {
            servers(node, &balancing, problems)
        })
        .unwrap_or_default();
    (Upstream { name: name.to_owned(), servers, names, balancing }, route::own(top, problems))
}

fn servers(
    node: &Node,
    balancing: &Balancing,
    problems: &mut Problems,
) -> Read<(Vec<UpstreamServer>, Vec<NamedServers>)> {
    let nodes = array(node, problems)?;
    if nodes.is_empty() {
        problems.error(
            &node.place,
            "there is no server",
            "",
            "write servers = [{ address = \"10.0.0.1:8080\" }]",
        );
        return None;
    }
    let mut servers: Vec<(Location, ServerOptions, &Place)> = Vec::new();
    for node in nodes {
        let Some((location, options)) = server(node, balancing, problems) else { continue };
        match servers.iter().find(|(other, ..)| *other == location) {
            Some((.., first)) => {
                let title = format!("the server {location} is listed twice");
                problems.push(
                    Problem::error(&node.place, title, "again here")
                        .also(first, "first here")
                        .help("give it a higher `weight` instead"),
                );
            }
            None => servers.push((location, options, &node.place)),
        }
    }
    let (mut given, mut named) = (Vec::new(), Vec::new());
    for (location, options, _) in servers {
        match location {
            Location::Address(address) => given.push(UpstreamServer { address, options }),
            Location::Name(name) => {
                named.push(NamedServers { name, at: given.len(), options });
            }
        }
    }
    Some((given, named))
}

fn server(
    node: &Node,
    balancing: &Balancing,
    problems: &mut Problems,
) -> Read<(Location, ServerOptions)> {
    if let Value::String(text) = &node.value {
        let help = format!("write {{ address = {} }}", quoted(text));
        return input::mismatch(node, "a table", &help, problems);
    }
    let section = Input::of_node(node, &[&schema::SERVER], problems)?;
    let default = ServerOptions::default();
    let options = ServerOptions {
        weight: section.get("weight", default.weight, problems, integer(0..=65535_u32)),
        max_connections: section
            .optional("max-connections", problems, integer(1..=u32::MAX))
            .or(balancing.max_connections),
        backup: section.get("backup", default.backup, problems, boolean),
        down: section.get("down", default.down, problems, boolean),
        slow_start: section
            .optional("slow-start", problems, duration_or_zero)
            .unwrap_or(balancing.slow_start),
        protocol: balancing.protocol,
        proxy_protocol: balancing.proxy_protocol,
    };
    if balancing.algorithm == Algorithm::RoundRobin
        && options.weight > 1
        && let Some(weight) = section.node("weight")
    {
        problems.push(
            Problem::warning(&weight.place, "round-robin gives every server the same share", "")
                .help("add `balance = \"weighted-round-robin\"`, or leave `weight` out"),
        );
    }
    let location =
        section.required("address", "\"10.0.0.1:8080\"", problems, |node, problems| {
            match DnsName::read(node, problems) {
                Some(name) => name.map(Location::Name),
                None => net::address(node, problems).map(Location::Address),
            }
        })?;
    if matches!(location, Location::Name(DnsName::Service(_))) {
        for key in ["weight", "backup"] {
            if let Some(node) = section.node(key) {
                let title = format!("the records of a service say its servers' {key}");
                let help =
                    format!("leave `{key}` out, or look the servers up with \"dns:NAME:PORT\"");
                problems.error(&node.place, title, "", help);
            }
        }
    }
    Some((location, options))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}
