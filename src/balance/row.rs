//! Failures of a server in a row.
//!
//! Of one failed request that no other server was tried with, nobody knows whether the server failed or
//! the request: whoever finds a request that every server fails could take out one server after the
//! other with it. A server that answers others in between is not ill, and neither is one that fails a
//! client who gets no answer from any. So such failures count only in a row, without an answer that came
//! to its end between them, and only if they are not all of one client whom nobody answers meanwhile.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A server's row.
#[derive(Debug)]
pub(super) struct Row {
    start: Instant,
    count: AtomicU32,
    /// When the first of it was, in milliseconds since `start`.
    since: AtomicU64,
    /// Whose request that was, and whether there were others'.
    client: AtomicU64,
    mixed: AtomicBool,
}

/// The client of a row that began last, and when a server answered it last: on all threads, and looked at
/// only while there is one.
#[derive(Debug)]
pub(super) struct Answered {
    start: Instant,
    client: AtomicU64,
    at: AtomicU64,
}

/// A number for a client, that is never 0.
pub(super) fn number(client: Option<IpAddr>) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(client) | 1
}

impl Answered {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), client: AtomicU64::new(0), at: AtomicU64::new(0) }
    }

    fn watch(&self, client: u64) {
        if self.client.swap(client, Ordering::Relaxed) != client {
            self.at.store(0, Ordering::Relaxed);
        }
    }

    /// A server has answered this client.
    pub(super) fn note(&self, client: Option<IpAddr>) {
        let watched = self.client.load(Ordering::Relaxed);
        if watched != 0 && watched == number(client) {
            let now = self.start.elapsed().as_millis() as u64;
            self.at.store(now + 1, Ordering::Relaxed);
        }
    }

    fn since(&self, then: Instant) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        let then = then.saturating_duration_since(self.start).as_millis() as u64;
        at > then
    }
}

impl Row {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            count: AtomicU32::new(0),
            since: AtomicU64::new(0),
            client: AtomicU64::new(0),
            mixed: AtomicBool::new(false),
        }
    }

    /// One more, of this client's. How many there are when they are `most` within `window` and may be the
    /// server's; the next one is the first of another row then.
    pub(super) fn add(
        &self,
        (now, client): (Instant, Option<IpAddr>),
        window: Duration,
        most: u32,
        answered: Option<&Answered>,
    ) -> Option<u32> {
        // Of whom nothing is known it may be anybody's.
        let named = client.is_some();
        let client = number(client);
        let now = now.saturating_duration_since(self.start).as_millis() as u64;
        let age = now.saturating_sub(self.since.load(Ordering::Relaxed));
        // Threads that come here at once may miscount by one, which is as good as a moment later.
        if self.count.load(Ordering::Relaxed) == 0 || u128::from(age) > window.as_millis() {
            self.since.store(now, Ordering::Relaxed);
            self.count.store(0, Ordering::Relaxed);
            self.client.store(client, Ordering::Relaxed);
            self.mixed.store(!named, Ordering::Relaxed);
            if let Some(answered) = answered {
                answered.watch(client);
            }
        }
        if self.client.load(Ordering::Relaxed) != client {
            self.mixed.store(true, Ordering::Relaxed);
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if most == 0 || count < most {
            return None;
        }
        self.count.store(0, Ordering::Relaxed);
        let began = self.start + Duration::from_millis(self.since.load(Ordering::Relaxed));
        let elsewhere = answered.is_some_and(|answered| answered.since(began));
        (self.mixed.load(Ordering::Relaxed) || elsewhere).then_some(count)
    }

    /// A request went well.
    pub(super) fn end(&self) {
        if self.count.load(Ordering::Relaxed) != 0 {
            self.count.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_a_row_and_not_too_far_apart_counts() {
        let row = Row::new();
        let window = Duration::from_secs(10);
        let at = |seconds| row.start + Duration::from_secs(seconds);
        let add = |seconds| row.add((at(seconds), None), window, 3, None);
        assert_eq!([add(0), add(1), add(2)], [None, None, Some(3)]);
        assert_eq!([add(3), add(4)], [None, None]);
        row.end();
        assert_eq!([add(5), add(6), add(7)], [None, None, Some(3)]);
        assert_eq!(
            [add(10), add(15), add(21), add(22), add(23)],
            [None, None, None, None, Some(3)]
        );
        assert_eq!(row.add((at(0), None), window, 0, None), None, "never, where none eject");
    }

    #[test]
    fn those_of_one_client_count_if_it_is_answered_elsewhere() {
        let (row, answered) = (Row::new(), Answered::new());
        let [one, other] = [1, 2].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        let add =
            |client| row.add((Instant::now(), client), Duration::from_secs(10), 2, Some(&answered));
        assert_eq!([add(one), add(one)], [None, None], "nobody answers it");
        answered.note(other);
        assert_eq!([add(one), add(one)], [None, None], "nor does this answer");
        assert_eq!([add(one), add(other)], [None, Some(2)], "two fare alike");
        assert_eq!(add(one), None);
        answered.note(one);
        assert_eq!(add(one), Some(2), "it is the server");
    }
}
