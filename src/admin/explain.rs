//! Which route, share and server a request would get, and why, without sending one.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::balance::access::Access;
use crate::balance::{Explanation, PickInput, Reason, RequestKeys, Upstream, split};
use crate::config::settings::{Algorithm, HostPattern, Route, RouteTarget, Split};
use crate::front::Snapshot;

/// The request in question.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Query {
    /// Its host.
    pub host: String,
    /// Its path and query; `/` when absent.
    #[serde(default = "root")]
    pub path: String,
    /// Its client, as `trusted-proxies` make it known.
    pub ip: Option<IpAddr>,
    /// Its fields, names in lower case.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Its cookies.
    #[serde(default)]
    pub cookies: Vec<(String, String)>,
    /// What is drawn where something is drawn.
    #[serde(default)]
    pub random: u64,
}

fn root() -> String {
    "/".to_owned()
}

/// What would become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// The route that matches; `None` for 404.
    pub route: Option<String>,
    /// Of a split: the share, and what decided.
    pub share: Option<String>,
    /// Who answers.
    pub upstream: Option<String>,
    /// How it balances.
    pub algorithm: Option<String>,
    /// The server; `None` while none can be used, when the request would wait.
    pub server: Option<String>,
    /// Why this one, or why none.
    pub reason: String,
    /// Every server of the upstream.
    pub servers: Vec<ServerLine>,
}

/// One server of the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerLine {
    /// Its name.
    pub name: String,
    /// What its health is.
    pub status: String,
    /// Its weight.
    pub weight: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// What this request may do with it: everything, try it, or nothing.
    pub access: String,
}

impl RequestKeys for Query {
    fn header(&self, name: &str) -> Option<&[u8]> {
        find(&self.headers, name)
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        find(&self.cookies, name)
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
}

fn find<'a>(list: &'a [(String, String)], name: &str) -> Option<&'a [u8]> {
    list.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_bytes())
}

/// Explains what would become of a request under this configuration, in its present state.
pub(crate) fn explain(snapshot: &Snapshot, query: &Query) -> Explained {
    let nobody = |reason: &str| Explained {
        route: None,
        share: None,
        upstream: None,
        algorithm: None,
        server: None,
        reason: reason.to_owned(),
        servers: Vec::new(),
    };
    let Some(number) = snapshot.router.find(query.host.as_bytes(), query.path.as_bytes()) else {
        return nobody("no route matches this host and path: the answer is 404");
    };
    let route = &snapshot.settings.routes[number];
    let (target, share) = match &route.target {
        RouteTarget::Split(split) => match split::choose(split, query.ip, query, query.random) {
            Some(share) => (&share.to, Some(describe_share(split, share.share))),
            None => return nobody("all shares of the split are 0"),
        },
        target => (target, None),
    };
    let route = Some(describe_route(route));
    let Some(upstream) = snapshot.upstreams.get(&target.to_string()) else {
        return Explained { route, ..nobody("the route leads to an unknown upstream") };
    };
    let input = PickInput {
        thread: 0,
        tried: &[],
        client: query.ip,
        request: query,
        now: Instant::now(),
        random: query.random,
    };
    let explanation = upstream.explain(&input);
    let chosen = explanation.server.map(|(server, _)| upstream.servers[server].name.clone());
    Explained {
        route,
        share,
        upstream: Some(upstream.name.clone()),
        algorithm: Some(upstream.balancing.algorithm.to_string()),
        server: chosen,
        reason: describe_reason(upstream, &explanation),
        servers: upstream
            .servers
            .iter()
            .zip(&explanation.access)
            .map(|(server, access)| ServerLine {
                name: server.name.clone(),
                status: server.health().status.to_string(),
                weight: server.weight(),
                in_flight: server.in_flight(),
                access: match access {
                    Access::Yes => "yes",
                    Access::Trial => "one at a time",
                    Access::No => "no",
                }
                .to_owned(),
            })
            .collect(),
    }
}

fn describe_route(route: &Route) -> String {
    let path = &route.path;
    match &route.host {
        HostPattern::Exact(host) => format!("{host}{path}"),
        HostPattern::Wildcard(host) => format!("*.{host}{path}"),
        HostPattern::Any => format!("*{path}"),
    }
}

fn describe_share(split: &Split, share: u32) -> String {
    let total: u64 = split.shares.iter().map(|s| u64::from(s.share)).sum();
    format!("{share} of {total}, by {}", split.by)
}

fn describe_reason(upstream: &Upstream, explanation: &Explanation) -> String {
    let algorithm = &upstream.balancing.algorithm;
    let seconds = upstream.balancing.queue_timeout.as_secs();
    let text = match explanation.server {
        None if upstream.servers.is_empty() => {
            return format!(
                "no name of this upstream has been resolved: the request would wait for a server, \
                 {seconds} s at most"
            );
        }
        None => {
            return format!(
                "no server can be used: the request would wait for one, {seconds} s at most"
            );
        }
        Some((_, Reason::Sticky)) => "its sticky cookie names this server",
        Some((_, Reason::StandIn)) => "it stands in for the server that the sticky cookie names",
        Some((_, Reason::Turn)) => "the hash found no usable server (or no key): weighted turns",
        Some((_, Reason::Algorithm)) => match algorithm {
            Algorithm::RoundRobin => "it is the next in turn",
            Algorithm::WeightedRoundRobin => {
                "weighted turns, of which each thread of the front has its own: this one begins them"
            }
            Algorithm::IpHash => "the hash of the client's network leads to it",
            Algorithm::Hash(_) => "the hash of the key leads to it",
            Algorithm::LeastConnections => "it has the fewest requests in flight for its weight",
            Algorithm::PeakEwma => "of two servers drawn it is expected to answer sooner",
        },
    };
    text.to_owned()
}
