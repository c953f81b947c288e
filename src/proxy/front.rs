//! What all threads of the front share, and how a reload swaps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::router::Router;
use crate::balance::{Server, State, Upstream};
use crate::config::Settings;
use crate::config::settings::{Address, Balancing, ServerOptions, Target};

/// What all threads share. Reading it takes no lock.
#[derive(Debug)]
pub struct Front {
    snapshot: ArcSwap<Snapshot>,
    /// Changes whenever a server's state or the snapshot does; requests that wait for a server
    /// watch it.
    changed: watch::Sender<u64>,
    threads: usize,
}

/// One configuration at work: immutable, swapped whole.
#[derive(Debug)]
pub struct Snapshot {
    /// What the files say.
    pub settings: Arc<Settings>,
    /// Upstreams by [`Target`], in the `Display` form that names them everywhere.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Finds the number of a request's route in the settings.
    pub router: Router,
    /// Who answers each route: one upstream, or those of its split in the order of the shares.
    pub answering: Vec<Vec<Arc<Upstream>>>,
}

// === impl Front ===

impl Front {
    /// The front for these settings with this many worker threads.
    pub fn new(settings: Settings, threads: usize) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::build(settings, None, threads)),
            changed: watch::Sender::new(0),
            threads,
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
    /// flight end under the settings they began with.
    pub fn replace(&self, settings: Settings) {
        let snapshot = Snapshot::build(settings, Some(&self.snapshot()), self.threads);
        self.snapshot.store(Arc::new(snapshot));
        self.notify_changed();
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
    fn build(settings: Settings, before: Option<&Self>, threads: usize) -> Self {
        let mut upstreams = BTreeMap::new();
        let mut add = |target: Target, servers: Vec<Wanted>, balancing: &Balancing| {
            let name = target.to_string();
            let old = before.and_then(|b| b.upstreams.get(&name));
            let servers = servers
                .into_iter()
                .map(|(server, address, options)| {
                    let stays = old.and_then(|o| {
                        o.servers.iter().find(|s| s.name == server && s.address == address)
                    });
                    if let Some(server) = stays {
                        server.set_options(&options);
                        return Arc::clone(server);
                    }
                    Arc::new(Server::with_options(server, address, threads, &options))
                })
                .collect();
            upstreams
                .insert(name.clone(), Arc::new(Upstream::new(name, servers, balancing.clone())));
        };
        for app in settings.apps.values() {
            let options = ServerOptions {
                max_connections: app.balancing.max_connections,
                slow_start: app.balancing.slow_start,
                ..ServerOptions::default()
            };
            let servers = (1..=app.workers)
                .map(|n| (app.instance(n), app.worker_address(n), options.clone()))
                .collect();
            add(Target::App(app.name.clone()), servers, &app.balancing);
        }
        for upstream in settings.upstreams.values() {
            let servers = upstream
                .servers
                .iter()
                .map(|s| (s.address.to_string(), s.address.clone(), s.options.clone()))
                .collect();
            add(Target::Upstream(upstream.name.clone()), servers, &upstream.balancing);
        }
        let find = |target: &Target| upstreams.get(&target.to_string()).map(Arc::clone);
        let answering = settings.routes.iter().map(|route| match &route.target {
            Target::Split(split) => split.shares.iter().filter_map(|s| find(&s.to)).collect(),
            target => find(target).into_iter().collect(),
        });
        let answering = answering.collect();
        let router = Router::new(&settings.routes);
        Self { settings: Arc::new(settings), upstreams, router, answering }
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
