//! The health of one server, event by event.

use std::time::Duration;

use proptest::prelude::*;
use roundsman::balance::State;
use roundsman::balance::{FULL, HealthReason, Status};
use roundsman::config::settings::StartState;
use roundsman::health::Transition;
use roundsman::health::machine::{CheckOptions, Event, Machine, Options};
use tokio::time::Instant;

fn options() -> Options {
    Options {
        max_fails: 3,
        fail_window: Duration::from_secs(10),
        fail_timeout: Duration::from_secs(5),
        checks: Some(CheckOptions { fails: 2, passes: 2, start: StartState::Up }),
        slow_start: Duration::ZERO,
    }
}

/// A machine and a clock.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(options: Options) -> Self {
        Self { machine: Machine::new(options, State::Up), now: Instant::now() }
    }

    fn after(&mut self, seconds: u64) -> Option<(Status, Status, HealthReason)> {
        self.now += Duration::from_secs(seconds);
        self.on(Event::Tick)
    }

    fn on(&mut self, event: Event) -> Option<(Status, Status, HealthReason)> {
        let transition = self.machine.on(event, self.now, true);
        transition.map(|Transition { from, to, reason }| (from, to, reason))
    }
}

use Status::{Down, Draining, Ejected, SlowStart, Starting, Suspect, Up};

#[test]
fn a_few_failures_are_an_accident() {
    let mut bench = Bench::new(options());
    assert_eq!(bench.on(Event::Failures(2)), None);
    bench.after(11);
    assert_eq!(bench.on(Event::Failures(2)), None, "the first two are forgotten");
    assert_eq!(bench.on(Event::Failures(1)), Some((Up, Ejected, HealthReason::Failures)));
}

#[test]
fn an_ejected_server_is_tried_and_comes_back() {
    let mut bench = Bench::new(options());
    bench.on(Event::Failures(3));
    assert_eq!(bench.after(4), None);
    assert_eq!(bench.after(1), Some((Ejected, Suspect, HealthReason::TimePassed)));
    assert_eq!(bench.on(Event::Failures(50)), None, "old requests that fail now change nothing");
    assert_eq!(bench.on(Event::TrialFailed), Some((Suspect, Ejected, HealthReason::TrialFailed)));
    assert_eq!(bench.after(5), Some((Ejected, Suspect, HealthReason::TimePassed)));
    assert_eq!(bench.on(Event::TrialPassed), Some((Suspect, Up, HealthReason::TrialPassed)));
    assert_eq!(bench.on(Event::Failures(2)), None, "it starts with a clean slate");
}

#[test]
fn checks_count_in_rows() {
    let mut bench = Bench::new(options());
    for _ in 0..5 {
        assert_eq!(bench.on(Event::CheckFailed), None);
        assert_eq!(bench.on(Event::CheckPassed), None);
    }
    bench.on(Event::CheckFailed);
    assert_eq!(bench.on(Event::CheckFailed), Some((Up, Ejected, HealthReason::ChecksFailed)));
    for _ in 0..5 {
        assert_eq!(bench.on(Event::CheckPassed), None);
        assert_eq!(bench.on(Event::CheckFailed), None);
    }
    bench.on(Event::CheckPassed);
    assert_eq!(bench.on(Event::CheckPassed), Some((Ejected, Up, HealthReason::ChecksPassed)));
}

#[test]
fn passed_checks_do_not_excuse_failed_requests() {
    let mut bench = Bench::new(options());
    bench.on(Event::Failures(3));
    for _ in 0..9 {
        assert_eq!(bench.on(Event::CheckPassed), None);
    }
    bench.on(Event::CheckFailed);
    bench.on(Event::CheckFailed);
    assert_eq!(bench.after(5), None, "the checks still keep it out");
    bench.on(Event::CheckPassed);
    assert_eq!(bench.on(Event::CheckPassed), Some((Ejected, Suspect, HealthReason::ChecksPassed)));
}

