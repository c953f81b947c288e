//! The pool against a model of a server that writes at every possible moment: what it sends carries
//! the mark of the request that it was meant for, so that a shifted answer is seen.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::*;
use crate::config::settings::Address;

/// Steps of the model's time.
const STEP: Duration = Duration::from_micros(100);
const REST_STEPS: u64 = (REST.as_micros() / STEP.as_micros()) as u64;
const LONG_STEPS: u64 = (LONG_REST.as_micros() / STEP.as_micros()) as u64;

/// A connection: what the server has sent or is going to, by when it arrives, with whom it is for.
#[derive(Debug)]
struct Wire {
    number: usize,
    said: RefCell<Vec<(u64, usize)>>,
    /// When the thread last asked the kernel.
    looked: Rc<Cell<u64>>,
}

impl Unused for Rc<Wire> {
    fn look(&self) -> Seen {
        let came = |said: &(u64, usize)| said.0 <= self.looked.get();
        if self.said.borrow().iter().any(came) { Seen::Bytes } else { Seen::Nothing }
    }
}

/// What a server does, and when it is asked.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// From one request to the next.
    gap: u64,
    /// From a request to its answer.
    service: u64,
    /// From an answer to the bytes behind it.
    behind: u64,
    /// Every which answer has bytes behind it.
    careless: usize,
    /// Answers have no body.
    bodiless: bool,
    /// How long ago the thread asked the kernel when it takes a connection.
    lag: u64,
    requests: usize,
}

#[derive(Debug, Default)]
struct Outcome {
    /// Requests that got what was for another.
    shifted: usize,
    connections: usize,
    trusted: bool,
}

fn wire(number: usize, looked: &Rc<Cell<u64>>) -> Rc<Wire> {
    Rc::new(Wire { number, said: RefCell::default(), looked: Rc::clone(looked) })
}

fn server() -> Arc<Server> {
    Arc::new(Server::new("s", Address::Tcp("127.0.0.1:1".parse().expect("an address")), 1))
}

fn run(case: Case) -> Outcome {
    let server = server();
    let start = Instant::now();
    let at = |step: u64| start + STEP * step as u32;
    let looked = Rc::new(Cell::new(0));
    let mut pool = Pool::<Rc<Wire>>::default();
    let mut outcome = Outcome::default();
    // Answers on their way, the soonest first; by the connection's number.
    let mut answers = BinaryHeap::new();
    let mut wires: Vec<Rc<Wire>> = Vec::new();
    let end = |pool: &mut Pool<_>, wire: &Rc<Wire>, now: u64| {
        looked.set(now);
        if wire.look() == Seen::Bytes {
            return distrust(&server, at(now)); // read with the answer, or behind it
        }
        let usable = Usable { idle: None, bodiless: case.bodiless };
        let limits = (Duration::from_secs(4), 256);
        let of = (server.incarnation(), None);
        pool.put(&server, of, (Rc::clone(wire), usable), limits, at(now));
    };
    for number in 0..case.requests {
        let now = 1 + number as u64 * case.gap;
        while let Some(&Reverse((done, wire))) = answers.peek()
            && done <= now
        {
            answers.pop();
            end(&mut pool, &wires[wire], done);
        }
        looked.set(now.saturating_sub(case.lag));
        let taken = pool.take(&server, None, at(now)).unwrap_or_else(|| {
            let number = wires.len();
            wires.push(wire(number, &looked));
            Rc::clone(&wires[number])
        });
        let mut said = taken.said.borrow_mut();
        let answered = now + case.service;
        said.push((answered, number));
        if number % case.careless == 0 {
            said.push((answered + case.behind, number));
        }
        said.sort_unstable();
        // The first thing that is there, or comes, is the answer.
        let (came, owner) = said.remove(0);
        outcome.shifted += usize::from(owner != number);
        answers.push(Reverse((came.max(now), taken.number)));
    }
    outcome.connections = wires.len();
    let last = case.requests as u64 * case.gap + 10 * LONG_STEPS;
    looked.set(last);
    pool.sweep(at(last));
    outcome.trusted = server.may_reuse(at(last));
    outcome
}

/// Every fifth case, which is each value of each with each of each other; all of them in `make soak`.
fn cases(careless: &[usize], requests: usize) -> impl Iterator<Item = Case> {
    let every = if std::env::var_os("ROUNDSMAN_RUNS").is_some() { 1 } else { 5 };
    all_cases(careless, requests).step_by(every)
}

fn all_cases(careless: &[usize], requests: usize) -> impl Iterator<Item = Case> {
    let behind = (1..=2 * REST_STEPS).chain((LONG_STEPS - 2..=LONG_STEPS + 2).chain([100, 300]));
    behind.flat_map(move |behind| {
        let careless = careless.to_vec();
        let gaps = [1, 2, 3, 5, REST_STEPS - 1, REST_STEPS + 1, 50, LONG_STEPS - 1];
        gaps.into_iter().flat_map(move |gap| {
            let careless = careless.clone();
            [0, 1, 5].into_iter().flat_map(move |lag| {
                let careless = careless.clone();
                [(1, false), (1, true), (7, false), (7, true)].into_iter().flat_map(
                    move |(service, bodiless)| {
                        careless.clone().into_iter().map(move |careless| Case {
                            gap,
                            service,
                            behind,
                            careless,
                            bodiless,
                            lag,
                            requests,
                        })
                    },
                )
            })
        })
    })
}

