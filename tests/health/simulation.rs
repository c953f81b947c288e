//! Simulated hours of an upstream under random faults and loads, thousands of them.
//!
//! Everything follows from the seed. `ROUNDSMAN_SEED=123 cargo test --test suite simulation` replays
//! the run that failed, and `ROUNDSMAN_RUNS=100000` makes more of them.

use std::collections::VecDeque;
use std::time::Duration;

use roundsman::balance::access::{self, Access};
use roundsman::balance::key::Random;
use roundsman::balance::{Counts, State};
use roundsman::balance::{FULL, HealthReason, Status};
use roundsman::config::settings::{Passive, StartState};
use roundsman::health::Transition;
use roundsman::health::group::{Group, Sight};
use roundsman::health::machine::{CheckOptions, Options};
use tokio::time::Instant;

/// What ails a server. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Dead,
    /// Of a hundred requests so many fail.
    Flaky(u64),
    /// Of a hundred responses so many are errors.
    Errors(u64),
    /// Requests fail, checks pass.
    Deceitful,
}

struct Server {
    state: State,
    fault: Fault,
    backup: bool,
    counts: Counts,
    status: Status,
    /// Whether a trial request is under way, and how it will end.
    trial: Option<bool>,
    /// Recent failures, kept by the simulation itself.
    failures: VecDeque<Instant>,
    ejected: Option<Instant>,
    next_check: Instant,
    last_share: u16,
}

struct Simulation {
    random: Random,
    now: Instant,
    passive: Passive,
    options: Options,
    interval: Duration,
    group: Group,
    servers: Vec<Server>,
    access: Vec<Access>,
    panic: bool,
    quiet: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let now = Instant::now();
        let mut below = |n: u64| random.draw() % n;
        let passive = Passive {
            max_fails: below(5) as u32,
            fail_window: Duration::from_secs(1 + below(20)),
            fail_timeout: Duration::from_secs(1 + below(20)),
            max_ejected: [0, 10, 50, 100][below(4) as usize],
            panic_threshold: [1, 30, 50, 100][below(4) as usize],
            error_rate: [0, 20, 50][below(3) as usize],
            min_requests: 10 + below(50) as u32,
            ..Passive::default()
        };
        let start = if below(2) == 0 { StartState::Up } else { StartState::Down };
        let checks = (below(2) == 0).then(|| CheckOptions {
            fails: 1 + below(3) as u32,
            passes: 1 + below(3) as u32,
            start,
        });
        let slow_start = Duration::from_secs(below(2) * below(30));
        let options = Options { checks, ..Options::new(&passive, None, slow_start) };
        let status = match checks {
            Some(CheckOptions { start: StartState::Down, .. }) => Status::Starting,
            _ => Status::Up,
        };
        let interval = Duration::from_millis(500 + below(4_000));
        let servers: Vec<_> = (0..=below(8))
            .map(|i| Server {
                state: State::Up,
                fault: Fault::None,
                backup: i > 0 && below(6) == 0,
                counts: Counts::default(),
                status,
                trial: None,
                failures: VecDeque::new(),
                ejected: None,
                next_check: now + Duration::from_millis(below(1_000)),
                last_share: 0,
            })
            .collect();
        let mut group = Group::new(passive.clone());
        let members = servers.iter().enumerate().map(|(id, server)| {
            let sight = Sight { state: State::Up, backup: server.backup, counts: server.counts };
            (id as u32, options.clone(), sight)
        });
        group.set_members(&passive, members, now);
        Self {
            random,
            now,
            passive,
            options,
            interval,
            group,
            servers,
            access: Vec::new(),
            panic: false,
            quiet: false,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.draw() % n
    }

    /// A tenth of a second.
    fn step(&mut self) {
        self.now += Duration::from_millis(100);
        if !self.quiet && self.below(50) == 0 {
            self.something_happens();
        }
        self.decide();
        for _ in 0..self.random.draw() % 8 {
            self.request();
        }
        for server in &mut self.servers {
            // A trial that began in an earlier step ends now.
            match server.trial.take() {
                Some(true) => {
                    server.counts.trials_passed += 1;
                    server.counts.answered += 1;
                }
                Some(false) => {
                    server.counts.trials_failed += 1;
                    server.counts.failures += 1;
                }
                None => {}
            }
        }
        self.check();
        self.look();
    }

    fn something_happens(&mut self) {
        let which = self.below(self.servers.len() as u64) as usize;
        let much = 1 + self.below(100);
        let (fault, state) = match self.below(9) {
            0 => (Fault::Dead, None),
            1 => (Fault::Flaky(much), None),
            2 => (Fault::Errors(much), None),
            3 => (Fault::Deceitful, None),
            4 => (Fault::None, Some(State::Draining)),
            5 => (Fault::None, Some(State::Down)),
            _ => (Fault::None, Some(State::Up)),
        };
        self.servers[which].fault = fault;
        self.servers[which].state = state.unwrap_or(self.servers[which].state);
    }

    /// Who may get requests, as the request threads see it: the state at once, the rest as the
    /// group said last.
    fn decide(&mut self) {
        let members: Vec<_> = self
            .servers
            .iter()
            .map(|server| access::Member {
                status: match (server.state, server.status) {
                    (State::Draining, _) => Status::Draining,
                    (State::Down, _) => Status::Down,
                    (State::Up, Status::Draining | Status::Down) => Status::Up,
                    (State::Up, status) => status,
                },
                backup: server.backup,
                weighs: true,
            })
            .collect();
        self.panic = access::decide(&members, self.passive.panic_threshold, &mut self.access);
        for (member, access) in members.iter().zip(&self.access) {
            let out = [Status::Draining, Status::Down, Status::Starting].contains(&member.status);
            assert!(!out || *access == Access::No, "a pick of a server that is {}", member.status);
        }
        let could_serve = members.iter().any(|m| {
            matches!(m.status, Status::Up | Status::SlowStart | Status::Suspect | Status::Ejected)
        });
        let serves = self.access.contains(&Access::Yes);
        assert!(serves || !could_serve, "nobody serves, but could: {members:?}");
    }

