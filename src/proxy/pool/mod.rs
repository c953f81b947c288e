//! The connections to servers that a thread keeps for the next request, and when one may carry it.
//!
//! HTTP/1.1 numbers nothing: the first bytes after a request are its answer. A server that sends
//! something behind an answer (a body to `HEAD`, more than its `Content-Length`, …) would so answer
//! whoever asks next, with what was for another. Therefore a connection *rests* before it is used
//! again, and one on which anything comes meanwhile is closed, and its server given one request a
//! connection for a while. `docs/internals/request-path.md` says what that excludes and what it cannot.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::balance::Server;
use crate::systemd::message;

/// How much earlier than the server we stop using an idle connection: the request must arrive
/// there before the server's own timer runs out.
const MARGIN: Duration = Duration::from_secs(1);
/// How long a connection rests: longer than it takes a server to come to the next write of the same
/// answer.
const REST: Duration = Duration::from_millis(1);
/// How long it rests when the answer had no body that could be waited for, or when little is known of
/// the server: longer than a busy one takes for that.
const LONG_REST: Duration = Duration::from_millis(20);
/// Connections of a server that must have rested long, and quietly, before the others need not.
const PROOF: u32 = 128;
/// How many rest at most for the shorter time: of a server that answers oftener than that, the one that
/// has rested longest is used. Were there more, their memory would be cold each time.
const MOST_RESTING: usize = 16;

/// What there is to be read on a connection that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    /// The server has closed it.
    End,
    /// The server has said something that nobody asked for.
    Bytes,
}

/// A connection that may lie unused.
pub(crate) trait Unused {
    /// What there is to be read, as of when the thread last asked the kernel.
    fn look(&self) -> Seen;
}

/// What the last answer on a connection says about using it again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usable {
    /// Seconds that the server says it keeps it.
    pub(crate) idle: Option<u64>,
    /// The answer had no body: one that comes all the same is still to be expected.
    pub(crate) bodiless: bool,
}

/// A thread's unused connections, by server.
#[derive(Debug)]
pub(crate) struct Pool<S> {
    /// Sorted by the server's id: there are few servers, and looking one up is all that is done.
    servers: Vec<Kept<S>>,
}

/// The unused connections to one server.
#[derive(Debug)]
struct Kept<S> {
    server: Arc<Server>,
    /// Which life of the server they belong to.
    incarnation: u32,
    /// How many have rested long, and quietly.
    proof: u32,
    /// Those that have not rested for [`REST`], and those that have but need [`LONG_REST`]; each by when
    /// they are done.
    resting: [VecDeque<Idle<S>>; 2],
    /// Those that have rested. The last one was used last.
    rested: Vec<Idle<S>>,
}

#[derive(Debug)]
struct Idle<S> {
    stream: S,
    /// The only client whose requests may go here.
    client: Option<IpAddr>,
    /// Since when it rests.
    since: Instant,
    /// Whether it needs [`LONG_REST`].
    long: bool,
    /// When it is closed.
    until: Instant,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Self { servers: Vec::new() }
    }
}

impl<S: Unused> Pool<S> {
    /// The connection that was used last, if one can be used again.
    ///
    /// `client` is whom the server was told that a connection comes from, if it was told.
    pub(crate) fn take(
        &mut self,
        server: &Server,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Option<S> {
        let at = self.find(server.id).ok()?;
        let kept = &mut self.servers[at];
        kept.look_at_resting(now);
        while let Some(at) = kept.rested.iter().rposition(|idle| idle.client == client) {
            let connection = kept.rested.remove(at);
            match connection.stream.look() {
                Seen::Nothing if connection.until > now => return Some(connection.stream),
                Seen::Nothing | Seen::End => {}
                Seen::Bytes => {
                    kept.distrust(now);
                    return None;
                }
            }
        }
        None
    }

    /// Keeps a connection for `idle`, or for less when the server said so.
    pub(crate) fn put(
        &mut self,
        server: &Arc<Server>,
        (incarnation, client): (u32, Option<IpAddr>),
        (stream, usable): (S, Usable),
        (idle, most): (Duration, usize),
        now: Instant,
    ) {
        let own = usable.idle.map(|s| Duration::from_secs(s).saturating_sub(MARGIN));
        let idle = own.map_or(idle, |own| own.min(idle));
        let current = incarnation == server.incarnation();
        if idle.is_zero() || most == 0 || !current {
            return;
        }
        let at = self.find(server.id).unwrap_or_else(|at| {
            self.servers.insert(at, Kept::new(server));
            at
        });
        let kept = &mut self.servers[at];
        if !kept.is_usable(now) {
            return;
        }
        if kept.len() >= most {
            kept.drop_oldest();
        }
        let long = usable.bodiless || kept.proof < PROOF;
        kept.resting[0].push_back(Idle { stream, client, since: now, long, until: now + idle });
    }

    /// Closes every idle connection to this server.
    pub(crate) fn forget(&mut self, id: u32) {
        if let Ok(at) = self.find(id) {
            self.servers.remove(at);
        }
    }

    /// Closes all; whether there were any.
    pub(crate) fn clear(&mut self) -> bool {
        let any = self.servers.iter().any(|kept| kept.len() > 0);
        self.servers.iter_mut().for_each(Kept::close);
        any
    }

    /// Whether it has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.servers.iter().all(|kept| kept.len() == 0)
    }

