//! Load against a machine from within its own network, with every failure counted and told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::Instant;

use super::client::{Client, Kind};
use super::http::Failure;
use super::waiting::poll;

/// Clients that ask in a loop, one thread each.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    /// What each of them does.
    kinds: Vec<Kind>,
    /// How long each rests between an answer and its next request: on two cores the clients must
    /// leave something to those they ask.
    rest: Duration,
    /// How long the slow requests take.
    slow: Duration,
    /// Where they ask.
    port: u16,
    /// Which host they ask for, and more fields of their requests.
    host: (String, String),
    /// Which path.
    path: String,
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
    /// When, in microseconds after the start, the last good answer came to anybody but a slow
    /// client, and the longest time so far in which none did.
    last: AtomicU64,
    gap: AtomicU64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many kinds of clients asked.
    kinds: usize,
    /// Requests answered with 200.
    pub(crate) ok: u64,
    /// How many of them each kind of client got.
    pub(crate) answers: BTreeMap<Kind, u64>,
    /// How often each body came.
    pub(crate) bodies: BTreeMap<String, u64>,
    /// Connections made.
    pub(crate) connections: u64,
    /// WebSockets that the server closed in good order.
    pub(crate) closed: u64,
    /// Every request that failed.
    pub(crate) failed: Vec<Failed>,
    /// The longest time in which nobody got a good answer.
    pub(crate) outage: Duration,
    /// How long nobody had got one when it was over.
    pub(crate) silent_at_end: Duration,
    /// The longest that one answer took.
    pub(crate) slowest: Duration,
}

/// A request that failed, and when after the start of the load.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failed {
    /// Whose it was.
    pub(crate) client: Kind,
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
        let mut kinds = vec![Kind::Kept; kept_alive];
        kinds.resize(kept_alive + connecting, Kind::Connecting);
        let (rest, slow) = (Duration::from_millis(10), Duration::from_secs(2));
        let host = ("test".to_owned(), String::new());
        Self { kinds, rest, slow, port: 80, host, path: "/".to_owned() }
    }

    /// Another host, with a cookie.
    pub(crate) fn with_cookie(self, host: &str, cookie: &str) -> Self {
        Self { host: (host.to_owned(), format!("Cookie: {cookie}\r\n")), ..self }
    }

    /// Another host and path, with more fields.
    pub(crate) fn asking(self, host: &str, path: &str, fields: &str) -> Self {
        Self { host: (host.to_owned(), fields.to_owned()), path: path.to_owned(), ..self }
    }

    /// Slow requests that take so long.
    pub(crate) fn slow(self, slow: Duration) -> Self {
        Self { slow, ..self }
    }

    /// With a longer rest, for where it is time that passes and not requests that count.
    pub(crate) fn unhurried(self) -> Self {
        Self { rest: Duration::from_millis(30), ..self }
    }

    /// On another port than the front's.
    pub(crate) fn on(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// And requests that take 2 s, uploads that take a while, and WebSockets that echo, as
    /// tests/apps/deploy serves them.
    pub(crate) fn with(mut self, slow: usize, uploads: usize, web_sockets: usize) -> Self {
        let more = [(Kind::Slow, slow), (Kind::Upload, uploads), (Kind::WebSocket, web_sockets)];
        for (kind, count) in more {
            self.kinds.extend(std::iter::repeat_n(kind, count));
        }
        self
    }

    /// And clients that speak HTTP/2, where `[listen.http]` has `http2 = true`.
    pub(crate) fn speaking_http2(mut self, count: usize) -> Self {
        self.kinds.extend(std::iter::repeat_n(Kind::Http2, count));
        self
    }
}