#[test]
fn what_systemd_says_goes_before_everything() {
    let mut bench = Bench::new(options());
    let stated = |from, to| Some((from, to, HealthReason::Stated));
    assert_eq!(bench.on(Event::State(State::Draining)), stated(Up, Draining));
    assert_eq!(bench.on(Event::Failures(9)), None);
    assert_eq!(bench.on(Event::State(State::Down)), stated(Draining, Down));
    assert_eq!(bench.on(Event::State(State::Up)), stated(Down, Up), "a new life, a clean slate");
}

#[test]
fn who_starts_down_waits_for_its_first_check() {
    let mut options = options();
    options.checks = Some(CheckOptions { fails: 2, passes: 2, start: StartState::Down });
    let mut bench = Bench::new(options);
    assert_eq!(bench.machine.status(), Starting);
    assert_eq!(bench.on(Event::CheckFailed), None);
    assert_eq!(bench.on(Event::CheckPassed), Some((Starting, Up, HealthReason::ChecksPassed)));
}

#[test]
fn slow_start_rises_in_a_straight_line() {
    let mut bench = Bench::new(Options { slow_start: Duration::from_secs(20), ..options() });
    assert_eq!(bench.machine.verdict(bench.now).share, FULL, "the front starts with all it has");
    bench.on(Event::State(State::Down));
    bench.after(60);
    assert_eq!(bench.on(Event::State(State::Up)), Some((Down, SlowStart, HealthReason::Stated)));
    let mut shares = Vec::new();
    for _ in 0..4 {
        shares.push(bench.machine.verdict(bench.now).share);
        bench.after(5);
    }
    assert_eq!(shares, [1, 250, 500, 750]);
    assert_eq!((bench.machine.status(), bench.machine.verdict(bench.now).share), (Up, FULL));
    bench.on(Event::State(State::Draining));
    bench.on(Event::State(State::Up));
    assert_eq!(bench.machine.status(), Up, "an undrained server is warm");
}

#[test]
fn without_leave_nothing_is_ejected() {
    let mut bench = Bench::new(options());
    assert_eq!(bench.machine.on(Event::Failures(9), bench.now, false), None);
    assert_eq!(bench.machine.on(Event::Outlier, bench.now, false), None);
    assert_eq!(bench.on(Event::Failures(1)), Some((Up, Ejected, HealthReason::Failures)));
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::State(State::Up)),
        Just(Event::State(State::Draining)),
        Just(Event::State(State::Down)),
        (0_u32..4).prop_map(Event::Failures),
        Just(Event::Outlier),
        Just(Event::TrialPassed),
        Just(Event::TrialFailed),
        Just(Event::CheckPassed),
        Just(Event::CheckFailed),
        Just(Event::Tick),
    ]
}

proptest! {
    #[test]
    fn whatever_happens(
        events in prop::collection::vec((0_u64..7, event(), any::<bool>()), 0..200),
        slow_start in 0_u64..15,
    ) {
        let mut bench =
            Bench::new(Options { slow_start: Duration::from_secs(slow_start), ..options() });
        let mut state = State::Up;
        let mut status = Up;
        for (pause, event, may_eject) in events {
            bench.now += Duration::from_secs(pause);
            let tick = bench.machine.on(Event::Tick, bench.now, false);
            let happened = bench.machine.on(event, bench.now, may_eject);
            for Transition { from, to, .. } in [tick, happened].into_iter().flatten() {
                prop_assert_eq!(from, status, "no transition is lost");
                prop_assert_ne!(from, to);
                status = to;
            }
            if let Event::State(new) = event {
                state = new;
            }
            let expected = match state {
                State::Up => ![Down, Draining].contains(&status),
                State::Draining => status == Draining,
                State::Down => status == Down,
            };
            prop_assert!(expected, "{state:?} but {status}");
            let share = bench.machine.verdict(bench.now).share;
            prop_assert!((1..=FULL).contains(&share));
            prop_assert!(status == SlowStart || share == FULL);
        }
        // Whatever it has been through: when all is well, it comes back within its time.
        bench.on(Event::State(State::Up));
        bench.on(Event::CheckPassed);
        bench.on(Event::CheckPassed);
        bench.after(5);
        bench.on(Event::TrialPassed);
        bench.after(15);
        prop_assert_eq!(bench.machine.status(), Up);
        prop_assert_eq!(bench.machine.deadline(), None);
    }
}
