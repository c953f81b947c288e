//! Picking one of an upstream's servers, and saying which it would be.

use tokio::time::Instant;

use super::access::Access;
use super::in_flight::InFlight;
use super::input::{NoKeys, PickInput};
use super::upstream::Upstream;
use super::view::{self, Reason, View};

/// What picking came to.
#[derive(Debug)]
pub enum Picked {
    /// This server, with the request counted in.
    Server(InFlight),
    /// No server that has not been tried is up and has room.
    NoneUp,
}

/// Where a request would go, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Index of the server, and why it.
    pub server: Option<(usize, Reason)>,
    /// What requests may do with each server.
    pub access: Vec<Access>,
    /// Whether this request may go to each server.
    pub open: Vec<bool>,
}

impl Upstream {
    /// Picks a server that is up and not among `tried` (ids), for a request on `thread` about
    /// which nothing else is known.
    pub fn pick(&self, thread: usize, tried: &[u32]) -> Picked {
        let random = view::random();
        let now = Instant::now();
        self.pick_for(&PickInput { thread, tried, client: None, request: &NoKeys, now, random })
    }

    /// Picks a server for this request and counts it in.
    pub fn pick_for(&self, input: &PickInput<'_>) -> Picked {
        view::with(self, input.thread, |view| view.pick(self, input))
            .map_or(Picked::NoneUp, Picked::Server)
    }

    /// Where this request would go, without sending it there. Takes its time: for people.
    pub fn explain(&self, input: &PickInput<'_>) -> Explanation {
        let (server, access, open) = View::default().explain(self, input);
        Explanation { server, access, open }
    }
}