impl Load {
    /// Sets them to work against port 80 of the machine with this network.
    pub(crate) fn start(network: File, clients: Clients) -> Self {
        let network = Arc::new(network);
        let shared = Arc::new(Shared {
            clients,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            last: AtomicU64::new(0),
            gap: AtomicU64::new(0),
        });
        let kinds = shared.clients.kinds.clone();
        let threads = kinds
            .into_iter()
            .map(|kind| {
                let (shared, network) = (Arc::clone(&shared), Arc::clone(&network));
                std::thread::spawn(move || {
                    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                        .expect("tests run as root");
                    shared.ask(kind)
                })
            })
            .collect();
        Self { shared, threads }
    }

    /// Waits until this many more requests have been answered well.
    #[track_caller]
    pub(crate) fn goes_on_for(&self, answers: u64) {
        let enough = self.answered() + answers;
        poll(&format!("{answers} more good answers under load"), || {
            (self.answered() >= enough).then_some(())
        });
    }

    /// The time since the start, as failures have it.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Requests that were answered well.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Tally {
        let stopped = self.shared.start.elapsed();
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            all.add(thread.join().expect("a client does not panic"));
        }
        all.failed.sort();
        // What is still out at the end counts, too.
        let last = Duration::from_micros(self.shared.last.load(Ordering::Relaxed));
        let gap = Duration::from_micros(self.shared.gap.load(Ordering::Relaxed));
        all.silent_at_end = stopped.saturating_sub(last);
        all.outage = gap.max(all.silent_at_end);
        all.kinds = self.shared.clients.kinds.iter().collect::<BTreeSet<_>>().len();
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
    fn note_answer(&self) {
        let now = u64::try_from(self.start.elapsed().as_micros()).expect("a test is short");
        let last = self.last.fetch_max(now, Ordering::Relaxed);
        self.gap.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
    }

    fn ask(&self, kind: Kind) -> Tally {
        let mut tally = Tally::default();
        let Clients { port, slow, host: (host, fields), path, .. } = &self.clients;
        let mut client = Client::new(kind, *port, *slow).asking_for(host, path, fields);
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            match client.ask() {
                Ok(Some(body)) => {
                    tally.ok += 1;
                    *tally.bodies.entry(body).or_default() += 1;
                    *tally.answers.entry(kind).or_default() += 1;
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    if kind != Kind::Slow {
                        self.note_answer();
                    }
                }
                Ok(None) => tally.closed += 1,
                Err(failure) => tally.failed.push(Failed {
                    client: kind,
                    asked: asked - self.start,
                    seen: self.start.elapsed(),
                    failure,
                }),
            }
            if kind != Kind::Slow {
                tally.slowest = tally.slowest.max(asked.elapsed());
            }
            std::thread::sleep(self.clients.rest);
        }
        tally.connections = client.connections();
        tally
    }
}

impl Tally {
    /// Fails the test if one request failed, and tells of all that did.
    #[track_caller]
    pub(crate) fn assert_nothing_failed(&self) {
        assert!(self.failed.is_empty(), "{self}");
        assert!(self.ok > 0, "no request was made");
        // A kind that never got an answer and never failed has not been tried.
        assert!(self.answers.len() == self.kinds, "some clients never got an answer: {self}");
    }

    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.connections += other.connections;
        self.closed += other.closed;
        self.failed.extend(other.failed);
        self.slowest = self.slowest.max(other.slowest);
        for (kind, count) in other.answers {
            *self.answers.entry(kind).or_default() += count;
        }
        for (body, count) in other.bodies {
            *self.bodies.entry(body).or_default() += count;
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ok, answers, connections, closed, failed, slowest, outage, .. } = self;
        writeln!(
            f,
            "{ok} answered ({answers:?}) over {connections} connections, {closed} WebSockets closed, \
             {} failed, slowest {slowest:?}, longest time without an answer {outage:?}",
            failed.len()
        )?;
        for Failed { client, asked, seen, failure } in failed.iter().take(50) {
            writeln!(f, "  {client:?}: asked at {asked:.3?}, seen at {seen:.3?}: {failure:?}")?;
        }
        Ok(())
    }
}
