//! Active checks: each server is asked at intervals, by a task of its own.
//!
//! A task sleeps most of the time and holds nothing but its address, so hundreds are cheap, and a
//! server that does not answer keeps nobody waiting but its own task.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::probe::{self, ProbeError};
use crate::balance::key::{self, Random};
use crate::balance::{Server, State};
use crate::base::limiter::Limiter;
use crate::base::want;
use crate::config::settings::ActiveCheck;

/// How often it is said that a server cannot be checked.
const EVERY: Duration = Duration::from_mins(1);

/// What a check came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// [`Server::id`].
    pub server: u32,
    /// Passed or not.
    pub result: Result<(), ProbeError>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(()) => f.write_str("passed"),
            Err(failed) => f.write_str(&failed.chain()),
        }
    }
}

/// The checks of one server, until this is dropped.
#[derive(Debug)]
pub(crate) struct Checker {
    /// What it checks for.
    pub check: ActiveCheck,
    task: AbortHandle,
}

impl Checker {
    /// Starts checking; the outcomes go to `outcomes`.
    pub(crate) fn start(
        server: Arc<Server>,
        check: ActiveCheck,
        outcomes: mpsc::Sender<Outcome>,
    ) -> Self {
        let task = tokio::spawn(run(server, check.clone(), outcomes)).abort_handle();
        Self { check, task }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(server: Arc<Server>, check: ActiveCheck, outcomes: mpsc::Sender<Outcome>) {
    let mut random = Random::new(key::mix(u64::from(server.id) ^ u64::from(std::process::id())));
    // Not all at once, but nobody waits long for a first verdict.
    sleep(part(check.interval.min(Duration::from_secs(1)), random.draw())).await;
    let failures = Limiter::new();
    loop {
        let began = Instant::now();
        // A stopped server is not asked: with socket activation asking would start it.
        if server.state() != State::Down {
            let result = timeout(
                check.timeout,
                probe::probe(&server.address, &check.probe, server.proxy_protocol),
            )
            .await
            .unwrap_or(Err(ProbeError::Timeout(check.timeout)));
            if let Err(ProbeError::Connect(error)) = &result
                && want::is_ours(error)
            {
                // It says nothing about the server.
                if failures.may_write(1, EVERY).is_some() {
                    tracing::warn!("{} is not checked for now: {error}", server.name);
                }
            } else if outcomes.send(Outcome { server: server.id, result }).await.is_err() {
                return; // nobody listens any more
            }
        }
        sleep_until(next(began, &check, random.draw()).max(Instant::now())).await;
    }
}

/// When the next check begins: an interval after the last one began, a little early or late.
fn next(began: Instant, check: &ActiveCheck, random: u64) -> Instant {
    let span = check.interval * check.jitter.min(100) / 100;
    began + check.interval - span + part(span * 2, random)
}

fn part(span: Duration, random: u64) -> Duration {
    Duration::from_nanos(key::scale(random, span.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_bounds() {
        let check = ActiveCheck { interval: Duration::from_secs(10), ..ActiveCheck::default() };
        let began = Instant::now();
        let mut random = Random::new(1);
        let after: Vec<_> = (0..1_000)
            .map(|_| (next(began, &check, random.draw()) - began).as_secs_f64())
            .collect();
        assert!(after.iter().all(|s| (9.0..=11.0).contains(s)));
        assert!(after.iter().any(|&s| s < 9.2) && after.iter().any(|&s| s > 10.8));
    }
}
