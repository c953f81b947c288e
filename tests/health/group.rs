//! The health of the servers of one upstream, taken together.

use std::time::Duration;

use roundsman::balance::{Counts, HealthReason, State, Status};
use roundsman::config::settings::Passive;
use roundsman::health::Transition;
use roundsman::health::group::{Group, Sight};
use roundsman::health::machine::Options;
use tokio::time::Instant;

/// Two servers, what was counted of each, and a clock.
struct Bench {
    group: Group,
    counts: [Counts; 2],
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let passive = Passive { min_requests: 20, ..Passive::default() };
        let now = Instant::now();
        let mut group = Group::new(passive.clone());
        let options = Options::new(&passive, None, Duration::ZERO);
        let members = (0..2).map(|id| (id, options.clone(), sight(Counts::default())));
        group.set_members(&passive, members, now);
        Self { group, counts: [Counts::default(); 2], now }
    }

    /// What becomes of the first server.
    fn look(&mut self) -> Vec<(Status, HealthReason)> {
        let mut seen = Vec::new();
        let note = |server, Transition { to, reason, .. }| {
            assert_eq!(server, 0, "the other one is well");
            seen.push((to, reason));
        };
        self.group.look(&self.counts.map(sight), false, self.now, note);
        seen
    }

    fn after(&mut self, time: Duration) -> Vec<(Status, HealthReason)> {
        self.now += time;
        self.look()
    }
}

fn sight(counts: Counts) -> Sight {
    Sight { state: State::Up, backup: false, counts }
}

/// However late the request threads learn of an ejection, and however many requests they send the
/// server until then.
#[test]
fn what_was_sent_before_an_ejection_does_not_count_when_the_server_is_back() {
    let fail_timeout = Passive::default().fail_timeout;
    for failures in [false, true] {
        let mut bench = Bench::new();
        let bad = |bench: &mut Bench, count| {
            if failures {
                bench.counts[0].failures += count;
                bench.counts[0].blamed += count;
            } else {
                bench.counts[0].answered += count;
                bench.counts[0].errors += count;
            }
        };
        bench.counts[1].answered += 1000;
        bad(&mut bench, 30);
        let reason = if failures { HealthReason::Failures } else { HealthReason::ErrorRate };
        assert_eq!(bench.look(), [(Status::Ejected, reason)]);
        bad(&mut bench, 30);
        assert_eq!(bench.look(), []);
        assert_eq!(bench.after(fail_timeout), [(Status::Suspect, HealthReason::TimePassed)]);
        bad(&mut bench, 30);
        bench.counts[0].answered += 1;
        bench.counts[0].trials_passed += 1;
        bench.counts[1].answered += 1000;
        assert_eq!(bench.look(), [(Status::Up, HealthReason::TrialPassed)]);
        bench.counts[0].answered += 20;
        bench.counts[1].answered += 1000;
        assert_eq!(bench.after(Duration::from_millis(10)), [], "it is well");
    }
}

#[test]
fn failures_in_rows_count_only_while_another_server_answers() {
    let mut bench = Bench::new();
    let row = |bench: &mut Bench| {
        bench.counts[0].failures += 3;
        bench.counts[0].in_rows += 3;
        bench.look()
    };
    assert_eq!(row(&mut bench), [], "it may be the requests");
    bench.counts[1].answered += 1;
    assert_eq!(row(&mut bench), [(Status::Ejected, HealthReason::Failures)]);
}
