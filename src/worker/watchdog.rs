//! `WATCHDOG=1`, as long as the app answers.
//!
//! What counts as an answer depends on what there is to ask: the health path (whatever the status:
//! an app that says it is unwell is not stuck, and the front takes note of it); else the event loop
//! of a cluster worker, which refuses a connection for a server that does not exist without running
//! any of the app's code; else that the process is there.
//!
//! An app that has not answered for a moment is told to the front, by the unit's status, which sends it
//! nothing until it answers again. An app at rest is asked seldom: nothing is waiting for its answer.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cluster;
use super::identity::{Identity, report};
use super::notifier::Notifier;
use super::probe::{self, ProbeFailure, ProbeTarget, Seconds};
use super::process::processor_time;
use crate::config::settings::Health;
use crate::systemd::message::WORKER_STUCK;
use crate::systemd::notify::NO_ANSWER;

/// Between two questions at most, where systemd would allow longer: to an app that does something, to one
/// that rests, and for the health path.
const AT_WORK: Duration = Duration::from_millis(2500);
const AT_REST: Duration = Duration::from_secs(10);
const OF_HEALTH: Duration = Duration::from_secs(5);

/// What an app at rest does not spend from one question to the next, in ticks of 10 ms: our questions and its
/// own timers cost it less.
const WORK: u64 = 5;

/// How long an answer may take before the front is told: an event loop may well be busy for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// The app's process.
    pub(super) process: u32,
    /// What is the unit's status while it answers.
    pub(super) status: String,
}

impl Watchdog {
    /// Asks for ever.
    pub(super) async fn run(self) -> Infallible {
        let mut answered = Instant::now();
        let mut spent = processor_time(self.process);
        loop {
            self.notifier.send(&[NotifyState::Watchdog]).await;
            let before = std::mem::replace(&mut spent, processor_time(self.process));
            let more = spent.zip(before).map(|(now, before)| now.saturating_sub(before));
            sleep(self.interval(more.is_some_and(|ticks| ticks < WORK))).await;
            self.answer(answered, self.question.ask()).await;
            answered = Instant::now();
        }
    }

    /// How long until the next question.
    fn interval(&self, rests: bool) -> Duration {
        match &self.question {
            Question::Health(_, health) => health.interval.min(self.limit / 4).min(OF_HEALTH),
            Question::EventLoop(_) if !rests => AT_WORK.min(self.limit / 4),
            _ => AT_REST.min(self.limit / 3),
        }
    }

    /// How long an answer may take.
    fn patience(&self) -> Duration {
        match &self.question {
            Question::Health(_, health) => PATIENCE.max(health.timeout),
            _ => PATIENCE,
        }
        .min(self.limit / 4)
    }

    /// Returns when the app has answered; complains meanwhile.
    async fn answer(&self, last: Instant, answer: impl Future<Output = ()>) {
        let mut answer = std::pin::pin!(answer);
        if timeout(self.patience(), &mut answer).await.is_ok() {
            return;
        }
        let tell = async || {
            let status = format!("{NO_ANSWER}: not for {}", Seconds(last.elapsed()));
            self.notifier.status(&status).await;
        };
        tell().await;
        for share in [0.5, 0.9] {
            tokio::select! {
                biased;
                () = &mut answer => return self.back(last).await,
                () = sleep_until(last + self.limit.mul_f64(share)) => {}
            }
            report!(error, self.identity; WORKER_STUCK,
                "the app has not answered for {}; systemd kills and restarts it after {}",
                Seconds(last.elapsed()), Seconds(self.limit));
            tell().await; // also to a front that was started meanwhile
        }
        answer.await;
        self.back(last).await;
    }

    async fn back(&self, last: Instant) {
        let after = Seconds(last.elapsed());
        report!(info, self.identity, "the app answers again, after {after}");
        self.notifier.status(&self.status).await;
    }
}

impl Question {
    async fn ask(&self) {
        match self {
            Self::Process => {}
            Self::EventLoop(channel) => channel.ping().await,
            Self::Health(target, health) => loop {
                let answer = probe::health(target, health).await;
                if is_sign_of_life(&answer) {
                    return;
                }
                tracing::debug!(?answer, "no answer");
                sleep(Duration::from_millis(50)).await;
            },
        }
    }
}

/// Whether it does not say that the app is stuck. Who takes all ports of the machine, as anybody may, has no
/// app killed by that: an app that could not be asked has not failed to answer.
fn is_sign_of_life(answer: &Result<u16, ProbeFailure>) -> bool {
    !matches!(answer, Err(ProbeFailure::Other(_)))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// What is sent to the service manager.
    struct Manager {
        _directory: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Manager {
        fn new() -> (Self, Watchdog) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let watchdog = Watchdog {
                question: Question::Process,
                limit: Duration::from_secs(8),
                notifier: Notifier::new(Some(path.as_os_str())).unwrap(),
                identity: Identity::new("test", 1),
                process: std::process::id(),
                status: "it serves".to_owned(),
            };
            (Self { _directory: directory, socket }, watchdog)
        }

        fn sent(&self) -> Vec<String> {
            let mut bytes = [0; 256];
            std::iter::from_fn(|| {
                let length = self.socket.recv(&mut bytes).ok()?;
                Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
            })
            .collect()
        }
    }

    #[test]
    fn only_silence_is_silence() {
        let want = || "Cannot assign requested address".to_owned();
        for answer in [
            Ok(503),
            Err(ProbeFailure::Status(500)),
            Err(ProbeFailure::Refused),
            Err(ProbeFailure::Forbidden),
            Err(ProbeFailure::Unasked(want())),
        ] {
            assert!(is_sign_of_life(&answer), "{answer:?}");
        }
        assert!(!is_sign_of_life(&Err(ProbeFailure::Other("no answer within 2 s".to_owned()))));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_fed_at_least_twice_per_limit() {
        let (manager, watchdog) = Manager::new();
        let task = tokio::spawn(watchdog.run());
        sleep(Duration::from_secs(8)).await;
        let fed = manager.sent();
        assert!((3..=4).contains(&fed.len()), "{fed:?}");
        assert!(fed.iter().all(|text| text == "WATCHDOG=1"), "{fed:?}");
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_front_is_told_of_an_app_that_does_not_answer_and_when_it_does_again() {
        let (manager, watchdog) = Manager::new();
        let busy = |seconds| sleep(Duration::from_secs_f64(seconds));
        watchdog.answer(Instant::now(), busy(1.9)).await;
        assert_eq!(manager.sent(), Vec::<String>::new(), "it has only worked");
        let told = timeout(Duration::from_secs(3), watchdog.answer(Instant::now(), pending()));
        assert!(told.await.is_err());
        let said = manager.sent();
        assert_eq!(said, [format!("STATUS={NO_ANSWER}: not for 2 s")]);
        watchdog.answer(Instant::now(), busy(5.0)).await;
        let said = manager.sent();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[1].starts_with(&format!("STATUS={NO_ANSWER}")) && said[1] != said[0]);
        assert_eq!(said[2], "STATUS=it serves");
    }

    #[test]
    fn who_rests_is_asked_seldom() {
        let (_, watchdog) = Manager::new();
        let watchdog = Watchdog { limit: Duration::from_secs(30), ..watchdog };
        assert_eq!(watchdog.interval(true), AT_REST);
        assert_eq!(processor_time(u32::MAX), None);
        assert!(processor_time(std::process::id()).is_some());
    }
}