    fn request(&mut self) {
        let open: Vec<usize> = (0..self.servers.len())
            .filter(|&i| match self.access[i] {
                Access::Yes => true,
                Access::Trial => self.servers[i].trial.is_none(),
                Access::No => false,
            })
            .collect();
        if open.is_empty() {
            return;
        }
        let to = open[self.below(open.len() as u64) as usize];
        let luck = self.below(100);
        let now = self.now;
        let server = &mut self.servers[to];
        let fails = match server.fault {
            Fault::Dead | Fault::Deceitful => true,
            Fault::Flaky(percent) => luck < percent,
            Fault::None | Fault::Errors(_) => false,
        };
        if self.access[to] == Access::Trial {
            server.trial = Some(!fails);
        } else if fails {
            server.counts.failures += 1;
            server.failures.push_back(now);
        } else {
            server.counts.answered += 1;
            server.counts.errors += u64::from(matches!(server.fault, Fault::Errors(p) if luck < p));
        }
    }

    fn check(&mut self) {
        if self.options.checks.is_none() {
            return;
        }
        for i in 0..self.servers.len() {
            let server = &mut self.servers[i];
            if server.next_check > self.now || server.state == State::Down {
                continue;
            }
            server.next_check = self.now + self.interval;
            let passed = server.fault != Fault::Dead;
            let mut seen = Vec::new();
            self.group.check(i as u32, passed, self.now, |i, t| seen.push((i, t)));
            self.note(&seen);
        }
    }

    fn look(&mut self) {
        let sights: Vec<_> = self
            .servers
            .iter()
            .map(|server| Sight {
                state: server.state,
                backup: server.backup,
                counts: server.counts,
            })
            .collect();
        let mut seen = Vec::new();
        self.group.look(&sights, self.panic, self.now, |i, t| seen.push((i, t)));
        self.note(&seen);
        let verdicts: Vec<_> = self.group.verdicts(self.now).collect();
        for (server, verdict) in self.servers.iter_mut().zip(verdicts) {
            assert_eq!(server.status, verdict.status, "a change without a transition");
            if verdict.status == Status::SlowStart {
                assert!(verdict.share >= server.last_share, "a share fell during slow start");
            }
            server.last_share = if verdict.share == FULL { 0 } else { verdict.share };
        }
        self.check_limits();
    }

    fn note(&mut self, transitions: &[(usize, Transition)]) {
        for &(i, Transition { from, to, reason }) in transitions {
            let server = &mut self.servers[i];
            assert_eq!(server.status, from, "a transition was lost");
            server.status = to;
            server.ejected = None;
            match (to, reason) {
                (Status::Ejected, HealthReason::Failures) => {
                    let window = self.passive.fail_window;
                    let recent =
                        server.failures.iter().filter(|&&at| self.now - at <= window).count();
                    let enough = self.passive.max_fails as usize;
                    assert!(enough > 0 && recent >= enough, "ejected after {recent} failures");
                    server.ejected = Some(self.now);
                }
                (Status::Ejected, HealthReason::TrialFailed | HealthReason::ErrorRate) => {
                    server.ejected = Some(self.now);
                }
                // Who was draining or starting may find itself ejected from before.
                (Status::Ejected, _) => assert!(
                    reason == HealthReason::ChecksFailed
                        || ![Status::Up, Status::SlowStart, Status::Suspect].contains(&from),
                    "ejected because {reason}"
                ),
                _ => {}
            }
        }
    }

    fn check_limits(&self) {
        for server in &self.servers {
            if let Some(since) = server.ejected
                && server.state == State::Up
                && self.options.checks.is_none()
            {
                let overdue = since + self.passive.fail_timeout + Duration::from_millis(100);
                assert!(self.now <= overdue, "an ejected server is not tried again");
            }
        }
        if self.options.checks.is_none() && self.servers.iter().all(|s| s.state == State::Up) {
            let out = self.servers.iter().filter(|s| s.status == Status::Ejected).count();
            assert!(out < self.servers.len(), "all are ejected by their requests");
        }
    }

    /// When all is well again, everybody is back within the time that the options give.
    fn recover(&mut self) {
        self.quiet = true;
        for server in &mut self.servers {
            server.fault = Fault::None;
            server.state = State::Up;
        }
        let time = self.passive.fail_timeout * 2
            + self.interval * 4
            + self.options.slow_start * 2
            + self.passive.fail_window
            + Duration::from_secs(20);
        for _ in 0..time.as_millis() / 100 {
            self.step();
        }
        for (i, server) in self.servers.iter().enumerate() {
            // Backups that nobody needs are not tried: they are when they are needed.
            let fine = server.status == Status::Up || server.backup && self.access[i] == Access::No;
            assert!(fine, "server {i} is still {} when all is well", server.status);
        }
    }
}

fn run(seed: u64) {
    let mut simulation = Simulation::new(seed);
    let minutes = 1 + simulation.below(4);
    for _ in 0..minutes * 600 {
        simulation.step();
    }
    simulation.recover();
}

#[test]
fn invariants_hold_over_thousands_of_runs() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (seed, runs) = (number("ROUNDSMAN_SEED"), number("ROUNDSMAN_RUNS"));
    let first = seed.unwrap_or_default();
    let runs = runs.unwrap_or(if seed.is_some() { 1 } else { 1_000 });
    for seed in first..first.saturating_add(runs) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("seed {seed} failed; replay it with ROUNDSMAN_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
