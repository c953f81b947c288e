//! One thread's view of an upstream: what picking works on.
//!
//! Everything is a plain array that only this thread touches, so picking needs no lock and goes
//! through memory in order. The view is refreshed when the upstream's epoch has moved, that is when
//! a server's state, health or weight changed: rarely, compared to requests.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::access::{self, Access, Member};
use super::gate::Entry;
use super::in_flight::InFlight;
use super::input::PickInput;
use super::shared::Shared;
use super::smooth::Smooth;
use super::status::FULL;
use super::upstream::{Table, Upstream};
use super::{ip_hash, key, least_connections, modulo, peak_ewma, round_robin, sticky};
use crate::config::settings::{Algorithm, HashKey};

/// One thread's view of an upstream.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Which upstream object, and which epoch of it, this shows.
    generation: Option<u64>,
    epoch: u64,
    /// Ids of the servers, to recognise them after a reload.
    ids: Vec<u32>,
    weights: Vec<u32>,
    /// As the hashes of nginx count them: backups have no part.
    hash_weights: Vec<u32>,
    access: Vec<Access>,
    /// Whom requests may go to when nothing else speaks against it, as flags and as a list.
    usable: Vec<bool>,
    candidates: Vec<u16>,
    /// Candidates that need a second look at each pick.
    special: Vec<Special>,
    smooth: Smooth,
    /// Failures that the effective weights have paid for.
    setbacks: Vec<u32>,
    table: Option<Arc<Table>>,
    /// Whether it only says what it would do: then it must not change what is shared.
    dry: bool,
    /// Room to work in.
    members: Vec<Member>,
    open: Vec<bool>,
    tied: Vec<bool>,
    connections: Vec<u32>,
}

/// A candidate that is not always one.
#[derive(Debug, Clone, Copy)]
struct Special {
    server: u16,
    /// Of a thousand picks, in how many it takes part.
    share: u16,
    trial: bool,
    limited: bool,
}

/// Why a server was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client's sticky cookie names it.
    Sticky,
    /// It stands in for the server that the cookie names.
    StandIn,
    /// The algorithm says so.
    Algorithm,
    /// The algorithm found nobody, as a hash of a missing key does: weighted turns instead.
    Turn,
}

/// The servers that are looked at for one request at the most: more would all fail alike.
const ATTEMPTS: usize = 64;

impl View {
    /// Picks a server and counts the request in.
    pub(super) fn pick(&mut self, upstream: &Upstream, input: &PickInput<'_>) -> Option<InFlight> {
        self.refresh(upstream, input.thread);
        if let Some(in_flight) = pinned_to_draining(upstream, input) {
            return Some(in_flight);
        }
        self.open_for(upstream, input);
        for attempt in 0..ATTEMPTS.min(self.ids.len()) {
            let Some((server, reason)) = self.choose(upstream, input, attempt) else { break };
            let entry = Entry {
                counted: upstream.servers[server].is_counted(),
                trial: self.access[server] == Access::Trial,
                up_to: 0,
            };
            if let Some(mut in_flight) = upstream.servers[server].begin_as(input.thread, entry) {
                // A stand-in must not replace the cookie: the client returns to its own server.
                in_flight.pin =
                    (reason != Reason::Sticky && reason != Reason::StandIn).then_some(server);
                return Some(in_flight.begun(input.now));
            }
            self.open[server] = false; // it was closed or filled up a moment ago
        }
        self.pick_backup(upstream, input)
    }

    /// For a request that failed on all that are in turn: a healthy backup is better than nobody.
    fn pick_backup(&mut self, upstream: &Upstream, input: &PickInput<'_>) -> Option<InFlight> {
        if input.tried.is_empty() {
            return None;
        }
        for (i, member) in self.members.iter().enumerate() {
            let fit = member.backup && member.weighs && member.status.is_healthy();
            self.open[i] = fit && !input.tried.contains(&self.ids[i]);
        }
        let server = &upstream.servers[self.smooth.pick(&self.open)?];
        let entry = Entry { counted: server.is_counted(), trial: false, up_to: 0 };
        server.begin_as(input.thread, entry).map(|in_flight| in_flight.begun(input.now))
    }

