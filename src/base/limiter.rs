//! So many lines in the journal and no more: enough to see what is wrong, too few to do harm.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Counts what one thread writes about one thing.
#[derive(Debug)]
pub(crate) struct Limiter(Cell<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Limiter {
    pub(crate) fn new() -> Self {
        Self(Cell::new(State { since: None, written: 0, left_out: 0 }))
    }

    /// Whether one may be written now, if `most` may within each `period`; how many were left out since
    /// the last one.
    pub(crate) fn may_write(&self, most: u32, period: Duration) -> Option<u64> {
        let mut state = self.0.get();
        if state.since.is_none_or(|since| since.elapsed() >= period) {
            state.since = Some(Instant::now());
            state.written = 0;
        }
        let may = state.written < most;
        let left_out = state.left_out;
        if may {
            state.written += 1;
            state.left_out = 0;
        } else {
            state.left_out += 1;
        }
        self.0.set(state);
        may.then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_counted_and_said_with_the_next() {
        let limiter = Limiter::new();
        let period = Duration::from_secs(1);
        let write = || limiter.may_write(2, period);
        assert_eq!([write(), write(), write(), write()], [Some(0), Some(0), None, None]);
        tokio::time::advance(period).await;
        assert_eq!([write(), write(), write()], [Some(2), Some(0), None]);
    }
}
