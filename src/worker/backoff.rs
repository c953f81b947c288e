//! The wait before an app that crashes is started again, with the worker's listener in hand:
//! connections wait in it, and nothing that they do can shorten the wait.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::identity::{Identity, report};
use super::notifier::Notifier;
use super::probe::Seconds;
use crate::config::settings::Restart;
use crate::supervise::crashes::{Crashes, Next};
use crate::systemd::message::{WORKER_BACKS_OFF, WORKER_GIVEN_UP};

/// What systemd waits for longer than we do.
const MARGIN: Duration = Duration::from_secs(10);

/// How the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There was none.
    No,
    /// It is over.
    Yes,
    /// The worker is to stop instead.
    Stopped,
    /// The worker is not started any more.
    GivenUp,
}

/// Waits as long as `crashes` ask for. `start_timeout` is what the start has afterwards.
pub(crate) async fn wait(
    (app, number): (&str, u16),
    crashes: &Crashes,
    restart: &Restart,
    start_timeout: Duration,
    notifier: &Notifier,
    stop: &mut mpsc::Receiver<()>,
) -> Waited {
    let identity = Identity::new(app, number);
    let count = crashes.in_a_row(restart);
    let last = &crashes.last;
    match crashes.next(restart) {
        Next::Start => Waited::No,
        Next::GiveUp => {
            let text = format!("given up after {count} crashes in a row, the last one: {last}");
            notifier.status(&text).await;
            report!(error, identity; WORKER_GIVEN_UP, "{text}; see [restart] in the app's file");
            Waited::GivenUp
        }
        Next::Wait(delay) => {
            let limit = restart.limit.map(|limit| format!(" of at most {limit}"));
            let text = format!(
                "crashed {count} times{} in a row, the last one: {last}; starts again after {}",
                limit.unwrap_or_default(),
                Seconds(delay)
            );
            notifier
                .send(&[NotifyState::Status(&text), NotifyState::ExtendTimeoutUsec(micros(delay))])
                .await;
            report!(warn, identity; WORKER_BACKS_OFF, "{text}");
            tokio::select! {
                () = sleep(delay) => {
                    let start = NotifyState::ExtendTimeoutUsec(micros(start_timeout));
                    notifier.send(&[start, NotifyState::Status("starting")]).await;
                    Waited::Yes
                }
                _ = stop.recv() => Waited::Stopped,
            }
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from((time + MARGIN).as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tokio::time::Instant;

    use super::*;

    fn crashes(count: usize) -> Crashes {
        Crashes { ready_for: vec![0; count], last: "exit code 1".to_owned() }
    }

    async fn waits(count: usize, stop: &mut mpsc::Receiver<()>) -> (Waited, Duration, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notifier = Notifier::new(Some(path.as_os_str())).unwrap();
        let (begin, restart) = (Instant::now(), Restart::default());
        let minute = Duration::from_mins(1);
        let waited = wait(("shop", 1), &crashes(count), &restart, minute, &notifier, stop).await;
        let mut said = String::new();
        let mut buffer = [0; 1024];
        while let Ok(length) = socket.recv(&mut buffer) {
            said.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        (waited, begin.elapsed(), said)
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_and_has_systemd_wait_as_long() {
        let (_sender, mut stop) = mpsc::channel(1);
        let (waited, time, said) = waits(1, &mut stop).await;
        assert_eq!((waited, time, said.as_str()), (Waited::No, Duration::ZERO, ""));
        let (waited, time, said) = waits(5, &mut stop).await;
        assert_eq!((waited, time.as_secs()), (Waited::Yes, 8));
        assert!(said.contains("EXTEND_TIMEOUT_USEC=18000000"), "{said}");
        assert!(said.contains("EXTEND_TIMEOUT_USEC=70000000"), "{said}");
        assert!(said.contains("crashed 5 times of at most 16 in a row"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_and_the_limit_ends_it_all() {
        let (sender, mut stop) = mpsc::channel(1);
        sender.send(()).await.unwrap();
        let (waited, time, _) = waits(9, &mut stop).await;
        assert_eq!((waited, time), (Waited::Stopped, Duration::ZERO));
        let (waited, _, said) = waits(16, &mut stop).await;
        assert_eq!(waited, Waited::GivenUp);
        assert!(said.contains("given up after 16 crashes in a row, the last one: exit code 1"));
    }
}
