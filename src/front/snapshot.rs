//! One configuration at work, and how the next one takes over from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::found::Found;
use super::router::Router;
use crate::balance::{Server, State, Upstream};
use crate::base::worker_address::Worker;
use crate::config::Settings;
use crate::config::settings::{self, Address, App, Balancing, DnsName, RouteTarget, ServerOptions};
use crate::tls::Tls;

/// One configuration at work: immutable, swapped whole.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the files say.
    pub settings: Arc<Settings>,
    /// The servers that names stood for when they resolved last.
    pub found: BTreeMap<DnsName, Vec<Found>>,
    /// Upstreams by [`RouteTarget`], in the `Display` form that names them everywhere.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Finds the number of a request's route in the settings.
    pub router: Arc<Router>,
    /// Whether any server is told of clients by a PROXY header.
    pub introduces: bool,
    /// Certificates and all else that is TLS.
    pub tls: Tls,
    /// Who answers each route: one upstream, or those of its split in the order of the shares.
    pub answering: Vec<Vec<Arc<Upstream>>>,
    /// What was at work before an app's connections were handed to it, until one of its workers is
    /// started anew: a connection that was accepted by then is with the front.
    pub(super) earlier: Option<Arc<Self>>,
}

/// A server as the files want it: name, address, options.
type Wanted = (String, Address, ServerOptions);

// === impl Snapshot ===

impl Snapshot {
    pub(super) fn build(
        settings: Settings,
        tls: Tls,
        before: Option<&Self>,
        threads: usize,
        address: &dyn Fn(&App, u16) -> Address,
    ) -> Self {
        let mut found = before.map(|b| b.found.clone()).unwrap_or_default();
        let names = || settings.upstreams.values().flat_map(|u| &u.names);
        found.retain(|known, _| names().any(|wanted| wanted.name == *known));

        let mut upstreams = BTreeMap::new();
        let mut add = |target: RouteTarget, servers, balancing: &Balancing| {
            let name = target.to_string();
            let old = before.filter(|b| b.takes_the_same(&target, &settings));
            let old = old.and_then(|b| b.upstreams.get(&name));
            // Of a worker that a reload brings, nobody has said yet whether it runs; at the start
            // of the front nothing is accepted before somebody has.
            let is_app = matches!(target, RouteTarget::App(_));
            let state = if is_app && before.is_some() { State::Down } else { State::Up };
            let new = (threads, state, is_app);
            let upstream = upstream(name.clone(), servers, balancing, old, new);
            upstreams.insert(name, upstream);
        };
        for app in settings.apps.values().filter(|app| !app.is_background()) {
            let target = RouteTarget::App(app.name.clone());
            add(target, workers_of(app, address), &app.balancing);
        }
        for upstream in settings.upstreams.values() {
            let target = RouteTarget::Upstream(upstream.name.clone());
            add(target, servers_of(upstream, &found), &upstream.balancing);
        }
        let router = Arc::new(Router::new(&settings.routes));
        Self::of(Arc::new(settings), found, upstreams, router, tls)
    }

    /// The same, but for what one name stands for.
    pub(super) fn with_found(&self, name: &DnsName, servers: Vec<Found>, threads: usize) -> Self {
        let mut found = self.found.clone();
        found.insert(name.clone(), servers);
        let mut upstreams = self.upstreams.clone();
        let concerned = |u: &&settings::Upstream| u.names.iter().any(|n| n.name == *name);
        for of_settings in self.settings.upstreams.values().filter(concerned) {
            let key = RouteTarget::Upstream(of_settings.name.clone()).to_string();
            let servers = servers_of(of_settings, &found);
            let old = self.upstreams.get(&key);
            let new = (threads, State::Up, false);
            let new = upstream(key.clone(), servers, &of_settings.balancing, old, new);
            upstreams.insert(key, new);
        }
        let (settings, router) = (Arc::clone(&self.settings), Arc::clone(&self.router));
        let earlier = self.earlier.clone();
        Self { earlier, ..Self::of(settings, found, upstreams, router, self.tls.clone()) }
    }

    /// The same, but for where the workers of these apps are.
    pub(super) fn with_moved(
        &self,
        apps: &[&App],
        threads: usize,
        address: &dyn Fn(&App, u16) -> Address,
    ) -> Self {
        let mut upstreams = self.upstreams.clone();
        for app in apps {
            let key = RouteTarget::App(app.name.clone()).to_string();
            let new = (threads, State::Down, true);
            let old = self.upstreams.get(&key);
            let servers = workers_of(app, address);
            upstreams.insert(key.clone(), upstream(key, servers, &app.balancing, old, new));
        }
        let (settings, router) = (Arc::clone(&self.settings), Arc::clone(&self.router));
        Self::of(settings, self.found.clone(), upstreams, router, self.tls.clone())
    }

