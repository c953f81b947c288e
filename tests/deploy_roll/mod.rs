//! The rolling deploy's promises, against simulated workers of every kind.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use proptest::prelude::*;
use roundsman::deploy::{Action, Event, Outcome, Plan, Roll};
use tokio::time::Instant;

/// What becomes of a worker that is started.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Good,
    /// It ends before it is ready.
    Broken,
    /// It becomes ready and ends that many milliseconds later.
    Crashes(u64),
}

/// A machine with workers, on a clock of its own.
struct Machine {
    start: Instant,
    now: u64,
    next: u64,
    events: BinaryHeap<Reverse<(u64, u64, Item)>>,
    /// Workers that get requests.
    serving: BTreeSet<u16>,
    /// Workers that run new code, by the number of their start.
    runs_new: BTreeMap<u16, u64>,
    fates: BTreeMap<u16, Fate>,
    boot: u64,
    holds: bool,
    touched: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Drained(u16),
    Ready(u16, u64),
    Failed(u16, u64),
    Undrained(u16),
    Stopped(u16),
    Interrupted,
}

impl Machine {
    fn new(plan: &Plan, fates: BTreeMap<u16, Fate>, boot: u64) -> Self {
        Self {
            start: Instant::now(),
            now: 0,
            next: 0,
            events: BinaryHeap::new(),
            serving: plan.workers.clone(),
            runs_new: BTreeMap::new(),
            fates,
            boot,
            holds: plan.workers.len() + plan.surge.len() > 1,
            touched: Vec::new(),
        }
    }

    fn at(&mut self, after: u64, item: Item) {
        self.next += 1;
        self.events.push(Reverse((self.now + after, self.next, item)));
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Drain(worker) => {
                self.touched.push(worker);
                self.serving.remove(&worker);
                self.at(7, Item::Drained(worker));
            }
            Action::Start(worker) | Action::Restart(worker) => {
                assert!(
                    !self.holds || !self.serving.contains(&worker),
                    "{worker} was restarted while it had requests"
                );
                if !self.holds {
                    self.touched.push(worker);
                }
                self.serving.remove(&worker);
                let run = self.next;
                self.runs_new.insert(worker, run);
                match self.fates.get(&worker).copied().unwrap_or(Fate::Good) {
                    Fate::Good => self.at(self.boot, Item::Ready(worker, run)),
                    Fate::Broken => self.at(self.boot, Item::Failed(worker, run)),
                    Fate::Crashes(after) => {
                        self.at(self.boot, Item::Ready(worker, run));
                        self.at(self.boot + after, Item::Failed(worker, run));
                    }
                }
            }
            Action::Undrain(worker) => {
                self.serving.insert(worker);
                self.at(1, Item::Undrained(worker));
            }
            Action::Stop(worker) => {
                self.serving.remove(&worker);
                self.runs_new.remove(&worker);
                self.at(5, Item::Stopped(worker));
            }
        }
    }

    /// The next thing that happens, unless the roll wants to be asked before.
    fn step(&mut self, until: Option<Instant>) -> Option<Event> {
        let until = until.map(|until| (until - self.start).as_millis() as u64);
        match self.events.peek() {
            Some(Reverse((at, ..))) if until.is_none_or(|until| *at <= until) => {}
            _ => {
                self.now = until.expect("a roll that is not over waits for something");
                return None;
            }
        }
        let Reverse((at, _, item)) = self.events.pop().expect("peeked");
        self.now = at;
        Some(match item {
            Item::Drained(worker) => Event::Drained(worker),
            Item::Ready(worker, run) => {
                if self.runs_new.get(&worker) != Some(&run) {
                    return None;
                }
                if !self.holds {
                    self.serving.insert(worker);
                }
                Event::Ready(worker)
            }
            Item::Failed(worker, run) => {
                if self.runs_new.get(&worker) != Some(&run) {
                    return None;
                }
                self.serving.remove(&worker);
                Event::Failed(worker, "it ended".to_owned())
            }
            Item::Undrained(worker) => Event::Undrained(worker),
            Item::Stopped(worker) => Event::Stopped(worker),
            Item::Interrupted => Event::Interrupted,
        })
    }
}

fn plan(workers: u16, surge: u16, batch: usize) -> Plan {
    Plan {
        workers: (1..=workers).collect(),
        done: BTreeSet::new(),
        surge: (workers + 1..=workers + surge).collect(),
        batch,
        settle: Duration::from_millis(100),
    }
}

struct Ran {
    outcome: Outcome,
    machine: Machine,
    roll: Roll,
    /// The fewest workers that served at any time, before any failure.
    lowest: usize,
    /// Workers touched after the first failure or the interrupt was known.
    touched_late: usize,
}