    /// What [`Self::pick`] would do, without doing it. For a view that nobody picks with.
    pub(super) fn explain(
        &mut self,
        upstream: &Upstream,
        input: &PickInput<'_>,
    ) -> (Option<(usize, Reason)>, Vec<Access>, Vec<bool>) {
        self.dry = true;
        self.refresh(upstream, input.thread);
        self.open_for(upstream, input);
        let open = self.open.clone();
        (self.choose(upstream, input, 0), self.access.clone(), open)
    }

    /// Brings the view up to date.
    fn refresh(&mut self, upstream: &Upstream, thread: usize) {
        let epoch = upstream.shared.epoch(); // before looking at anything that moves it
        if self.generation != Some(upstream.generation) {
            self.rebuild(upstream, thread);
        } else if self.epoch == epoch {
            return;
        }
        self.epoch = epoch;
        self.table = upstream.table.load_full();

        let weighs = |(server, weight): (&Arc<super::Server>, &u32)| server.weight() != *weight;
        if upstream.servers.iter().zip(&self.weights).any(weighs) {
            self.weights = upstream.servers.iter().map(|s| s.weight()).collect();
            self.smooth = self.smooth.carry_over(&self.weights, Some);
        }
        let max_fails = upstream.balancing.passive.max_fails;
        self.members.clear();
        for (i, server) in upstream.servers.iter().enumerate() {
            let backup = server.options().backup;
            let weighs = self.weights[i] > 0;
            self.members.push(Member { status: server.health().status, backup, weighs });
            self.hash_weights[i] = if backup { 0 } else { self.weights[i] };
            let setbacks = server.setbacks.load(Ordering::Relaxed);
            // More than the weight would not make a difference any more.
            let new = setbacks.wrapping_sub(self.setbacks[i]).min(self.weights[i]);
            (0..new).for_each(|_| self.smooth.failed(i, max_fails));
            self.setbacks[i] = setbacks;
        }
        access::decide(&self.members, upstream.balancing.passive.panic_threshold, &mut self.access);
        self.list_candidates(upstream);
    }

    /// Starts over for another list of servers; those that stay keep where they are in their turn.
    fn rebuild(&mut self, upstream: &Upstream, thread: usize) {
        let ids: Vec<u32> = upstream.servers.iter().map(|s| s.id).collect();
        let place = |id| self.ids.iter().position(|&old| old == id);
        let before: Vec<Option<usize>> = ids.iter().map(|&id| place(id)).collect();
        let weights: Vec<u32> = upstream.servers.iter().map(|s| s.weight()).collect();
        if before.iter().any(Option::is_some) {
            self.smooth = self.smooth.carry_over(&weights, |i| before[i]);
        } else {
            self.smooth = Smooth::new(&weights);
            let threads = upstream.servers.first().map_or(1, |s| s.counters.len());
            self.smooth.stagger(thread, threads);
        }
        self.setbacks = upstream
            .servers
            .iter()
            .zip(&before)
            .map(|(s, old)| {
                old.map_or_else(|| s.setbacks.load(Ordering::Relaxed), |old| self.setbacks[old])
            })
            .collect();
        let count = ids.len();
        self.hash_weights = vec![0; count];
        self.usable = vec![false; count];
        self.open = vec![false; count];
        self.tied = vec![false; count];
        self.connections = vec![0; count];
        self.candidates = Vec::with_capacity(count);
        self.special = Vec::with_capacity(count);
        self.ids = ids;
        self.weights = weights;
        self.generation = Some(upstream.generation);
    }