    fn of(
        settings: Arc<Settings>,
        found: BTreeMap<DnsName, Vec<Found>>,
        upstreams: BTreeMap<String, Arc<Upstream>>,
        router: Arc<Router>,
        tls: Tls,
    ) -> Self {
        let find = |target: &RouteTarget| upstreams.get(&target.to_string()).map(Arc::clone);
        let answering = settings.routes.iter().map(|route| match &route.target {
            RouteTarget::Split(split) => split.shares.iter().filter_map(|s| find(&s.to)).collect(),
            target => find(target).into_iter().collect(),
        });
        let answering = answering.collect();
        let introduces = upstreams.values().any(|u| u.balancing.proxy_protocol.is_some());
        Self { settings, found, upstreams, router, introduces, tls, answering, earlier: None }
    }

    /// What is kept of the snapshot before these settings, for connections that were accepted by then.
    pub(super) fn earlier_for(&self, settings: &Settings) -> Option<Arc<Self>> {
        let begins = |app: &App| {
            let now = settings.apps.get(&app.name);
            app.handoff.is_none() && now.is_some_and(|now| now.handoff.is_some())
        };
        if self.settings.apps.values().any(begins) {
            return Some(Arc::new(Self { earlier: None, ..self.clone() }));
        }
        self.earlier.clone()
    }

    /// Whether an app's workers take what they took before: requests, or connections. Else all that is
    /// known of them was said of something else.
    fn takes_the_same(&self, target: &RouteTarget, settings: &Settings) -> bool {
        let RouteTarget::App(app) = target else { return true };
        let takes_requests = |settings: &Settings| settings.apps.get(app).map(App::has_address);
        takes_requests(&self.settings) == takes_requests(settings)
    }

    /// Every server of every upstream, with its upstream.
    pub fn servers(&self) -> impl Iterator<Item = (&Arc<Upstream>, &Arc<Server>)> {
        self.upstreams.values().flat_map(|u| u.servers.iter().map(move |s| (u, s)))
    }

    /// The worker of this name among those of its app.
    pub(super) fn server_of(&self, app: &App, name: &str) -> Option<&Arc<Server>> {
        let upstream = self.upstreams.get(&RouteTarget::App(app.name.clone()).to_string())?;
        upstream.servers.iter().find(|server| server.name == name)
    }

    /// The server of this name (`shop:1`), if there is one.
    pub fn server(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers().map(|(_, s)| s).find(|s| s.name == name)
    }
}

/// An app's workers, each where it is.
fn workers_of(app: &App, address: &dyn Fn(&App, u16) -> Address) -> Vec<Wanted> {
    let options = ServerOptions {
        max_connections: app.balancing.max_connections,
        slow_start: app.balancing.slow_start,
        proxy_protocol: app.balancing.proxy_protocol,
        protocol: app.balancing.protocol,
        ..ServerOptions::default()
    };
    let worker = |number| (app.instance(number), address(app, number), options.clone());
    (1..=app.workers).map(worker).collect()
}

/// An upstream of these servers, in which those that stay keep what is known of them. New ones are
/// for so many threads, begin in that state, and are workers or not.
fn upstream(
    name: String,
    servers: Vec<Wanted>,
    balancing: &Balancing,
    old: Option<&Arc<Upstream>>,
    (threads, state, are_workers): (usize, State, bool),
) -> Arc<Upstream> {
    let servers = servers
        .into_iter()
        .map(|(server, address, options)| {
            let stays = old.and_then(|o| {
                o.servers.iter().find(|s| {
                    s.name == server
                        && s.address == address
                        && s.protocol == options.protocol
                        && s.proxy_protocol == options.proxy_protocol
                })
            });
            if let Some(server) = stays {
                server.set_options(&options);
                return Arc::clone(server);
            }
            let mut server = Server::with_options(server, address, threads, &options);
            if are_workers {
                server.worker = Worker::named(&server.name);
            }
            if state != State::Up {
                server.set_state(state);
            }
            Arc::new(server)
        })
        .collect();
    Arc::new(Upstream::new(name, servers, balancing.clone()))
}

/// Servers of one upstream with which none are added that names stand for: the balancer counts
/// servers in 16 bits.
const MOST_FOUND: usize = 16 * 1024;

/// The servers that an upstream lists and those that its names stand for, in the list's order.
fn servers_of(upstream: &settings::Upstream, found: &BTreeMap<DnsName, Vec<Found>>) -> Vec<Wanted> {
    let listed = &upstream.servers;
    let wanted = |address: Address, options| (address.to_string(), address, options);
    let given =
        |server: &settings::UpstreamServer| wanted(server.address.clone(), server.options.clone());
    let mut servers: Vec<Wanted> = Vec::new();
    let mut done = 0;
    for named in &upstream.names {
        servers.extend(listed[done..named.at].iter().map(given));
        done = named.at;
        for found in found.get(&named.name).into_iter().flatten() {
            let address = Address::Tcp(found.address);
            let is_listed = listed.iter().any(|server| server.address == address);
            if servers.len() >= MOST_FOUND {
                break; // which takes more names than anybody gives to one upstream
            }
            if is_listed || servers.iter().any(|(_, known, _)| *known == address) {
                continue; // it is there anyway, or of another name
            }
            let mut options = named.options.clone();
            if let Some(record) = found.record {
                (options.weight, options.backup) = (record.weight, record.backup);
            }
            servers.push(wanted(address, options));
        }
    }
    servers.extend(listed[done..].iter().map(given));
    servers
}
