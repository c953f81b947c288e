//! Balancing and health over the wire: the real binary, real servers, two and four threads.

mod names;
mod support;
mod zone;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::Instant;

use support::{Client, Front, Manner, Origin, PATIENCE};

const CLIENTS: usize = 4;

fn origins(count: usize) -> Vec<Origin> {
    (0..count).map(Origin::start).collect()
}

/// So many requests by several clients at once; how many each server answered.
fn load(front: &Front, requests: usize) -> BTreeMap<String, usize> {
    let counts = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::new(front);
                for _ in 0..requests / CLIENTS {
                    let got = client.get("").expect("a response");
                    assert_eq!(got.status, 200, "{got:?}");
                    *counts.lock().expect("nobody panics with it").entry(got.body).or_insert(0) +=
                        1;
                }
            });
        }
    });
    counts.into_inner().expect("nobody panics with it")
}

fn count(counts: &BTreeMap<String, usize>, server: &str) -> usize {
    counts.get(server).copied().unwrap_or(0)
}

fn distributions(threads: usize) {
    let origins = origins(3);
    let front = Front::start(threads, &origins, &[1, 1, 1], "");
    let counts = load(&front, 600);
    println!("{threads} threads, round-robin: {counts:?}");
    assert!(counts.values().all(|&c| c == 200), "{counts:?}");

    let weighted = "balance = \"weighted-round-robin\"\n";
    let front = Front::start(threads, &origins, &[5, 1, 1], weighted);
    let counts = load(&front, 700);
    println!("{threads} threads, weighted-round-robin 5/1/1: {counts:?}");
    for (server, share) in [("s0", 500), ("s1", 100), ("s2", 100)] {
        assert!(count(&counts, server).abs_diff(share) < 2 * threads, "{counts:?}");
    }

    origins[2].behave(Manner::Slow);
    for balance in ["least-connections", "peak-ewma"] {
        let front =
            Front::start(threads, &origins, &[1, 1, 1], &format!("balance = \"{balance}\"\n"));
        let counts = load(&front, 600);
        println!("{threads} threads, {balance}, s2 slow: {counts:?}");
        let (slow, fast) = (count(&counts, "s2"), count(&counts, "s0").min(count(&counts, "s1")));
        assert!(slow * 2 < fast, "{balance}: {counts:?}");
    }
}

#[test]
fn distributions_with_two_threads() {
    distributions(2);
}

#[test]
fn distributions_with_four_threads() {
    distributions(4);
}

/// The client's address comes from a proxy that is trusted, of either family.
#[test]
fn ip_hash_behind_another_proxy() {
    let origins = origins(2);
    let front = Front::start(2, &origins, &[1, 1], "balance = \"ip-hash\"\n");
    let mut client = Client::new(&front);
    for _ in 0..5 {
        for (ip, server) in
            [("10.0.0.1", "s1"), ("10.0.0.254", "s1"), ("192.168.1.77", "s0"), ("8.8.8.8", "s1")]
        {
            let got = client.get(&format!("X-Forwarded-For: {ip}\r\n")).expect("a response");
            assert_eq!(got.body, server, "{ip}");
        }
    }
    let mut homes = BTreeMap::new();
    for round in 0..3 {
        for host in 0..20 {
            let ip = format!("2001:db8::{host:x}");
            let got = client.get(&format!("X-Forwarded-For: {ip}\r\n")).expect("a response");
            let home = homes.entry(ip).or_insert_with(|| got.body.clone());
            assert_eq!(*home, got.body, "round {round}");
        }
    }
    assert!(homes.values().any(|s| s == "s0") && homes.values().any(|s| s == "s1"), "{homes:?}");
}

#[test]
fn a_sticky_cookie_over_the_wire() {
    let origins = origins(3);
    let front = Front::start(2, &origins, &[1; 3], "sticky = { cookie = \"server\" }\n");
    for _ in 0..3 {
        let mut client = Client::new(&front);
        let first = client.get("").expect("a response");
        let cookie = first
            .head
            .lines()
            .find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("set-cookie").then(|| value.split(';').next())?
            })
            .expect("a cookie");
        for _ in 0..6 {
            let got = client.get(&format!("Cookie: a=b; {cookie}\r\n")).expect("a response");
            assert_eq!(got.body, first.body);
            assert!(!got.head.to_lowercase().contains("set-cookie"), "{}", got.head);
        }
    }
}

// === faults ===

/// What a fault cost.
#[derive(Debug)]
struct Cost {
    requests: usize,
    broken: usize,
    refused: usize,
    errors: usize,
    out_ms: u128,
    in_ms: u128,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "of {} requests {} broke off, {} were refused, {} got the server's error; out after \
             {} ms, in again {} ms after it was well",
            self.requests, self.broken, self.refused, self.errors, self.out_ms, self.in_ms
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
    let (mut out_ms, mut in_ms) = (0, 0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::new(front);
                while !over.load(Ordering::SeqCst) {
                    requests.fetch_add(1, Ordering::SeqCst);
                    match client.get("").map(|got| got.status) {
                        Some(200) => continue,
                        Some(500) => &errors,
                        Some(_) => &refused,
                        None => &broken,
                    }
                    .fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let wait_for = |state: &dyn Fn(&str) -> bool| {
            let began = Instant::now();
            while !state(&front.servers()[0].0) {
                if began.elapsed() > PATIENCE {
                    over.store(true, Ordering::SeqCst);
                    panic!("the server is {:?}", front.servers());
                }
                std::thread::yield_now();
            }
            began.elapsed().as_millis()
        };
        while requests.load(Ordering::SeqCst) < 50 {
            std::thread::yield_now();
        }
        ail(origin);
        out_ms = wait_for(&|state| state == "ejected");
        heal(origin);
        in_ms = wait_for(&|state| state == "up");
        over.store(true, Ordering::SeqCst);
    });
    let [requests, broken, refused, errors] =
        [requests, broken, refused, errors].map(AtomicUsize::into_inner);
    Cost { requests, broken, refused, errors, out_ms, in_ms }
}

/// Failures that eject are `max-fails`; as many more may be under way, and each trial may fail.
const PASSIVE: &str = "[passive]\nmax-fails = 3\nfail-window = \"10s\"\nfail-timeout = \"1s\"\n\
                       error-rate = 50\nmin-requests = 20\n";

fn faults(threads: usize) {
    let mut origins = origins(3);
    let front = Front::start(threads, &origins, &[1; 3], PASSIVE);
    let origin = &mut origins[0];
    let back = |origin: &mut Origin| origin.behave(Manner::Well);
    // Those that hang at the same time fail at the same time, and until that is known each client
    // may have run into it once more.
    let few = CLIENTS + CLIENTS;

    let killed = cost(&front, origin, Origin::kill, Origin::revive);
    println!("{threads} threads, killed: {killed}");
    assert_eq!((killed.broken, killed.refused, killed.errors), (0, 0, 0), "retries cover it");

    let hanging = cost(&front, origin, |o| o.behave(Manner::Hanging), back);
    println!("{threads} threads, hanging: {hanging}");
    assert!(hanging.broken + hanging.refused <= few, "{hanging:?}");

    let breaking = cost(&front, origin, |o| o.behave(Manner::BreakingOff), back);
    println!("{threads} threads, breaking off: {breaking}");
    assert!(breaking.broken + breaking.refused <= few, "{breaking:?}");

    let failing = cost(&front, origin, |o| o.behave(Manner::Failing), back);
    println!("{threads} threads, answering 500: {failing}");
    assert_eq!((failing.broken, failing.refused), (0, 0));
    assert!(failing.errors > 0);

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
