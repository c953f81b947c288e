//! Load against a machine from within its own network, with every failure counted and told.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::Instant;

use super::http::{Connection, Failure};
use super::machine::poll;

/// Clients that ask in a loop, one thread each.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    /// How many keep their connection.
    pub(crate) kept_alive: usize,
    /// How many connect anew for each request.
    pub(crate) connecting: usize,
    /// How long each rests between an answer and its next request: on two cores the clients must
    /// leave something to those they ask.
    pub(crate) rest: Duration,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Tally>>,
}

#[derive(Debug)]
struct Shared {
    clients: Clients,
    start: Instant,
    stop: AtomicBool,
    answered: AtomicU64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests answered with 200.
    pub(crate) ok: u64,
    /// How often each body came.
    pub(crate) bodies: BTreeMap<String, u64>,
    /// Connections made.
    pub(crate) connections: u64,
    /// Every request that failed.
    pub(crate) failed: Vec<Failed>,
    /// The longest that one answer took.
    pub(crate) slowest: Duration,
}

/// A request that failed, and when after the start of the load.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failed {
    /// When the client began with it.
    pub(crate) asked: Duration,
    /// When it learnt of the failure.
    pub(crate) seen: Duration,
    /// What went wrong.
    pub(crate) failure: Failure,
}

impl Failed {
    /// Whether the connection ended under it, as opposed to a refusal or a bad answer.
    pub(crate) fn is_lost_connection(&self) -> bool {
        matches!(self.failure, Failure::Lost { .. } | Failure::Cut(_))
    }
}

impl Clients {
    /// So many that keep their connection, and so many that connect anew for each request.
    pub(crate) fn new(kept_alive: usize, connecting: usize) -> Self {
        Self { kept_alive, connecting, rest: Duration::from_millis(10) }
    }
}

impl Load {
    /// Sets them to work against port 80 of the machine with this first process.
    pub(crate) fn start(leader: u32, clients: Clients) -> Self {
        let network = File::open(format!("/proc/{leader}/ns/net")).expect("the machine runs");
        let network = Arc::new(network);
        let shared = Arc::new(Shared {
            clients,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        });
        let Clients { kept_alive, connecting, .. } = shared.clients;
        let threads = (0..kept_alive + connecting)
            .map(|client| {
                let (shared, network) = (Arc::clone(&shared), Arc::clone(&network));
                std::thread::spawn(move || {
                    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                        .expect("tests run as root");
                    shared.ask(client < kept_alive)
                })
            })
            .collect();
        Self { shared, threads }
    }

    /// Waits until this many more requests have been answered well.
    #[track_caller]
    pub(crate) fn goes_on_for(&self, answers: u64) {
        let enough = self.shared.answered.load(Ordering::Relaxed) + answers;
        poll(&format!("{answers} more good answers under load"), || {
            (self.shared.answered.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    /// The time since the start, as failures have it.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            all.add(thread.join().expect("a client does not panic"));
        }
        all.failed.sort();
        all
    }
}

impl Drop for Load {
    /// A test that fails must not leave its clients asking.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn ask(&self, keep_alive: bool) -> Tally {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let mut tally = Tally::default();
        let mut kept: Option<Connection> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let mut ask = || -> Result<String, Failure> {
                let mut connection = if let Some(connection) = kept.take() {
                    connection
                } else {
                    tally.connections += 1;
                    Connection::open(address)?
                };
                let close = if keep_alive { "" } else { "Connection: close\r\n" };
                let response = connection.get("test", "/", close)?;
                if keep_alive && !response.closes() {
                    kept = Some(connection);
                }
                match response.status {
                    200 => Ok(response.body),
                    status => Err(Failure::Status(status, response.body)),
                }
            };
            match ask() {
                Ok(body) => {
                    tally.ok += 1;
                    *tally.bodies.entry(body).or_default() += 1;
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => tally.failed.push(Failed {
                    asked: asked - self.start,
                    seen: self.start.elapsed(),
                    failure,
                }),
            }
            tally.slowest = tally.slowest.max(asked.elapsed());
            std::thread::sleep(self.clients.rest);
        }
        tally
    }
}

impl Tally {
    /// Fails the test if one request failed, and tells of all that did.
    #[track_caller]
    pub(crate) fn assert_nothing_failed(&self) {
        assert!(self.failed.is_empty(), "{self}");
        assert!(self.ok > 0, "no request was made");
    }

    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.connections += other.connections;
        self.failed.extend(other.failed);
        self.slowest = self.slowest.max(other.slowest);
        for (body, count) in other.bodies {
            *self.bodies.entry(body).or_default() += count;
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ok, connections, failed, slowest, .. } = self;
        writeln!(
            f,
            "{ok} answered over {connections} connections, {} failed, slowest {slowest:?}",
            failed.len()
        )?;
        for Failed { asked, seen, failure } in failed.iter().take(50) {
            writeln!(f, "  asked at {asked:.3?}, seen at {seen:.3?}: {failure:?}")?;
        }
        Ok(())
    }
}
