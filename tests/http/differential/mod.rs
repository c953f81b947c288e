//! Messages that nobody has thought of: made by chance from good ones and from known attacks, sent
//! through the real program, and judged by what others read in what came out.
//!
//! `make test` takes one round with a seed that is always the same and one with a new one; `make soak`
//! goes on for `DIFF_SECONDS`. A round follows from its seed: `DIFF_SEED=7` repeats it.

mod corpus;
mod frames;
mod neighbours;
mod readers;
mod requests;
mod responses;
mod server;

use std::time::SystemTime;

use super::http2::hostile::used;
use super::support::Program;

/// What a front may grow by, in kilobytes, once it has seen a few rounds.
const FLAT: i64 = 32 * 1024;

/// The memory of a front over the rounds.
#[derive(Debug, Default)]
pub(super) struct Memory {
    rounds: u64,
    /// After the third.
    first: i64,
}

impl Memory {
    /// Looks at it after a round, and says how large it is.
    #[track_caller]
    pub(super) fn look(&mut self, front: &Program) {
        let now = used(front).0;
        self.rounds += 1;
        if self.rounds == 3 {
            self.first = now;
        }
        println!("round {}: {now} KB", self.rounds);
        let grown = if self.rounds < 3 { 0 } else { now - self.first };
        assert!(grown < FLAT, "{} KB have become {now} KB in {} rounds", self.first, self.rounds);
    }
}

/// The seeds of the rounds to take.
pub(super) fn rounds(what: &'static str) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let begun = SystemTime::now();
    let new = begun.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (given, seconds) = (number("DIFF_SEED"), number("DIFF_SECONDS"));
    let short = match (given, seconds) {
        (Some(seed), None) => vec![seed],
        (_, Some(_)) => Vec::new(),
        (None, None) => vec![1, new],
    };
    let long = (given.unwrap_or(new)..).take_while(move |_| {
        seconds.is_some_and(|seconds| begun.elapsed().is_ok_and(|time| time.as_secs() < seconds))
    });
    short.into_iter().chain(long).inspect(move |seed| println!("{what}: DIFF_SEED={seed}"))
}
