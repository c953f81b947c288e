//! How each algorithm spreads requests over the servers, with two and with four threads.

use std::collections::BTreeMap;

use super::origin::{Manner, Origin};
use super::support::{Client, Front};
use super::{client_addresses, count, load, origins};

fn start(threads: usize, origins: &[Origin], weights: &[u32], more: &str) -> Front {
    Front::start(threads, origins, weights, more)
}

fn in_turn(threads: usize) {
    let origins = origins(3);
    let front = start(threads, &origins, &[1, 1, 1], "");
    let counts = load(&front, 600);
    println!("{threads} threads, round-robin: {counts:?}");
    assert!(counts.values().all(|&c| c == 200), "{counts:?}");

    let front = start(threads, &origins, &[5, 1, 1], "balance = \"weighted-round-robin\"\n");
    let counts = load(&front, 7_000);
    println!("{threads} threads, weighted-round-robin 5/1/1: {counts:?}");
    for (server, share) in [("s0", 5_000), ("s1", 1_000), ("s2", 1_000)] {
        assert!(count(&counts, server).abs_diff(share) <= 2 * threads, "{counts:?}");
    }
}

fn by_load(threads: usize) {
    for balance in ["least-connections", "peak-ewma"] {
        let origins = origins(3);
        let text = format!("balance = \"{balance}\"\n[passive]\nerror-rate = 0\n");
        let front = start(threads, &origins, &[1, 1, 1], &text);
        let counts = load(&front, 900);
        println!("{threads} threads, {balance}, all alike: {counts:?}");
        // Whoever had a slow first answer is avoided for a while by the latency.
        let least = if balance == "peak-ewma" { 1 } else { 30 };
        assert!((0..3).all(|n| count(&counts, &format!("s{n}")) >= least), "{counts:?}");

        // Weights divide what is in flight, so there must be something in flight.
        for origin in &origins {
            origin.behave(Manner::Slow);
        }
        let front = start(threads, &origins, &[4, 1, 1], &text);
        let counts = load(&front, 80);
        println!("{threads} threads, {balance}, weights 4/1/1: {counts:?}");
        let others = count(&counts, "s1").max(count(&counts, "s2"));
        assert!(count(&counts, "s0") > others, "{counts:?}");
        for origin in &origins {
            origin.behave(Manner::Well);
        }

        for (manner, what) in [(Manner::Slow, "slow"), (Manner::Failing, "failing fast")] {
            origins[2].behave(manner);
            let front = start(threads, &origins, &[1, 1, 1], &text);
            let counts = load(&front, 600);
            println!("{threads} threads, {balance}, s2 {what}: {counts:?}");
            // Less than half of a fair share; how the others share the rest is their latency's doing.
            assert!(count(&counts, "s2") < 100, "{balance}, {what}: {counts:?}");
        }
    }
}

/// Each client has a server, whatever connection and thread it comes by.
fn by_key(threads: usize) {
    let origins = origins(3);
    for (text, least) in [
        ("balance = \"ip-hash\"\n", 60),
        ("balance = \"hash\"\nhash = { method = \"maglev\" }\n", 60),
        ("balance = \"hash\"\nhash = { method = \"ketama\" }\n", 30),
        ("balance = \"hash\"\nhash = { method = \"modulo\" }\n", 60),
    ] {
        let front = start(threads, &origins, &[1, 1, 1], text);
        let mut homes = BTreeMap::new();
        let mut counts = BTreeMap::new();
        // As many connections as it takes to be on each thread.
        for _ in 0..2 * threads {
            let mut client = Client::new(&front);
            for ip in client_addresses(300) {
                let got = client.get(&format!("X-Forwarded-For: {ip}\r\n")).expect("a response");
                let home = homes.entry(ip).or_insert_with(|| {
                    *counts.entry(got.text().to_owned()).or_insert(0) += 1;
                    got.text().to_owned()
                });
                assert_eq!(*home, got.text(), "{text}");
            }
        }
        println!("{threads} threads, {}: clients by server {counts:?}", text.replace('\n', " "));
        assert!((0..3).all(|n| count(&counts, &format!("s{n}")) >= least), "{text}: {counts:?}");
    }
}

#[test]
fn in_turn_with_two_threads() {
    in_turn(2);
}

#[test]
fn in_turn_with_four_threads() {
    in_turn(4);
}

#[test]
fn by_load_with_two_threads() {
    by_load(2);
}

#[test]
fn by_load_with_four_threads() {
    by_load(4);
}

#[test]
fn by_key_with_two_threads() {
    by_key(2);
}

#[test]
fn by_key_with_four_threads() {
    by_key(4);
}

/// nginx's own numbers, and the client's address comes from a proxy that is trusted.
#[test]
fn ip_hash_behind_another_proxy() {
    let origins = origins(2);
    let front = Front::start(2, &origins, &[1, 1], "balance = \"ip-hash\"\n");
    let mut client = Client::new(&front);
    for (ip, server) in
        [("10.0.0.1", "s1"), ("10.0.0.254", "s1"), ("192.168.1.77", "s0"), ("8.8.8.8", "s1")]
    {
        let got = client.get(&format!("X-Forwarded-For: {ip}\r\n")).expect("a response");
        assert_eq!(got.text(), server, "{ip}");
    }
}

/// A server never has more requests than it may, and those that wait are answered.
#[test]
fn max_connections_holds_and_the_rest_waits() {
    let origins = origins(2);
    for origin in &origins {
        origin.behave(Manner::Slow);
    }
    for balance in ["round-robin", "least-connections"] {
        let text = format!("balance = \"{balance}\"\nmax-connections = 1\n");
        let front = Front::start(4, &origins, &[1, 1], &text);
        let counts = load(&front, 60); // four clients at a time for two places
        println!("max-connections = 1, {balance}: {counts:?}");
        assert_eq!(counts.values().sum::<usize>(), 60);
        assert!(origins.iter().all(|origin| origin.most_at_once() == 1));
    }
}
