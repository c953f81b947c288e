//! What all threads of the front share, and how a reload swaps it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::router::Router;
use crate::balance::{Server, State, Upstream};
use crate::base::paths;
use crate::config::Settings;
use crate::config::settings::{self, Address, Balancing, DnsName, ServerOptions, Target};
use crate::registry::dns::Found;
use crate::tls::Tls;

/// What all threads share. Reading it takes no lock.
#[derive(Debug)]
pub struct Front {
    snapshot: ArcSwap<Snapshot>,
    /// Changes whenever a server's state or the snapshot does; requests that wait for a server
    /// watch it.
    changed: watch::Sender<u64>,
    threads: usize,
    /// Below which the workers' control sockets are, if it is not the usual place.
    runtime: Option<PathBuf>,
}

/// One configuration at work: immutable, swapped whole.
#[derive(Debug)]
pub struct Snapshot {
    /// What the files say.
    pub settings: Arc<Settings>,
    /// The servers that names stood for when they resolved last.
    pub found: BTreeMap<DnsName, Vec<Found>>,
    /// Upstreams by [`Target`], in the `Display` form that names them everywhere.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Finds the number of a request's route in the settings.
    pub router: Arc<Router>,
    /// Whether any server is told of clients by a PROXY header.
    pub introduces: bool,
    /// Certificates and all else that is TLS.
    pub tls: Tls,
    /// Who answers each route: one upstream, or those of its split in the order of the shares.
    pub answering: Vec<Vec<Arc<Upstream>>>,
}

// === impl Front ===

impl Front {
    /// The front for these settings with this many worker threads.
    pub fn new(settings: Settings, threads: usize) -> Self {
        Self::with_tls(settings, Tls::default(), threads)
    }

    /// The same with what its settings name for TLS.
    pub fn with_tls(settings: Settings, tls: Tls, threads: usize) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::build(settings, tls, None, threads)),
            changed: watch::Sender::new(0),
            threads,
            runtime: None,
        }
    }

    /// Looks for the workers' control sockets below this directory.
    #[must_use]
    pub fn below(mut self, runtime: Option<PathBuf>) -> Self {
        self.runtime = runtime;
        self
    }

    /// Where the control socket is that has this path by the settings.
    pub(crate) fn control_socket(&self, path: &Path) -> PathBuf {
        match (&self.runtime, path.strip_prefix(paths::WORKERS)) {
            (Some(runtime), Ok(below)) => runtime.join(below),
            _ => path.to_owned(),
        }
    }

    /// The configuration at work.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The cell that holds it, for a thread's `arc_swap::Cache`.
    pub fn snapshot_cell(&self) -> &ArcSwap<Snapshot> {
        &self.snapshot
    }

    /// Number of worker threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Puts new settings to work. Servers that stay keep their state and their counts; requests in
    /// flight end under the settings they began with, open connections under their certificates.
    /// New workers of apps begin as down: whoever calls this says next what systemd says of them.
    pub fn replace(&self, settings: Settings) {
        self.replace_with(settings, self.snapshot().tls.clone());
    }

    /// The same with other certificates.
    pub fn replace_with(&self, settings: Settings, tls: Tls) {
        let snapshot = Snapshot::build(settings, tls, Some(&self.snapshot()), self.threads);
        self.snapshot.store(Arc::new(snapshot));
        self.notify_changed();
    }

    /// Puts to work that a name stands for these servers now; what it stood for before, if that was
    /// something else. Upstreams without that name do not notice.
    pub fn resolved(&self, name: &DnsName, found: Vec<Found>) -> Option<Vec<Found>> {
        let before = self.snapshot();
        let known = before.found.get(name);
        if known.is_some_and(|known| *known == found) {
            return None;
        }
        let known = known.cloned().unwrap_or_default();
        self.snapshot.store(Arc::new(before.with_found(name, found, self.threads)));
        self.notify_changed();
        Some(known)
    }

    /// Sets a server's state and wakes whoever waits for one; true when it was another before.
    pub fn set_state(&self, server: &Server, state: State) -> bool {
        let changed = server.set_state(state);
        if changed {
            self.notify_changed();
        }
        changed
    }

    /// Ticks at every change of a server's state or of the snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says that a server's health changed, which a request that waits may have waited for.
    pub(crate) fn health_changed(&self) {
        self.notify_changed();
    }

    fn notify_changed(&self) {
        self.changed.send_modify(|tick| *tick = tick.wrapping_add(1));
    }
}

