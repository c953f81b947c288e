//! Runs a scenario: all proxies in turn, round after round, so that whatever slows the machine
//! slows all of them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::{self, Outcome, Pace, Plan, Work};
use crate::peer::{Peer, Running};
use crate::process::{CpuTime, Family};
use crate::scenario::{Kind, Scenario};
use crate::stats::{self, Spread};

/// Lets pools fill and code warm up before each measured window.
const WARM: Duration = Duration::from_millis(150);

/// The measured window of one proxy in one round.
const WINDOW: Duration = Duration::from_millis(500);

/// Of the latency scenario, so that p99.9 stands on more than a few requests.
const LATENCY_WINDOW: Duration = Duration::from_millis(1500);

/// A crowd takes seconds to come and go.
const CROWD_ROUNDS: usize = 9;

/// How long a proxy may take to close a crowd's connections, which must not cost the next one time.
const FAREWELL: Duration = Duration::from_millis(500);

/// Memory changes little between rounds, and each takes a new process.
const MEMORY_ROUNDS: usize = 3;

/// What one proxy did in one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    /// What this scenario compares, by round: CPU microseconds per request, p99 in microseconds, or
    /// bytes.
    pub(crate) figures: Vec<f64>,
    pub(crate) spread: Option<Spread>,
    /// Share of the CPU time that was spent in user mode.
    pub(crate) user_share: Option<f64>,
    /// Share of its core that the proxy used; below 1, the generator's core is what limits.
    pub(crate) busy: Option<f64>,
    pub(crate) per_second: Option<Spread>,
    pub(crate) p50_us: Option<Spread>,
    pub(crate) p99_us: Option<Spread>,
    pub(crate) p999_us: Option<Spread>,
    /// What a crowd of idle connections makes of a latency, by round.
    pub(crate) p50_beside_alone: Option<Spread>,
    pub(crate) p99_beside_alone: Option<Spread>,
    /// The same of the CPU time per request.
    pub(crate) cpu_beside_alone: Option<Spread>,
    pub(crate) system_calls: Option<f64>,
    pub(crate) requests: u64,
    pub(crate) errors: Vec<String>,
}

/// Figures of one proxy, round by round.
#[derive(Default)]
struct Rounds {
    figures: Vec<f64>,
    cpu: CpuTime,
    /// Microseconds per request.
    per_request: Vec<f64>,
    busy: Vec<f64>,
    per_second: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
    system_calls: Option<f64>,
    requests: u64,
    errors: Vec<String>,
    /// The same proxy without the crowd.
    alone: Option<Box<Rounds>>,
}

/// Runs one scenario for these proxies.
pub(crate) fn scenario(
    scenario: &Scenario,
    peers: &[Peer],
    upstream: SocketAddr,
    rounds: usize,
    rate: Option<f64>,
) -> Result<Vec<Row>> {
    let mut all: Vec<Rounds> = peers.iter().map(|_| Rounds::default()).collect();
    match scenario.kind {
        Kind::Load { connections, work } => {
            let measure = Setup { connections, work, pace: Pace::Closed, window: WINDOW };
            interleaved(peers, upstream, rounds, &mut all, measure)?;
        }
        Kind::Latency { connections, work } => {
            let rate = rate.context("a rate for the latency scenario")?;
            let pace = Pace::Rate(rate);
            let measure = Setup { connections, work, pace, window: LATENCY_WINDOW };
            interleaved(peers, upstream, rounds, &mut all, measure)?;
        }
        Kind::Crowd { connections, idle, work } => {
            let pace = Pace::Rate(rate.context("a rate for the latency scenario")?);
            let measure = Setup { connections, work, pace, window: LATENCY_WINDOW };
            let rounds = rounds.min(CROWD_ROUNDS);
            beside_a_crowd(peers, upstream, rounds, &mut all, (measure, idle))?;
        }
        Kind::Memory { connections } => {
            for round in 0..rounds.min(MEMORY_ROUNDS) {
                for i in order(round, peers.len()) {
                    if let Err(error) = memory(&peers[i], upstream, connections, &mut all[i]) {
                        all[i].errors.push(format!("{error:#}"));
                    }
                }
            }
        }
    }
    Ok(peers.iter().zip(all).map(|(peer, rounds)| rounds.into_row(peer)).collect())
}

/// Half of nginx's throughput with these connections, measured now.
pub(crate) fn half_of_peak(upstream: SocketAddr, connections: usize, work: Work) -> Result<f64> {
    let measure = Setup { connections, work, pace: Pace::Closed, window: WINDOW };
    let mut all = [Rounds::default()];
    interleaved(&[Peer::Nginx], upstream, 5, &mut all, measure)?;
    let [rounds] = all;
    let peak = Spread::of(rounds.per_second).context("no throughput of nginx")?;
    Ok(peak.median / 2.0)
}

/// How one proxy is measured in one round.
#[derive(Clone, Copy)]
struct Setup {
    connections: usize,
    work: Work,
    pace: Pace,
    window: Duration,
}

