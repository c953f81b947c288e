//! The load generator: many connections, one thread, every reply checked.

mod conn;
mod http2;
mod reply;
mod stream;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::poll::{Poll, Ready};
pub(crate) use conn::Work;
use conn::{Conn, Progress};

/// The window in which a reply that is still due may come after the last request.
const DRAIN: Duration = Duration::from_secs(10);

/// Errors after which a run is given up.
const TOO_MANY: usize = 50;

const SCRATCH: usize = 256 * 1024;

/// What to do to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) work: Work,
    pub(crate) pace: Pace,
    pub(crate) warm: Duration,
    pub(crate) measure: Duration,
}

/// When a request is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the connection's last reply has come: what the proxy can do at most.
    Closed,
    /// At a fixed rate, per second, whatever the replies do. One that finds no free connection
    /// waits for it, and the time it waits counts: latency is from when the request was due.
    Rate(f64),
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Replies within the measured window.
    pub(crate) completed: u64,
    /// Replies in all, the warm-up and the end included.
    pub(crate) total: u64,
    pub(crate) elapsed: Duration,
    /// Of the replies to requests that were due in the window, in nanoseconds, sorted.
    pub(crate) latencies: Vec<u64>,
    pub(crate) errors: usize,
    pub(crate) first_errors: Vec<String>,
}

/// A run under way.
struct Run {
    plan: Plan,
    poll: Poll,
    conns: Vec<Option<Conn>>,
    idle: Vec<usize>,
    scratch: Vec<u8>,
    next_id: u64,
    /// When the next request of a fixed rate is due.
    next_due: Instant,
    started: Instant,
    window: Option<(Instant, Instant)>,
    sending: bool,
    outcome: Outcome,
}