    fn list_candidates(&mut self, upstream: &Upstream) {
        let algorithm = &upstream.balancing.algorithm;
        // Who hashes promises a client the same server: no share of it can be sent elsewhere.
        let by_share = !matches!(algorithm, Algorithm::IpHash | Algorithm::Hash(_));
        // Who looks at the load must know that failing fast is not being idle.
        let by_errors = matches!(algorithm, Algorithm::LeastConnections | Algorithm::PeakEwma);
        self.candidates.clear();
        self.special.clear();
        for (i, server) in upstream.servers.iter().enumerate() {
            let access = self.access[i];
            self.usable[i] = access != Access::No && self.weights[i] > 0;
            if !self.usable[i] {
                continue;
            }
            self.candidates.push(i as u16);
            let mut share = if by_share { server.health().share } else { FULL };
            if by_errors {
                let good = 16 - server.errors.sixteenths();
                share = (u32::from(share) * good / 16) as u16;
            }
            let special = Special {
                server: i as u16,
                share: share.max(FULL / 64), // never nothing: how else would it prove itself?
                trial: access == Access::Trial,
                limited: server.gate.has_limit(),
            };
            if special.share < FULL || special.trial || special.limited {
                self.special.push(special);
            }
        }
    }

    /// Works out whom this request may go to.
    fn open_for(&mut self, upstream: &Upstream, input: &PickInput<'_>) {
        self.open.copy_from_slice(&self.usable);
        let mut left = self.candidates.len();
        for id in input.tried {
            if let Some(server) = self.ids.iter().position(|known| known == id) {
                left -= usize::from(self.open[server]);
                self.open[server] = false;
            }
        }
        for special in &self.special {
            let i = usize::from(special.server);
            let gate = &upstream.servers[i].gate;
            let shut = special.trial && gate.in_trial() || special.limited && gate.is_full();
            if shut && self.open[i] {
                left -= 1;
                self.open[i] = false;
            }
        }
        // Shares come last: they must not leave a request without any server.
        for special in self.special.iter().filter(|special| special.share < FULL) {
            let i = usize::from(special.server);
            let drawn = key::scale(key::mix(input.random ^ u64::from(self.ids[i])), FULL.into());
            if self.open[i] && left > 1 && drawn >= special.share.into() {
                left -= 1;
                self.open[i] = false;
            }
        }
    }

    /// The server for a request that [`Self::open_for`] was called for.
    fn choose(
        &mut self,
        upstream: &Upstream,
        input: &PickInput<'_>,
        attempt: usize,
    ) -> Option<(usize, Reason)> {
        // A backup off duty is not absent: its clients go back to those it stood in for.
        let on_duty = |&i: &usize| self.access[i] != Access::No || self.hash_weights[i] > 0;
        if let Some(pinned) = pinned(upstream, input).filter(on_duty) {
            let may = self.access[pinned] != Access::No
                && !input.tried.contains(&self.ids[pinned])
                && (attempt == 0 || self.open[pinned])
                && !upstream.servers[pinned].gate.is_full();
            if may {
                return Some((pinned, Reason::Sticky));
            }
            return sticky::stand_in(pinned, &self.open).map(|i| (i, Reason::StandIn));
        }
        let open = &self.open;
        let found = match &upstream.balancing.algorithm {
            Algorithm::RoundRobin => {
                let step = usize::from(!self.dry);
                let turn = upstream.shared.turn.fetch_add(step, Ordering::Relaxed);
                return round_robin::pick(turn, &self.candidates, open)
                    .map(|i| (i, Reason::Algorithm));
            }
            Algorithm::WeightedRoundRobin => {
                return self.smooth.pick(open).map(|i| (i, Reason::Algorithm));
            }
            Algorithm::IpHash => ip_hash::pick(input.client, &self.hash_weights, open),
            Algorithm::Hash(hash) => {
                let table = self.table.as_deref();
                with_key(&hash.on, input, |key| match table? {
                    Table::Maglev(table) => table.pick(key::hash(key::SERVER, key), open),
                    Table::Ketama(ring) => ring.pick(key, open),
                    Table::Modulo => modulo::pick(key, &self.hash_weights, open),
                })
            }
            Algorithm::LeastConnections => {
                for &i in &self.candidates {
                    let i = usize::from(i);
                    self.connections[i] = upstream.servers[i].gate.total();
                }
                let (ties, tied) = (&mut self.smooth, &mut self.tied);
                return least_connections::pick(&self.connections, &self.weights, open, ties, tied)
                    .map(|i| (i, Reason::Algorithm));
            }
            Algorithm::PeakEwma => peak_ewma::pick(&self.candidates, open, input.random, |i| {
                let server = &upstream.servers[i];
                let pending = server.gate.total() as f32;
                // Before the first answer nothing is known: one request may find out.
                let unknown = if pending > 0.0 { f32::MAX } else { 0.0 };
                let latency = server.latency.expect(input.now);
                latency.map_or(unknown, |l| l * (pending + 1.0) / self.weights[i] as f32)
            }),
        };
        found
            .map(|i| (i, Reason::Algorithm))
            .or_else(|| self.smooth.pick(&self.open).map(|i| (i, Reason::Turn)))
    }
}

