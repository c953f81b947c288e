//! A named set of servers that requests are balanced over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::{InFlight, Server};
use crate::config::settings::Balancing;

/// A named set of servers.
#[derive(Debug)]
pub struct Upstream {
    /// `app:shop` or `upstream:api`.
    pub name: String,
    /// The servers, in the configuration's order.
    pub servers: Vec<Arc<Server>>,
    /// How they share the requests.
    pub balancing: Balancing,
    /// Requests that wait for a server to come up, over all threads.
    pub waiting: AtomicUsize,
    turn: AtomicUsize,
}

/// What picking came to.
#[derive(Debug)]
pub enum Picked {
    /// This server, with the request counted in.
    Server(InFlight),
    /// No server is up that has not been tried.
    NoneUp,
}

impl Upstream {
    /// An upstream of these servers.
    pub fn new(name: impl Into<String>, servers: Vec<Arc<Server>>, balancing: Balancing) -> Self {
        Self {
            name: name.into(),
            servers,
            balancing,
            waiting: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    /// Picks a server that is up and not among `tried` (ids), for a request on `thread`.
    pub fn pick(&self, thread: usize, tried: &[u32]) -> Picked {
        let count = self.servers.len();
        if count == 0 {
            return Picked::NoneUp;
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for step in 0..count {
            let server = &self.servers[first.wrapping_add(step) % count];
            if tried.contains(&server.id) {
                continue;
            }
            if let Some(in_flight) = server.begin(thread) {
                return Picked::Server(in_flight);
            }
        }
        Picked::NoneUp
    }
}
