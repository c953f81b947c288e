//! Waiting for what a test expects, never for a time.

use std::time::{Duration, SystemTime};

/// Longer than anything takes on a machine that is busy with other tests; nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait between two questions: briefly at first, less often where it takes long, since a
/// question may cost a process or two.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(250);

/// Asks until there is an answer, for as long as `patience` lasts.
#[track_caller]
pub(crate) fn poll_for<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let wait = Wait::new(patience);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(wait.pause(what));
    }
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn poll<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    poll_for(PATIENCE, what, ask)
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    poll(what, || is_so().then_some(()));
}

/// The same, while others go on with what they do on this thread.
pub(crate) async fn eventually_meanwhile(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = Wait::new(PATIENCE);
    while !is_so() {
        tokio::time::sleep(wait.pause(what)).await;
    }
}

/// Someone who waits.
struct Wait {
    /// By the wall clock, which goes on when tokio's stands still.
    since: SystemTime,
    patience: Duration,
}

impl Wait {
    fn new(patience: Duration) -> Self {
        Self { since: SystemTime::now(), patience }
    }

    /// How long to wait before the next question; a panic that says what did not happen at the end.
    #[track_caller]
    fn pause(&self, what: &str) -> Duration {
        let Self { since, patience } = self;
        let waited = since.elapsed().unwrap_or_default();
        assert!(waited < *patience, "waited {patience:?} in vain for this: {what}");
        (waited / 5).clamp(SHORTEST, LONGEST)
    }
}