fn run(plan: &Plan, fates: BTreeMap<u16, Fate>, boot: u64, interrupt: Option<u64>) -> Ran {
    let mut machine = Machine::new(plan, fates, boot);
    if let Some(at) = interrupt {
        machine.at(at, Item::Interrupted);
    }
    let mut roll = Roll::new(plan.clone());
    let mut lowest = machine.serving.len();
    let mut over = false; // a failure or an interrupt was handled
    let mut touched_late = 0;
    for _ in 0..100_000 {
        let touched = machine.touched.len();
        for action in roll.poll(machine.instant()) {
            machine.act(action);
        }
        if over {
            touched_late += machine.touched.len() - touched;
        } else {
            lowest = lowest.min(machine.serving.len());
        }
        if let Some(outcome) = roll.outcome() {
            return Ran { outcome, machine, roll, lowest, touched_late };
        }
        if let Some(event) = machine.step(roll.next_poll()) {
            over |= matches!(event, Event::Failed(..) | Event::Interrupted);
            roll.handle(event, machine.instant());
        }
    }
    panic!("the roll does not end");
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Good),
        1 => Just(Fate::Broken),
        1 => (1_u64..300).prop_map(Fate::Crashes),
    ]
}

proptest! {
    #[test]
    fn capacity_never_falls_while_all_goes_well(
        workers in 1_u16..12, surge in 0_u16..4, batch in 1_usize..5, boot in 1_u64..500,
        interrupt in prop::option::of(0_u64..4000),
    ) {
        let plan = plan(workers, surge, batch);
        let ran = run(&plan, BTreeMap::new(), boot, interrupt);
        let floor = usize::from(workers + surge).saturating_sub(batch).min(usize::from(workers));
        prop_assert!(ran.lowest >= floor, "{} served, {floor} must", ran.lowest);
        // Whatever the interrupt met, every worker serves in the end and no extra one is left.
        prop_assert_eq!(&ran.machine.serving, &plan.workers);
        match ran.outcome {
            Outcome::Done => prop_assert_eq!(ran.roll.done(), plan.workers),
            Outcome::Interrupted => prop_assert!(interrupt.is_some() && ran.roll.done().len() < plan.workers.len()),
            Outcome::Failed { .. } => prop_assert!(false, "nothing failed"),
        }
        prop_assert_eq!(ran.touched_late, 0);
        prop_assert!(ran.roll.surging().is_empty());
    }

    #[test]
    fn the_first_failure_stops_the_roll(
        workers in 1_u16..12, surge in 0_u16..3, batch in 1_usize..4,
        fates in prop::collection::vec(fate(), 15), boot in 1_u64..500,
    ) {
        let plan = plan(workers, surge, batch);
        let fates: BTreeMap<u16, Fate> = (1..).zip(fates).collect();
        let ran = run(&plan, fates.clone(), boot, None);
        prop_assert_eq!(ran.touched_late, 0);
        let untouched: BTreeSet<u16> =
            plan.workers.iter().copied().filter(|w| !ran.machine.touched.contains(w)).collect();
        prop_assert!(untouched.is_subset(&ran.machine.serving), "old code was stopped");
        let bad = |w: &u16| matches!(fates.get(w), Some(Fate::Broken)) || matches!(fates.get(w), Some(Fate::Crashes(n)) if *n < 100);
        match &ran.outcome {
            Outcome::Failed { worker, .. } => prop_assert_ne!(fates[worker], Fate::Good),
            Outcome::Done => prop_assert!(!plan.workers.iter().chain(&plan.surge).any(bad)),
            Outcome::Interrupted => prop_assert!(false),
        }
        // A worker of which it is known that it does not work gets no requests, if another can.
        if ran.machine.holds {
            prop_assert!(!ran.roll.done().iter().any(bad));
        }
        // A broken deploy with an extra worker never touches a worker at all.
        if plan.surge.iter().any(bad) {
            prop_assert!(ran.machine.touched.is_empty());
            prop_assert_eq!(&ran.machine.serving, &plan.workers);
        }
    }

    #[test]
    fn an_interrupted_roll_is_resumed_where_it_stopped(
        workers in 1_u16..10, surge in 0_u16..3, batch in 1_usize..4, at in 0_u64..2000,
    ) {
        let first = plan(workers, surge, batch);
        let ran = run(&first, BTreeMap::new(), 50, Some(at));
        let done = ran.roll.done();
        let second = Plan { done: done.clone(), ..first.clone() };
        let resumed = run(&second, BTreeMap::new(), 50, None);
        prop_assert_eq!(resumed.outcome, Outcome::Done);
        let touched: BTreeSet<u16> = resumed.machine.touched.iter().copied().collect();
        prop_assert!(touched.is_disjoint(&done), "a worker was restarted twice");
        let all: BTreeSet<u16> = touched.union(&done).copied().collect();
        prop_assert_eq!(all, first.workers);
    }
}

