//! Sequences and mappings that were checked against nginx: whoever moves here keeps them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roundsman::balance::ketama::Ring;
use roundsman::balance::smooth::Smooth;
use roundsman::balance::{ip_hash, modulo};
use roundsman::config::settings::Address;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    smooth_wrr: Vec<Sequence>,
    smooth_wrr_failure: Sequence,
    ip_hash: Vec<Mapping<usize>>,
    ip_hash_v6: Vec<Mapping<usize>>,
    hash_crc32: Vec<Mapping<usize>>,
    ketama_k3: Ketama,
}

#[derive(Deserialize)]
struct Sequence {
    weights: Vec<u32>,
    picks: Vec<usize>,
    trace: Vec<Step>,
    #[serde(default)]
    fail_at: Vec<usize>,
    #[serde(default)]
    max_fails: u32,
}

#[derive(Deserialize)]
struct Step {
    pick: usize,
    cw: Vec<i32>,
    ew: Vec<i32>,
}

#[derive(Deserialize)]
struct Mapping<T> {
    weights: Vec<u32>,
    map: BTreeMap<String, T>,
}

#[derive(Deserialize)]
struct Ketama {
    servers: Vec<(String, u32)>,
    points: usize,
    first_points: Vec<(u32, String)>,
    map: BTreeMap<String, String>,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("../data/balance.json")).expect("the file is ours")
}

fn replay(sequence: &Sequence) {
    let mut smooth = Smooth::new(&sequence.weights);
    let usable = vec![true; sequence.weights.len()];
    let steps = sequence.picks.iter().zip(&sequence.trace).enumerate();
    assert!(!sequence.picks.is_empty());
    for (number, (&pick, step)) in steps {
        let picked = smooth.pick(&usable).expect("all are usable");
        assert_eq!((picked, picked), (pick, step.pick), "pick {number}");
        if sequence.fail_at.contains(&number) {
            smooth.failed(picked, sequence.max_fails);
        }
        assert_eq!(smooth.current(), step.cw, "current weights after pick {number}");
        assert_eq!(smooth.effective(), step.ew, "effective weights after pick {number}");
    }
}

#[test]
fn smooth_weighted_round_robin() {
    cases().smooth_wrr.iter().for_each(replay);
}

#[test]
fn smooth_weighted_round_robin_after_a_failure() {
    let case = cases().smooth_wrr_failure;
    assert!(!case.fail_at.is_empty() && case.picks.len() == 14);
    replay(&case);
}

#[test]
fn ip_hash_of_both_families() {
    let cases = cases();
    for case in cases.ip_hash.iter().chain(&cases.ip_hash_v6) {
        let usable = vec![true; case.weights.len()];
        for (address, &server) in &case.map {
            let client: IpAddr = address.parse().expect("an address");
            let picked = ip_hash::pick(Some(client), &case.weights, &usable);
            assert_eq!(picked, Some(server), "{address} over {:?}", case.weights);
        }
    }
}

#[test]
fn plain_hash() {
    for case in cases().hash_crc32 {
        let usable = vec![true; case.weights.len()];
        let mut turns = Smooth::new(&case.weights);
        for (key, &server) in &case.map {
            let picked = modulo::pick(key.as_bytes(), &case.weights, &usable);
            assert_eq!(picked.is_none(), key.is_empty(), "only the empty key has no hash");
            assert_eq!(picked.or_else(|| turns.pick(&usable)), Some(server), "key {key:?}");
        }
    }
}

#[test]
fn ketama_ring() {
    let case = cases().ketama_k3;
    let name = |server: usize| case.servers[server].0.as_str();
    let addresses: Vec<_> = case
        .servers
        .iter()
        .map(|(address, weight)| (Address::Tcp(address.parse().expect("an address")), *weight))
        .collect();
    let ring = Ring::new(addresses.iter().map(|(address, weight)| (address, *weight)));
    assert_eq!(ring.points().len(), case.points);
    for (point, expected) in ring.points().iter().zip(&case.first_points) {
        assert_eq!((point.0, name(usize::from(point.1))), (expected.0, expected.1.as_str()));
    }
    let usable = vec![true; case.servers.len()];
    for (key, server) in &case.map {
        let picked = ring.pick(key.as_bytes(), &usable).map(name);
        assert_eq!(picked, Some(server.as_str()), "key {key:?}");
    }
}
