//! What it costs when a server fails, in each way it can, with two and with four threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::PATIENCE;
use super::origin::{Manner, Origin};
use super::support::{Client, Front};
use super::{CLIENTS, count, load, origins};

/// What a fault cost.
#[derive(Debug)]
struct Cost {
    requests: usize,
    broken: usize,
    refused: usize,
    errors: usize,
    out: Duration,
    back: Duration,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "of {} requests {} broke off, {} were refused, {} got the server's error; out after \
             {} ms, in again {} ms after it was well",
            self.requests,
            self.broken,
            self.refused,
            self.errors,
            self.out.as_millis(),
            self.back.as_millis()
        )
    }
}

/// Load while `ail` makes a server ill, until the front has taken it out, and on until `heal` has
/// brought it back.
fn cost(
    front: &Front,
    origin: &mut Origin,
    ail: impl FnOnce(&mut Origin),
    heal: impl FnOnce(&mut Origin),
) -> Cost {
    let over = AtomicBool::new(false);
    let [requests, broken, refused, errors] = [const { AtomicUsize::new(0) }; 4];
    let (mut out, mut back) = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::new(front);
                while !over.load(Ordering::SeqCst) {
                    requests.fetch_add(1, Ordering::SeqCst);
                    match client.get("").map(|got| got.status()) {
                        Some(200) => continue,
                        Some(500) => &errors,
                        Some(_) => &refused,
                        None => &broken,
                    }
                    .fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let wait_for = |state: &str| {
            let began = Instant::now();
            while front.servers()[0].0 != state {
                if began.elapsed() > PATIENCE {
                    over.store(true, Ordering::SeqCst);
                    panic!("the server is {:?}", front.servers());
                }
                std::thread::yield_now();
            }
            began.elapsed()
        };
        while requests.load(Ordering::SeqCst) < 50 {
            std::thread::yield_now();
        }
        ail(origin);
        out = wait_for("ejected");
        heal(origin);
        back = wait_for("up");
        over.store(true, Ordering::SeqCst);
    });
    let [requests, broken, refused, errors] =
        [requests, broken, refused, errors].map(AtomicUsize::into_inner);
    Cost { requests, broken, refused, errors, out, back }
}

const PASSIVE: &str = "[passive]\nmax-fails = 3\nfail-window = \"10s\"\nfail-timeout = \"1s\"\n\
                       error-rate = 50\nmin-requests = 20\n";
/// `fail-timeout`, and `response-header` as the front of these tests has it.
const FAIL_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_HEADER: Duration = Duration::from_secs(4);
/// What a busy machine may add.
const BUSY: Duration = Duration::from_secs(20);
/// Failures that eject are `max-fails`. Requests that time out at the same moment are found out about
/// together, and until it is known each client may have run into it once more, on a busy machine twice.
const FEW: usize = 3 * CLIENTS;
/// What fails at once fails more often in the milliseconds until a busy control thread knows.
const FAST: usize = 20 * CLIENTS;

fn faults(threads: usize) {
    let mut origins = origins(3);
    let front = Front::start(threads, &origins, &[1; 3], PASSIVE);
    let origin = &mut origins[0];
    let check = |what: &str, cost: &Cost, out: Duration| {
        println!("{threads} threads, {what}: {cost}");
        assert!(cost.out < out + BUSY, "{what}: {cost}");
        assert!(cost.back < FAIL_TIMEOUT + BUSY, "{what}: {cost}");
    };
    let back = |origin: &mut Origin| origin.behave(Manner::Well);

    let killed = cost(&front, origin, Origin::kill, Origin::revive);
    check("killed", &killed, Duration::ZERO);
    assert_eq!((killed.broken, killed.refused, killed.errors), (0, 0, 0), "retries cover it");

    let hanging = cost(&front, origin, |o| o.behave(Manner::Hanging), back);
    check("hanging", &hanging, RESPONSE_HEADER);
    assert!(hanging.broken + hanging.refused <= FEW, "{hanging}");
    assert_eq!(hanging.errors, 0);

    for manner in [Manner::BreakingOff, Manner::Resetting] {
        let breaking = cost(&front, origin, |o| o.behave(manner), back);
        check(&format!("{manner:?}"), &breaking, Duration::ZERO);
        assert!(breaking.broken + breaking.refused <= FAST, "{breaking}");
        assert_eq!(breaking.errors, 0);
    }

    // A 500 is an answer and reaches the client; the error rate ejects after `min-requests`.
    let failing = cost(&front, origin, |o| o.behave(Manner::Failing), back);
    check("answering 500", &failing, Duration::ZERO);
    assert_eq!((failing.broken, failing.refused), (0, 0));
    assert!(failing.errors > 0);

    let counted = front.transitions(0);
    println!("{threads} threads, transitions: {counted}");
    let ejected = &counted["ejected"];
    assert_eq!(ejected["error-rate"].as_u64(), Some(1), "{counted}");
    assert!(ejected["failures"].as_u64() >= Some(4), "{counted}");
    assert!(front.log().contains("is ejected, was up (failures;"), "{}", front.log());

    // Slow, but within its time: nobody fails, and it stays.
    origin.behave(Manner::Slow);
    let counts = load(&front, 60);
    println!("{threads} threads, slow: {counts:?}");
    assert!(count(&counts, "s0") > 0);
    assert_eq!(front.servers()[0].0, "up");
    origin.behave(Manner::Well);
}

#[test]
fn faults_with_two_threads() {
    faults(2);
}

#[test]
fn faults_with_four_threads() {
    faults(4);
}