#[test]
fn one_worker_with_an_extra_one_goes_step_by_step() {
    let plan = plan(1, 1, 1);
    let mut roll = Roll::new(plan);
    let start = Instant::now();
    let later = start + Duration::from_millis(100);
    assert_eq!(roll.poll(start), [Action::Start(2)]);
    roll.handle(Event::Ready(2), start);
    assert_eq!(roll.poll(start), [], "it is not proven yet");
    assert_eq!(roll.next_poll(), Some(later));
    assert_eq!(roll.poll(later), [Action::Undrain(2)]);
    roll.handle(Event::Undrained(2), later);
    assert_eq!(roll.poll(later), [Action::Drain(1)]);
    roll.handle(Event::Drained(1), later);
    assert_eq!(roll.poll(later), [Action::Restart(1)]);
    roll.handle(Event::Ready(1), later);
    let end = later + Duration::from_millis(100);
    assert_eq!(roll.poll(end), [Action::Undrain(1)]);
    roll.handle(Event::Undrained(1), end);
    assert_eq!(roll.poll(end), [Action::Stop(2)]);
    assert_eq!(roll.outcome(), None);
    roll.handle(Event::Stopped(2), end);
    assert_eq!(roll.poll(end), []);
    assert_eq!(roll.outcome(), Some(Outcome::Done));
}

#[test]
fn the_extra_worker_stays_in_place_of_one_that_failed() {
    let fates = BTreeMap::from([(2, Fate::Broken)]);
    let ran = run(&plan(3, 1, 1), fates, 10, None);
    assert!(matches!(ran.outcome, Outcome::Failed { worker: 2, .. }));
    assert_eq!(ran.machine.serving, BTreeSet::from([1, 3, 4]));
    assert_eq!(ran.roll.surging(), BTreeSet::from([4]));
}

#[test]
fn the_only_worker_is_left_to_systemd_when_it_fails() {
    let ran = run(&plan(1, 0, 1), BTreeMap::from([(1, Fate::Broken)]), 10, None);
    assert!(matches!(ran.outcome, Outcome::Failed { worker: 1, .. }));
    assert!(ran.machine.runs_new.contains_key(&1), "it was not stopped");
}

/// Two workers, of which the first has just been put back into the rotation.
fn first_goes_back() -> (Roll, Instant) {
    let mut roll = Roll::new(plan(2, 0, 1));
    let now = Instant::now();
    assert_eq!(roll.poll(now), [Action::Drain(1)]);
    roll.handle(Event::Drained(1), now);
    assert_eq!(roll.poll(now), [Action::Restart(1)]);
    roll.handle(Event::Ready(1), now);
    let later = now + Duration::from_millis(100);
    assert_eq!(roll.poll(later), [Action::Undrain(1)]);
    (roll, later)
}

#[test]
fn a_worker_that_fails_on_its_way_back_ends_the_roll_and_is_left_to_systemd() {
    let (mut roll, now) = first_goes_back();
    roll.handle(Event::Failed(1, "it ended".to_owned()), now);
    assert_eq!(roll.poll(now), [], "it is not stopped, and no further worker is touched");
    roll.handle(Event::Undrained(1), now);
    assert_eq!(roll.poll(now), []);
    let reason = "it ended".to_owned();
    assert_eq!(roll.outcome(), Some(Outcome::Failed { worker: 1, reason }));
}

#[test]
fn a_worker_that_was_done_before_and_fails_now_is_none_of_the_rolls_business() {
    let (mut roll, now) = {
        let plan = Plan { done: BTreeSet::from([1]), ..plan(2, 0, 1) };
        (Roll::new(plan), Instant::now())
    };
    assert_eq!(roll.poll(now), [Action::Drain(2)]);
    roll.handle(Event::Failed(1, "it ended".to_owned()), now);
    roll.handle(Event::Drained(2), now);
    assert_eq!(roll.poll(now), [Action::Restart(2)], "the roll goes on");
    roll.handle(Event::Ready(2), now);
    let later = now + Duration::from_millis(100);
    assert_eq!(roll.poll(later), [Action::Undrain(2)]);
    roll.handle(Event::Undrained(2), later);
    assert_eq!(roll.outcome(), Some(Outcome::Done));
}

#[test]
fn a_worker_that_fails_after_the_roll_has_replaced_it_ends_the_roll() {
    let (mut roll, now) = first_goes_back();
    roll.handle(Event::Undrained(1), now);
    roll.handle(Event::Failed(1, "it ended".to_owned()), now);
    assert_eq!(roll.poll(now), [], "no further worker is touched");
    assert!(matches!(roll.outcome(), Some(Outcome::Failed { worker: 1, .. })));
}