/// A draining server's own clients, where the configuration lets them stay.
fn pinned_to_draining(upstream: &Upstream, input: &PickInput<'_>) -> Option<InFlight> {
    if !upstream.cookies.as_ref()?.settings.drain {
        return None;
    }
    let server = &upstream.servers[pinned(upstream, input)?];
    if server.state() != super::State::Draining || input.tried.contains(&server.id) {
        return None;
    }
    let entry = Entry { counted: server.is_counted(), trial: false, up_to: 1 };
    server.begin_as(input.thread, entry).map(|in_flight| in_flight.begun(input.now))
}

/// The server that the client's sticky cookie names.
fn pinned(upstream: &Upstream, input: &PickInput<'_>) -> Option<usize> {
    let cookies = upstream.cookies.as_ref()?;
    cookies.server(input.request.cookie(&cookies.settings.cookie)?)
}

/// Calls `pick` with what is to be hashed; without it there is no hash.
fn with_key(
    on: &HashKey,
    input: &PickInput<'_>,
    pick: impl FnOnce(&[u8]) -> Option<usize>,
) -> Option<usize> {
    match on {
        HashKey::ClientAddress => match input.client?.to_canonical() {
            std::net::IpAddr::V4(address) => pick(&address.octets()),
            std::net::IpAddr::V6(address) => pick(&address.octets()),
        },
        HashKey::Header(name) => pick(input.request.header(name)?),
        HashKey::Cookie(name) => pick(input.request.cookie(name)?),
        HashKey::Path => pick(input.request.path()),
    }
}

// === the views of this thread ===

/// A view and the upstream that it is of.
type Entries = Vec<(usize, Weak<Shared>, Box<View>)>;

/// A number that nobody foresees, for callers without one of their own.
pub(super) fn random() -> u64 {
    thread_local! {
        static RANDOM: RefCell<key::Random> = RefCell::new(key::Random::new(
            std::hash::RandomState::new().hash_one(0), // from the kernel, once per thread
        ));
    }
    RANDOM.with_borrow_mut(key::Random::draw)
}

thread_local! {
    /// By the upstream's number. Each has as many entries as thread numbers are used on this
    /// operating system thread: one, but for tests.
    static VIEWS: RefCell<Vec<Entries>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with this thread's view of this upstream.
pub(super) fn with<R>(upstream: &Upstream, thread: usize, f: impl FnOnce(&mut View) -> R) -> R {
    let id = upstream.shared.id as usize;
    VIEWS.with_borrow_mut(|views| {
        if views.len() <= id {
            views.resize_with(id + 1, Vec::new);
        }
        let found = views[id].iter().position(|(of, ..)| *of == thread);
        let at = found.unwrap_or_else(|| {
            // A new upstream is a good moment to forget those that are gone.
            for views in views.iter_mut() {
                views.retain(|(_, shared, _)| shared.strong_count() > 0);
            }
            views[id].push((thread, Arc::downgrade(&upstream.shared), Box::default()));
            views[id].len() - 1
        });
        f(&mut views[id][at].2)
    })
}
