//! A named set of servers that requests are balanced over.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::in_flight::InFlight;
use super::ketama::Ring;
use super::maglev;
use super::poison::Poisons;
use super::server::{Server, State};
use super::shared::Shared;
use super::sticky::{Cookies, Key};
use crate::config::settings::{Algorithm, Balancing, HashMethod};

/// A named set of servers.
#[derive(Debug)]
pub struct Upstream {
    /// `app:shop` or `upstream:api`.
    pub name: String,
    /// Stands for the name where comparing that takes too long; never 0.
    pub number: u64,
    /// The servers, in the configuration's order.
    pub servers: Vec<Arc<Server>>,
    /// How they share the requests.
    pub balancing: Balancing,
    /// Requests that wait for a server to come up, over all threads.
    pub waiting: AtomicUsize,
    /// Tells this object from its predecessor of the same name.
    pub(super) generation: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) table: ArcSwapOption<Table>,
    pub(super) cookies: Option<Cookies>,
}

/// What a hash algorithm looks its keys up in.
#[derive(Debug)]
pub(super) enum Table {
    Maglev(maglev::Table),
    Ketama(Ring),
    /// It needs none.
    Modulo,
}

static NEXT_GENERATION: AtomicU64 = AtomicU64::new(0);

impl Upstream {
    /// An upstream of these servers. Those that were in one before bring its turns along.
    pub fn new(name: impl Into<String>, servers: Vec<Arc<Server>>, balancing: Balancing) -> Self {
        let name = name.into();
        let shared = servers
            .iter()
            .find_map(|server| server.shared().map(Arc::clone))
            .unwrap_or_else(|| Arc::new(Shared::new()));
        for server in &servers {
            server.join(&shared, &balancing);
        }
        let cookies = balancing.sticky.as_ref().map(|sticky| {
            let key = Key::of(sticky);
            Cookies::new(sticky, &key, &name, servers.iter().map(|s| s.name.as_str()))
        });
        let upstream = Self {
            number: number(&name),
            name,
            servers,
            balancing,
            waiting: AtomicUsize::new(0),
            generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed),
            shared,
            table: ArcSwapOption::empty(),
            cookies,
        };
        upstream.rebuild();
        upstream
    }

    /// Puts changed weights into the tables of the hash algorithms.
    pub fn rebuild(&self) {
        let Algorithm::Hash(hash) = &self.balancing.algorithm else { return };
        let servers =
            || self.servers.iter().map(|s| (s, if s.options().backup { 0 } else { s.weight() }));
        let table = match hash.method {
            HashMethod::Maglev => {
                maglev::Table::new(servers().map(|(s, weight)| (s.name.as_str(), weight)))
                    .map(Table::Maglev)
            }
            HashMethod::Ketama => {
                Some(Table::Ketama(Ring::new(servers().map(|(s, weight)| (&s.address, weight)))))
            }
            HashMethod::Modulo => Some(Table::Modulo),
        };
        self.table.store(table.map(Arc::new));
        self.shared.touch();
    }

    /// Whether picking and answers need the exact time, because it measures how long answers take.
    pub fn needs_time(&self) -> bool {
        matches!(self.balancing.algorithm, Algorithm::LeastConnections | Algorithm::PeakEwma)
    }

    /// The `Set-Cookie` value that the response to this request needs, if it needs one.
    pub fn set_cookie(&self, in_flight: &InFlight) -> Option<&str> {
        self.cookies.as_ref()?.set_cookie(in_flight.pin?)
    }

    /// Whether there is nobody to wait for.
    pub fn is_deserted(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server.is_absent())
    }

    /// How many servers are up beside one, and are none of these.
    pub(crate) fn others_up(&self, one: &Server, tried: &[u32]) -> usize {
        let is_one = |other: &&Arc<Server>| {
            other.id != one.id
                && !tried.contains(&other.id)
                && other.state() == State::Up
                && other.health().status.is_healthy()
        };
        self.servers.iter().filter(is_one).count()
    }

    /// Wakes one waiting request whenever a server with `max-connections` has room again.
    pub fn freed(&self) -> &Notify {
        &self.shared.freed
    }

    /// What its servers have died of lately.
    pub(crate) fn poisons(&self) -> &Poisons {
        &self.shared.poisons
    }

    /// Has `monitor` notified whenever a server fails a request or changes its state.
    pub fn monitored_by(&self, monitor: &Arc<Notify>) {
        self.shared.monitored_by(monitor);
    }
}
/// The same for the same name, before and after a reload.
fn number(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish().max(1)
}