/// Runs a plan; calls `probe` at both ends of the measured window and returns what it said.
pub(crate) fn run<T>(
    plan: Plan,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<(Outcome, [T; 2])> {
    if let Work::Http2 { streams, reply } = plan.work {
        return http2::run(plan, (streams, reply), probe);
    }
    let mut run = Run::open(plan)?;
    run.start();
    run.until(run.started + plan.warm)?;
    let before = probe()?;
    let begin = Instant::now();
    run.window = Some((begin, begin + plan.measure));
    run.until(begin + plan.measure)?;
    run.outcome.elapsed = begin.elapsed();
    let after = probe()?;
    run.catch_up(begin + plan.measure)?;
    run.sending = false;
    run.drain()?;
    run.outcome.latencies.sort_unstable();
    Ok((run.outcome, [before, after]))
}

/// Opens `count` connections that have each had one reply and idle since, calls `probe`, then closes
/// them.
pub(crate) fn idle<T>(
    target: SocketAddr,
    count: usize,
    probe: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let work = Work::Http { reply: 100, upload: 0, close: false, tls: false };
    let none = Duration::ZERO;
    let plan = Plan { target, connections: 0, work, pace: Pace::Closed, warm: none, measure: none };
    let mut run = Run::open(plan)?;
    run.sending = false;
    for token in 0..count {
        let conn = Conn::open(target, work)?;
        run.poll.add(conn.stream(), token)?;
        run.conns.push(Some(conn));
        run.send(token, Instant::now());
        if run.in_flight() >= 64 {
            run.drain()?;
        }
    }
    run.drain()?;
    ensure!(run.outcome.errors == 0, "{}", run.outcome.first_errors.join("; "));
    probe()
}

// === impl Run ===

impl Run {
    fn open(plan: Plan) -> Result<Self> {
        let now = Instant::now();
        let mut run = Self {
            plan,
            poll: Poll::new()?,
            conns: Vec::new(),
            idle: Vec::new(),
            scratch: vec![0; SCRATCH],
            next_id: 1,
            next_due: now,
            started: now,
            window: None,
            sending: true,
            outcome: Outcome::default(),
        };
        for token in 0..plan.connections {
            let mut conn = Conn::open(plan.target, plan.work)?;
            run.poll.add(conn.stream(), token)?;
            if plan.work == Work::WebSocket {
                conn.upgrade(now)?;
            }
            run.conns.push(Some(conn));
            run.idle.push(token);
        }
        if plan.work == Work::WebSocket {
            run.sending = false;
            run.drain()?;
            ensure!(run.outcome.errors == 0, "{}", run.outcome.first_errors.join("; "));
            run.outcome = Outcome::default();
            run.sending = true;
            run.idle = (0..plan.connections).collect();
        }
        Ok(run)
    }

    fn start(&mut self) {
        self.started = Instant::now();
        self.next_due = self.started;
        if let Pace::Closed = self.plan.pace {
            for token in std::mem::take(&mut self.idle) {
                self.send(token, self.started);
            }
        }
    }

    /// Sends and takes replies until this moment.
    fn until(&mut self, end: Instant) -> Result<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let mut wake = end;
            if let Pace::Rate(rate) = self.plan.pace {
                self.send_due(now, rate);
                if !self.idle.is_empty() {
                    wake = wake.min(self.next_due);
                }
            }
            self.turn(wake.saturating_duration_since(Instant::now()))?;
        }
    }

    /// Sends what is due and finds a free connection.
    fn send_due(&mut self, now: Instant, rate: f64) {
        while self.next_due <= now {
            let Some(token) = self.idle.pop() else { return };
            self.send(token, self.next_due);
            self.next_due += Duration::from_secs_f64(1.0 / rate);
        }
    }

    /// Sends what was due before `end` and found no free connection yet: leaving it out would hide
    /// the worst waits.
    fn catch_up(&mut self, end: Instant) -> Result<()> {
        let Pace::Rate(rate) = self.plan.pace else { return Ok(()) };
        let limit = end + DRAIN;
        while self.next_due < end {
            ensure!(Instant::now() < limit, "requests that found no free connection in {DRAIN:?}");
            self.send_due(end, rate);
            self.turn(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// Takes the replies that are still due.
    fn drain(&mut self) -> Result<()> {
        let end = Instant::now() + DRAIN;
        while self.in_flight() > 0 {
            let now = Instant::now();
            if now >= end {
                bail!("{} requests without a reply after {DRAIN:?}", self.in_flight());
            }
            self.turn(end - now)?;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.conns.iter().flatten().filter(|c| c.due.is_some()).count()
    }

    fn turn(&mut self, timeout: Duration) -> Result<()> {
        for i in 0..self.poll.wait(Some(timeout))? {
            let ready = self.poll.ready(i);
            self.news(ready);
        }
        if self.outcome.errors > TOO_MANY {
            bail!("too many errors: {}", self.outcome.first_errors.join("; "));
        }
        Ok(())
    }

    fn news(&mut self, ready: Ready) {
        let token = ready.token;
        let Some(conn) = self.conns[token].as_mut() else { return };
        let due = conn.due;
        match conn.drive(&mut self.scratch, ready.hangup) {
            Ok(Progress::Pending) => {}
            Ok(Progress::Done) => {
                self.count(due);
                self.free(token);
            }
            Ok(Progress::Ended) => {
                self.count(due);
                self.reopen(token);
            }
            Err(error) => {
                self.fail(&error);
                if due.is_none() {
                    self.idle.retain(|&idle| idle != token);
                }
                self.reopen(token);
            }
        }
    }

    fn count(&mut self, due: Option<Instant>) {
        self.outcome.total += 1;
        let (Some(due), Some((begin, end))) = (due, self.window) else { return };
        let now = Instant::now();
        if now < end {
            self.outcome.completed += 1;
        }
        if (begin..end).contains(&due) {
            self.outcome.latencies.push((now - due).as_nanos() as u64);
        }
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.outcome.errors += 1;
        if self.outcome.first_errors.len() < 5 {
            self.outcome.first_errors.push(format!("{error:#}"));
        }
    }

    /// This connection can take a request.
    fn free(&mut self, token: usize) {
        match self.plan.pace {
            Pace::Closed if self.sending => self.send(token, Instant::now()),
            _ => self.idle.push(token),
        }
    }

    fn reopen(&mut self, token: usize) {
        self.conns[token] = None;
        if !self.sending {
            return;
        }
        let opened = Conn::open(self.plan.target, self.plan.work).and_then(|mut conn| {
            self.poll.add(conn.stream(), token)?;
            if self.plan.work == Work::WebSocket {
                conn.upgrade(Instant::now())?;
            }
            Ok(conn)
        });
        match opened {
            Ok(conn) => {
                let busy = conn.due.is_some();
                self.conns[token] = Some(conn);
                if !busy {
                    self.free(token);
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn send(&mut self, token: usize, due: Instant) {
        let Some(conn) = self.conns[token].as_mut() else { return };
        let id = self.next_id;
        self.next_id += 1;
        if let Err(error) = conn.request(id, due) {
            self.fail(&error);
            self.conns[token] = None;
        }
    }
}
