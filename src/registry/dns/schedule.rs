//! When a name is looked up again, and what of the last answer stays. Pure.

use std::time::Duration;

use super::{Answer, MAX_SERVERS};
use crate::config::settings::Dns;
use crate::front::found::Found;

/// After the first failure; then twice as long each time.
const RETRY: Duration = Duration::from_secs(1);
/// At most: a name that is mended should not wait long for it.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// The look-ups of one name.
#[derive(Debug, Default)]
pub struct Schedule {
    /// The last good answer.
    known: Vec<Found>,
    failures: u32,
    /// There were more servers than are used.
    too_many: bool,
}

/// What an administrator should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// None.
    Nothing,
    /// It failed, for the first time in a row.
    Fails,
    /// It succeeded after failures.
    Recovered,
    /// There are more servers than are used, for the first time in a row.
    TooMany,
}

impl Schedule {
    /// A schedule for a name of which this is known already.
    pub fn new(known: Vec<Found>) -> Self {
        Self { known, failures: 0, too_many: false }
    }

    /// The last good answer.
    pub fn known(&self) -> &[Found] {
        &self.known
    }

    /// Takes an answer in; when to ask again, and what to say.
    pub fn answered(&mut self, answer: Answer, settings: &Dns) -> (Duration, News) {
        let Answer { mut found, ttl, lacking } = answer;
        // What could not be learnt is taken to be as it was.
        let lacks = |f: &&Found| {
            lacking.iter().any(|(host, v6)| *host == f.host && *v6 == f.address.is_ipv6())
        };
        found.extend(self.known.iter().filter(lacks).cloned());
        found.sort();
        found.dedup_by(|a, b| a.address == b.address);
        let too_many = found.len() > MAX_SERVERS;
        if too_many {
            // Those that go first stay, in an order that is the same the next time.
            found.sort_by_key(|f| f.record.is_some_and(|record| record.backup));
            found.truncate(MAX_SERVERS);
            found.sort();
        }
        self.known = found;
        let news = match (too_many, self.failures > 0) {
            (true, _) if !self.too_many => News::TooMany,
            (_, true) => News::Recovered,
            _ => News::Nothing,
        };
        self.too_many = too_many;
        self.failures = 0;
        let most = if lacking.is_empty() { settings.max_ttl } else { MAX_RETRY };
        let most = most.max(settings.min_ttl);
        (ttl.clamp(settings.min_ttl, most), news)
    }

    /// Takes a failure in; when to ask again, and what to say.
    pub fn failed(&mut self) -> (Duration, News) {
        let wait = RETRY * 2_u32.pow(self.failures.min(8));
        let news = if self.failures == 0 { News::Fails } else { News::Nothing };
        self.failures = self.failures.saturating_add(1);
        (wait.min(MAX_RETRY), news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::found::Record;

    fn found(address: &str, host: &str) -> Found {
        Found { address: address.parse().unwrap(), record: None, host: host.into() }
    }

    fn answer(found: Vec<Found>, ttl: u64) -> Answer {
        Answer { found, ttl: Duration::from_secs(ttl), lacking: Vec::new() }
    }

    #[test]
    fn ttls_are_bounded() {
        let mut schedule = Schedule::default();
        let mut after = |ttl| {
            let answer = answer(vec![found("10.0.0.1:80", "a")], ttl);
            schedule.answered(answer, &Dns::default()).0.as_secs()
        };
        assert_eq!([after(0), after(1), after(60), after(86400)], [1, 1, 60, 300]);
    }

    #[test]
    fn failures_are_retried_later_and_later_and_told_once() {
        let mut schedule = Schedule::default();
        let waits: Vec<_> = (0..6).map(|_| schedule.failed()).collect();
        let seconds: Vec<_> = waits.iter().map(|(wait, _)| wait.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
        assert_eq!(waits[0].1, News::Fails);
        assert!(waits[1..].iter().all(|(_, news)| *news == News::Nothing));
        let good = || answer(vec![found("10.0.0.1:80", "a")], 5);
        assert_eq!(schedule.answered(good(), &Dns::default()).1, News::Recovered);
        assert_eq!(schedule.answered(good(), &Dns::default()).1, News::Nothing);
        assert_eq!(schedule.failed(), (RETRY, News::Fails));
        assert_eq!(schedule.known().len(), 1, "the last good answer stays");
    }

    #[test]
    fn a_name_stands_for_so_many_servers_at_most_and_that_is_told_once() {
        let mut schedule = Schedule::default();
        let many = |first: usize| {
            let backup = Record { weight: 1, backup: true };
            let of = |n: usize| {
                let record = (n < 100).then_some(backup);
                Found { record, ..found(&format!("10.0.{}.{}:80", n / 256, n % 256), "a") }
            };
            answer((first..first + MAX_SERVERS + 50).map(of).collect(), 5)
        };
        assert_eq!(schedule.answered(many(0), &Dns::default()).1, News::TooMany);
        assert_eq!(schedule.known().len(), MAX_SERVERS);
        let backups = schedule.known().iter().filter(|f| f.record.is_some()).count();
        assert_eq!(backups, 50, "those go first that have to");
        assert!(schedule.known().is_sorted());
        assert_eq!(schedule.answered(many(1), &Dns::default()).1, News::Nothing);
        schedule.answered(answer(vec![found("10.0.0.1:80", "a")], 5), &Dns::default());
        assert_eq!(schedule.answered(many(0), &Dns::default()).1, News::TooMany);
    }

    #[test]
    fn what_could_not_be_learnt_stays_as_it_was() {
        let mut schedule = Schedule::new(vec![
            found("10.0.0.1:80", "a"),
            found("[::1]:80", "a"),
            found("[::2]:80", "b"),
        ]);
        let answer = Answer {
            lacking: vec![("a".into(), true)],
            ..answer(vec![found("10.0.0.2:80", "a"), found("10.0.0.3:80", "b")], 5)
        };
        schedule.answered(answer, &Dns::default());
        let known: Vec<_> = schedule.known().iter().map(|f| f.address.to_string()).collect();
        assert_eq!(known, ["10.0.0.2:80", "10.0.0.3:80", "[::1]:80"]);
    }
}
