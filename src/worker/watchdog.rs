//! `WATCHDOG=1`, as long as the app answers.
//!
//! What counts as an answer depends on what there is to ask: the health path (whatever the status:
//! an app that says it is unwell is not stuck, and the front takes note of it); else the event loop
//! of a cluster worker, which refuses a connection for a server that does not exist without running
//! any of the app's code; else that the process is there.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster;
use super::identity::{Identity, report};
use super::notifier::Notifier;
use super::probe::{self, ProbeFailure, ProbeTarget, Seconds};
use crate::config::settings::Health;
use crate::systemd::message::WORKER_STUCK;

/// Between two questions at most, where systemd would allow longer.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug)]
pub(super) enum Question {
    Health(ProbeTarget, Health),
    EventLoop(cluster::Handle),
    Process,
}

/// Who is asked how often, and who is told.
#[derive(Debug)]
pub(super) struct Watchdog {
    pub(super) question: Question,
    /// `WatchdogSec=`.
    pub(super) limit: Duration,
    pub(super) notifier: Notifier,
    pub(super) identity: Identity,
}

impl Watchdog {
    /// Asks for ever.
    pub(super) async fn run(self) -> Infallible {
        let interval = match &self.question {
            Question::Health(_, health) => health.interval.min(self.limit / 4),
            _ => self.limit / 4,
        }
        .min(LONGEST_INTERVAL);
        let mut answered = Instant::now();
        loop {
            self.notifier.send(&[NotifyState::Watchdog]).await;
            sleep(interval).await;
            self.answer(answered).await;
            answered = Instant::now();
        }
    }

    /// Returns when the app has answered; complains meanwhile.
    async fn answer(&self, last: Instant) {
        let mut answer = std::pin::pin!(self.question.ask());
        for share in [0.5, 0.9] {
            tokio::select! {
                () = &mut answer => return self.back(last, share),
                () = sleep_until(last + self.limit.mul_f64(share)) => {}
            }
            report!(error, self.identity; WORKER_STUCK,
                "the app has not answered for {}; systemd kills and restarts it after {}",
                Seconds(last.elapsed()), Seconds(self.limit));
        }
        answer.await;
        self.back(last, 1.0);
    }

    fn back(&self, last: Instant, share: f64) {
        if share > 0.5 {
            report!(
                info,
                self.identity,
                "the app answers again, after {}",
                Seconds(last.elapsed())
            );
        }
    }
}

impl Question {
    async fn ask(&self) {
        match self {
            Self::Process => {}
            Self::EventLoop(channel) => channel.ping().await,
            Self::Health(target, health) => loop {
                match probe::health(target, health).await {
                    Ok(_)
                    | Err(
                        ProbeFailure::Forbidden | ProbeFailure::Refused | ProbeFailure::Status(_),
                    ) => {
                        return;
                    }
                    Err(ProbeFailure::Other(reason)) => tracing::debug!(%reason, "no answer"),
                }
                sleep(Duration::from_millis(50)).await;
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn sent(socket: &UnixDatagram) -> usize {
        let mut count = 0;
        while socket.recv(&mut [0; 64]).is_ok() {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_fed_at_least_twice_per_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let watchdog = Watchdog {
            question: Question::Process,
            limit: Duration::from_secs(8),
            notifier: Notifier::new(Some(path.as_os_str())).unwrap(),
            identity: Identity::new("test", 1),
        };
        let task = tokio::spawn(watchdog.run());
        sleep(Duration::from_secs(4)).await;
        assert!((2..=3).contains(&sent(&socket)), "at 0, 2 and perhaps 4 s");
        task.abort();
    }
}