/// A server as the files want it: name, address, options.
type Wanted = (String, Address, ServerOptions);

// === impl Snapshot ===

impl Snapshot {
    fn build(settings: Settings, tls: Tls, before: Option<&Self>, threads: usize) -> Self {
        let mut found = before.map(|b| b.found.clone()).unwrap_or_default();
        let names = || settings.upstreams.values().flat_map(|u| &u.names);
        found.retain(|known, _| names().any(|wanted| wanted.name == *known));

        let mut upstreams = BTreeMap::new();
        let mut add = |target: Target, servers, balancing: &Balancing| {
            let name = target.to_string();
            let old = before.and_then(|b| b.upstreams.get(&name));
            // Of a worker that a reload brings, nobody has said yet whether it runs; at the start
            // of the front nothing is accepted before somebody has.
            let unknown = matches!(target, Target::App(_)) && before.is_some();
            let state = if unknown { State::Down } else { State::Up };
            let upstream = upstream(name.clone(), servers, balancing, old, (threads, state));
            upstreams.insert(name, upstream);
        };
        for app in settings.apps.values() {
            let options = ServerOptions {
                max_connections: app.balancing.max_connections,
                slow_start: app.balancing.slow_start,
                proxy_protocol: app.balancing.proxy_protocol,
                protocol: app.balancing.protocol,
                ..ServerOptions::default()
            };
            let servers = (1..=app.workers)
                .map(|n| (app.instance(n), app.worker_address(n), options.clone()))
                .collect();
            add(Target::App(app.name.clone()), servers, &app.balancing);
        }
        for upstream in settings.upstreams.values() {
            let target = Target::Upstream(upstream.name.clone());
            add(target, servers_of(upstream, &found), &upstream.balancing);
        }
        let router = Arc::new(Router::new(&settings.routes));
        Self::of(Arc::new(settings), found, upstreams, router, tls)
    }

    /// The same, but for what one name stands for.
    fn with_found(&self, name: &DnsName, servers: Vec<Found>, threads: usize) -> Self {
        let mut found = self.found.clone();
        found.insert(name.clone(), servers);
        let mut upstreams = self.upstreams.clone();
        let concerned = |u: &&settings::Upstream| u.names.iter().any(|n| n.name == *name);
        for of_settings in self.settings.upstreams.values().filter(concerned) {
            let key = Target::Upstream(of_settings.name.clone()).to_string();
            let servers = servers_of(of_settings, &found);
            let old = self.upstreams.get(&key);
            let new = (threads, State::Up);
            let new = upstream(key.clone(), servers, &of_settings.balancing, old, new);
            upstreams.insert(key, new);
        }
        let (settings, router) = (Arc::clone(&self.settings), Arc::clone(&self.router));
        Self::of(settings, found, upstreams, router, self.tls.clone())
    }

    fn of(
        settings: Arc<Settings>,
        found: BTreeMap<DnsName, Vec<Found>>,
        upstreams: BTreeMap<String, Arc<Upstream>>,
        router: Arc<Router>,
        tls: Tls,
    ) -> Self {
        let find = |target: &Target| upstreams.get(&target.to_string()).map(Arc::clone);
        let answering = settings.routes.iter().map(|route| match &route.target {
            Target::Split(split) => split.shares.iter().filter_map(|s| find(&s.to)).collect(),
            target => find(target).into_iter().collect(),
        });
        let answering = answering.collect();
        let introduces = upstreams.values().any(|u| u.balancing.proxy_protocol.is_some());
        Self { settings, found, upstreams, router, introduces, tls, answering }
    }

    /// Every server of every upstream, with its upstream.
    pub fn servers(&self) -> impl Iterator<Item = (&Arc<Upstream>, &Arc<Server>)> {
        self.upstreams.values().flat_map(|u| u.servers.iter().map(move |s| (u, s)))
    }

    /// The server of this name (`shop:1`), if there is one.
    pub fn server(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers().map(|(_, s)| s).find(|s| s.name == name)
    }
}

/// An upstream of these servers, in which those that stay keep what is known of them. New ones are
/// for so many threads and begin in that state.
fn upstream(
    name: String,
    servers: Vec<Wanted>,
    balancing: &Balancing,
    old: Option<&Arc<Upstream>>,
    (threads, state): (usize, State),
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
            let server = Server::with_options(server, address, threads, &options);
            if state != State::Up {
                server.set_state(state);
            }
            Arc::new(server)
        })
        .collect();
    Arc::new(Upstream::new(name, servers, balancing.clone()))
}

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