    /// Closes those whose time is up and those on which anything came.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for kept in &mut self.servers {
            kept.look_at_resting(now);
            let mut spoke = false;
            kept.rested.retain(|idle| {
                let seen = idle.stream.look();
                spoke |= seen == Seen::Bytes;
                idle.until > now && seen == Seen::Nothing
            });
            if spoke {
                kept.distrust(now);
            }
        }
        // What is known of a server is kept for as long as there is one.
        self.servers.retain(|kept| kept.len() > 0 || Arc::strong_count(&kept.server) > 1);
    }

    fn find(&self, id: u32) -> Result<usize, usize> {
        self.servers.binary_search_by_key(&id, |kept| kept.server.id)
    }
}

impl<S: Unused> Kept<S> {
    fn new(server: &Arc<Server>) -> Self {
        Self {
            server: Arc::clone(server),
            incarnation: server.incarnation(),
            proof: 0,
            resting: Default::default(),
            rested: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.rested.len() + self.resting.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Makes room for another one.
    fn drop_oldest(&mut self) {
        if self.rested.is_empty() {
            let [new, old] = &mut self.resting;
            old.pop_front().or_else(|| new.pop_front());
        } else {
            self.rested.remove(0);
        }
    }

    /// Whether connections to the server may be used again. Those of an earlier life of it are closed,
    /// and all of them while they may not.
    fn is_usable(&mut self, now: Instant) -> bool {
        let incarnation = self.server.incarnation();
        let may_reuse = self.server.may_reuse(now);
        if self.incarnation != incarnation || !may_reuse {
            self.incarnation = incarnation;
            self.close_all();
        }
        may_reuse
    }

    /// Takes over those that have rested.
    fn look_at_resting(&mut self, now: Instant) {
        if !self.is_usable(now) {
            return;
        }
        for (stage, rest) in [REST, LONG_REST].into_iter().enumerate() {
            while let Some(idle) = self.next_rested(stage, rest, now) {
                match idle.stream.look() {
                    Seen::Nothing if stage == 0 && idle.long => self.resting[1].push_back(idle),
                    Seen::Nothing => {
                        self.proof = self.proof.saturating_add(stage as u32);
                        self.rested.push(idle);
                    }
                    Seen::End => {}
                    Seen::Bytes => return self.distrust(now),
                }
            }
        }
    }

    fn next_rested(&mut self, stage: usize, rest: Duration, now: Instant) -> Option<Idle<S>> {
        let many = stage == 0 && self.resting[0].len() > MOST_RESTING;
        self.resting[stage].pop_front_if(|idle| (many && !idle.long) || idle.since + rest <= now)
    }

    fn distrust(&mut self, now: Instant) {
        self.close_all();
        distrust(&self.server, now);
    }

    /// Closes all, and forgets what was known.
    fn close_all(&mut self) {
        self.proof = 0;
        self.close();
    }

    fn close(&mut self) {
        self.rested.clear();
        self.resting.iter_mut().for_each(VecDeque::clear);
    }
}

/// A server has sent what belongs to no answer: for a while none of its connections is used again.
pub(crate) fn distrust(server: &Server, now: Instant) {
    if let Some(penalty) = server.spoke_out_of_turn(now) {
        warn!(
            message_id = message::SERVER_SPOKE,
            roundsman_worker = server.name,
            "{} sent more than its answer: for {} s each connection to it carries one request, so that \
             nobody gets what was for another. Look for a body in an answer to HEAD, with status 204 or \
             304, or longer than its Content-Length",
            server.name,
            penalty.as_secs()
        );
    }
}