#[test]
fn what_comes_while_a_connection_rests_is_nobodys_answer() {
    for case in cases(&[1, 2, 7], 60) {
        // Of a server that is new, every connection rests long.
        if case.behind + case.lag <= LONG_STEPS {
            let outcome = run(case);
            assert_eq!(outcome.shifted, 0, "{case:?}");
            assert!(!outcome.trusted, "it was seen: {case:?}");
        }
    }
}

#[test]
fn of_a_server_that_was_good_for_long_it_is_the_same_within_the_shorter_rest() {
    let first = usize::try_from(PROOF).expect("a small number") * 4;
    for case in cases(&[first], first + 200) {
        let rest = if case.bodiless { LONG_STEPS } else { REST_STEPS };
        // The very first answer is careless, too, and forgiven when nobody saw it.
        if case.gap > case.service && case.behind + case.lag <= rest {
            assert_eq!(run(case).shifted, 0, "{case:?}");
        }
    }
}

#[test]
fn whatever_the_timing_what_is_shifted_is_seen_and_then_nothing_is_any_more() {
    for case in cases(&[1, 3, 200], 500) {
        let outcome = run(case);
        // Requests that began before the first connection on which it shows had rested long.
        let seen = case.service + LONG_STEPS + case.lag;
        let begun = 1 + seen.div_ceil(case.gap) as usize;
        assert!(outcome.shifted <= begun, "{outcome:?} {case:?}");
        assert!(outcome.shifted == 0 || !outcome.trusted, "{outcome:?} {case:?}");
    }
}

#[test]
fn a_server_that_keeps_to_its_turn_has_few_connections() {
    let case = Case {
        gap: 1,
        service: 2,
        behind: 1,
        careless: usize::MAX,
        bodiless: false,
        lag: 1,
        requests: 20_000,
    };
    // Request 0 is careless by its number; a server that never is has none.
    let outcome = run(Case { behind: u64::MAX / 2, ..case });
    assert!(outcome.trusted);
    let new = 2 * LONG_STEPS as usize; // while it is new
    assert!(outcome.connections <= new + 2 * REST_STEPS as usize, "{outcome:?}");
}

#[test]
fn of_a_server_that_answers_very_often_the_longest_rested_is_used() {
    let server = server();
    let start = Instant::now();
    let looked = Rc::new(Cell::new(0));
    let mut pool = Pool::default();
    let put = |pool: &mut Pool<_>, number, now| {
        let usable = Usable { idle: None, bodiless: false };
        let limits = (Duration::from_secs(4), 256);
        pool.put(&server, (0, None), (wire(number, &looked), usable), limits, now);
    };
    let many = PROOF as usize;
    (0..many).for_each(|number| put(&mut pool, number, start));
    let mut now = start + LONG_REST;
    pool.sweep(now); // the first, short part of it
    assert!(pool.take(&server, None, now).is_some(), "all have rested long");
    while pool.take(&server, None, now).is_some() {}
    now += STEP;
    let other = many + MOST_RESTING;
    (many..other).for_each(|number| put(&mut pool, number, now));
    assert!(pool.take(&server, None, now).is_none(), "so many can rest");
    put(&mut pool, other, now);
    let longest = pool.take(&server, None, now).expect("one too many rests");
    assert_eq!(longest.number, many);
    assert!(pool.take(&server, None, now).is_none());
    assert!(pool.take(&server, None, now + REST).is_some());
}

#[test]
fn connections_end_with_their_time_their_server_and_their_client() {
    let server = server();
    let start = Instant::now();
    let looked = Rc::new(Cell::new(0));
    let mut pool = Pool::default();
    let client = Some([192, 0, 2, 1].into());
    let put = |pool: &mut Pool<_>, idle, now| {
        let usable = Usable { idle, bodiless: false };
        let limits = (Duration::from_secs(4), 2);
        pool.put(&server, (server.incarnation(), client), (wire(0, &looked), usable), limits, now);
    };
    let later = |ms| start + Duration::from_millis(ms);
    put(&mut pool, None, start);
    assert!(pool.take(&server, client, later(19)).is_none(), "it rests");
    assert!(pool.take(&server, None, later(21)).is_none(), "it is another client's");
    assert!(pool.take(&server, client, later(21)).is_some());
    put(&mut pool, None, start);
    assert!(pool.take(&server, client, later(4001)).is_none(), "its time is up");
    put(&mut pool, Some(2), start);
    assert!(pool.take(&server, client, later(1001)).is_none(), "a second before the server's");
    (0..5).for_each(|_| put(&mut pool, None, start));
    assert_eq!(pool.servers[0].len(), 2);
    server.set_state(crate::balance::State::Down);
    server.set_state(crate::balance::State::Up);
    assert!(pool.take(&server, client, later(21)).is_none(), "of another life");
    put(&mut pool, None, start);
    pool.forget(server.id);
    assert!(pool.take(&server, client, later(21)).is_none());
}
