//! `WATCHDOG=1` only while every thread moves.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{message, notify};

/// Compares two readings of the threads' heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    last: Vec<u64>,
}

// === impl Watchdog ===

impl Watchdog {
    /// The threads whose heartbeat did not move since the last call.
    pub(crate) fn stuck(&mut self, heartbeats: Vec<u64>) -> Vec<usize> {
        let stuck = heartbeats
            .iter()
            .zip(&self.last)
            .enumerate()
            .filter_map(|(thread, (now, before))| (now == before).then_some(thread))
            .collect();
        self.last = heartbeats;
        stuck
    }
}

/// Pings systemd for as long as it is polled, as often as `WatchdogSec=` wants it, but only when
/// every thread's heartbeat moved since the last time. Does nothing without `WatchdogSec=`.
pub(crate) async fn run(heartbeats: impl Fn() -> Vec<u64>) {
    let Some(limit) = notify::watchdog_interval() else {
        return std::future::pending().await;
    };
    // Twice per interval, as sd_watchdog_enabled(3) advises; heartbeats move every second or
    // oftener, so a period below that would see healthy threads stand still.
    let period = (limit / 2).max(Duration::from_secs(2));
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watchdog = Watchdog::default();
    loop {
        ticks.tick().await;
        let stuck = watchdog.stuck(heartbeats());
        if stuck.is_empty() {
            notify::watchdog();
        } else {
            tracing::error!(
                message_id = message::THREAD_STUCK,
                "threads {stuck:?} have not moved for {period:?}; systemd restarts the service \
                 {limit:?} after the last sign of life"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_stands_still_is_enough() {
        let mut watchdog = Watchdog::default();
        assert!(watchdog.stuck(vec![1, 1, 1]).is_empty(), "nothing to compare with yet");
        assert!(watchdog.stuck(vec![2, 2, 2]).is_empty());
        assert_eq!(watchdog.stuck(vec![3, 2, 3]), [1]);
        assert_eq!(watchdog.stuck(vec![3, 3, 4]), [0]);
        assert!(watchdog.stuck(vec![4, 4, 5]).is_empty());
    }
}