fn interleaved(
    peers: &[Peer],
    upstream: SocketAddr,
    rounds: usize,
    all: &mut [Rounds],
    setup: Setup,
) -> Result<()> {
    let running: Vec<Running> = peers.iter().map(|p| p.start(upstream)).collect::<Result<_>>()?;
    let families: Vec<Family> = running.iter().map(Running::family).collect::<Result<_>>()?;
    for round in 0..rounds {
        for i in order(round, peers.len()) {
            let plan = setup.plan(running[i].address_for(setup.work), setup.window);
            match load::run(plan, || families[i].cpu()) {
                Ok((outcome, [before, after])) => {
                    all[i].take(&outcome, after.since(before), matches!(setup.pace, Pace::Rate(_)));
                }
                Err(error) => all[i].errors.push(format!("round {round}: {error:#}")),
            }
        }
    }
    for (i, family) in families.iter().enumerate() {
        let plan = setup.plan(running[i].address_for(setup.work), WINDOW);
        let counted = family.system_calls(|| Ok(load::run(plan, || Ok(()))?.0));
        let Ok((outcome, calls)) = counted else { continue }; // the rounds have said so already
        match calls {
            Ok(calls) => all[i].system_calls = Some(calls as f64 / outcome.total as f64),
            Err(error) => eprintln!("SKIPPED: system calls of {}: {error:#}", peers[i].name()),
        }
    }
    Ok(())
}

/// Measures each proxy beside idle connections and without them, one right after the other.
fn beside_a_crowd(
    peers: &[Peer],
    upstream: SocketAddr,
    rounds: usize,
    all: &mut [Rounds],
    (setup, idle): (Setup, usize),
) -> Result<()> {
    let running: Vec<Running> = peers.iter().map(|p| p.start(upstream)).collect::<Result<_>>()?;
    let families: Vec<Family> = running.iter().map(Running::family).collect::<Result<_>>()?;
    for round in 0..rounds {
        for i in order(round, peers.len()) {
            let address = running[i].address_for(setup.work);
            let run = || load::run(setup.plan(address, setup.window), || families[i].cpu());
            let both = || {
                let alone = run()?;
                let beside = load::idle(address, idle, run)?;
                std::thread::sleep(FAREWELL);
                anyhow::Ok((alone, beside))
            };
            let rounds = &mut all[i];
            match both() {
                Ok(((alone, [from, to]), (beside, [before, after]))) => {
                    rounds.alone.get_or_insert_default().take(&alone, to.since(from), true);
                    rounds.take(&beside, after.since(before), true);
                }
                Err(error) => rounds.errors.push(format!("round {round}: {error:#}")),
            }
        }
    }
    Ok(())
}

/// Everybody is first in turn.
fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (round + i) % count)
}

fn memory(
    peer: &Peer,
    upstream: SocketAddr,
    connections: usize,
    rounds: &mut Rounds,
) -> Result<()> {
    let running = peer.start(upstream)?;
    let family = running.family()?;
    // What a working proxy has anyway is not what idle connections cost.
    let work = Work::Http { reply: 100, upload: 0, close: false, tls: false };
    let busy = Setup { connections: 64, work, pace: Pace::Closed, window: WARM };
    let (outcome, [_, before]) = load::run(busy.plan(running.address, WARM), || family.resident())?;
    let after = load::idle(running.address, connections, || family.resident())?;
    rounds.figures.push(after.saturating_sub(before) as f64);
    rounds.requests += outcome.total + connections as u64;
    rounds.errors.extend(outcome.first_errors);
    Ok(())
}

// === impl Setup ===

impl Setup {
    fn plan(&self, target: SocketAddr, window: Duration) -> Plan {
        Plan {
            target,
            connections: self.connections,
            work: self.work,
            pace: self.pace,
            warm: WARM,
            measure: window,
        }
    }
}

// === impl Rounds ===

impl Rounds {
    fn take(&mut self, outcome: &Outcome, cpu: CpuTime, latency: bool) {
        let per_request = cpu.total.as_secs_f64() * 1e6 / outcome.completed as f64;
        self.per_request.push(per_request);
        self.busy.push(cpu.total.as_secs_f64() / outcome.elapsed.as_secs_f64());
        self.cpu.total += cpu.total;
        self.cpu.user_ticks += cpu.user_ticks;
        self.cpu.system_ticks += cpu.system_ticks;
        self.per_second.push(outcome.completed as f64 / outcome.elapsed.as_secs_f64());
        let percentile = |q| stats::percentile(&outcome.latencies, q).unwrap_or(f64::NAN);
        self.p50.push(percentile(0.5));
        self.p99.push(percentile(0.99));
        self.p999.push(percentile(0.999));
        self.figures.push(if latency { percentile(0.99) } else { per_request });
        self.requests += outcome.total;
        if outcome.errors > 0 {
            self.errors.push(format!("{} errors: {:?}", outcome.errors, outcome.first_errors));
        }
    }

    fn into_row(self, peer: &Peer) -> Row {
        let ticks = self.cpu.user_ticks + self.cpu.system_ticks;
        let mut errors = self.errors;
        let (mut p50_beside_alone, mut p99_beside_alone, mut cpu_beside_alone) = (None, None, None);
        if let Some(alone) = self.alone {
            cpu_beside_alone = Spread::paired(&self.per_request, &alone.per_request);
            p50_beside_alone = Spread::paired(&self.p50, &alone.p50);
            p99_beside_alone = Spread::paired(&self.p99, &alone.p99);
            errors.extend(alone.errors);
        }
        Row {
            peer: peer.name(),
            spread: Spread::of(self.figures.iter().copied()),
            figures: self.figures,
            user_share: (ticks > 0).then(|| self.cpu.user_ticks as f64 / ticks as f64),
            busy: Spread::of(self.busy).map(|s| s.median),
            per_second: Spread::of(self.per_second),
            p50_us: Spread::of(self.p50),
            p99_us: Spread::of(self.p99),
            p999_us: Spread::of(self.p999),
            p50_beside_alone,
            p99_beside_alone,
            cpu_beside_alone,
            system_calls: self.system_calls,
            requests: self.requests,
            errors,
        }
    }
}
