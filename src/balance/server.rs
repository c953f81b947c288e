//! One server: what every thread of the front knows about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::config::settings::Address;

/// Whether a server may get requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It may.
    Up = 0,
    /// Nothing new; what is in flight finishes.
    Draining = 1,
    /// Nothing at all.
    Down = 2,
}

/// One server of an upstream, shared by all threads.
#[derive(Debug)]
pub struct Server {
    /// `shop:1` for a worker, the address for others.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Process-wide number of this server, for per-thread tables such as connection pools.
    pub id: u32,
    state: AtomicU8,
    /// Grows each time the server comes back: pooled connections of an older one are stale.
    incarnation: AtomicU32,
    threads: Box<[ThreadCounters]>,
}

/// What one thread counts about one server; its own cache line, so that threads do not contend.
#[derive(Debug, Default)]
#[repr(align(64))]
struct ThreadCounters {
    in_flight: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
}

/// One request in flight at a server; dropping it counts it out.
#[derive(Debug)]
pub struct InFlight {
    server: Arc<Server>,
    thread: usize,
}

// === impl Server ===

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// A server that is up until somebody says otherwise.
    pub fn new(name: impl Into<String>, address: Address, threads: usize) -> Self {
        Self {
            name: name.into(),
            address,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            state: AtomicU8::new(State::Up as u8),
            incarnation: AtomicU32::new(0),
            threads: (0..threads).map(|_| ThreadCounters::default()).collect(),
        }
    }

    /// Whether it may get requests now.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::SeqCst) {
            0 => State::Up,
            1 => State::Draining,
            _ => State::Down,
        }
    }

    /// Changes the state; true when it was another one before.
    pub fn set_state(&self, state: State) -> bool {
        let before = self.state.swap(state as u8, Ordering::SeqCst);
        if state == State::Up && before != State::Up as u8 {
            self.incarnation.fetch_add(1, Ordering::SeqCst);
        }
        before != state as u8
    }

    /// Which life of the server this is.
    pub fn incarnation(&self) -> u32 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// Counts a request in, unless the server takes none.
    ///
    /// It counts first and looks at the state second, a drain sets the state first and looks at
    /// the count second (all sequentially consistent): so either this sees the drain or the drain
    /// sees this.
    pub fn begin(self: &Arc<Self>, thread: usize) -> Option<InFlight> {
        let counters = &self.threads[thread];
        counters.in_flight.fetch_add(1, Ordering::SeqCst);
        let in_flight = InFlight { server: Arc::clone(self), thread };
        if self.state() != State::Up {
            return None; // dropping `in_flight` counts it out again
        }
        counters.requests.fetch_add(1, Ordering::Relaxed);
        Some(in_flight)
    }

    /// Requests in flight, over all threads.
    pub fn in_flight(&self) -> u32 {
        self.threads.iter().map(|t| t.in_flight.load(Ordering::SeqCst)).sum()
    }

    /// Requests begun, over all threads.
    pub fn requests(&self) -> u64 {
        self.threads.iter().map(|t| t.requests.load(Ordering::Relaxed)).sum()
    }

    /// Requests that this server failed, over all threads.
    pub fn failures(&self) -> u64 {
        self.threads.iter().map(|t| t.failures.load(Ordering::Relaxed)).sum()
    }
}

// === impl InFlight ===

impl InFlight {
    /// The server it is at.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Says that the server failed this request.
    pub fn failed(&self) {
        self.server.threads[self.thread].failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.server.threads[self.thread].in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
