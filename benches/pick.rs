//! What one pick costs, per algorithm and number of servers.
//!
//! `cargo bench --bench pick` prints nanoseconds per pick (pick, count in, count out): the median of
//! many rounds, with one and with two threads at once.

#[path = "../tests/common/algorithms.rs"]
mod algorithms;

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use algorithms::every_algorithm;
use roundsman::balance::key::Random;
use roundsman::balance::{NoKeys, PickInput, Picked, Server, Upstream};
use roundsman::config::settings::{Address, Algorithm, Balancing, ServerOptions};
use tokio::time::Instant;

const ROUNDS: usize = 31;
const PICKS: u32 = 2_000;

fn upstream(algorithm: Algorithm, count: usize, threads: usize) -> Upstream {
    let server = |i: usize| {
        let options = ServerOptions { weight: 1 + (i % 5) as u32, ..ServerOptions::default() };
        let address = Address::Tcp(([10, 0, (i >> 8) as u8, i as u8], 80).into());
        Arc::new(Server::with_options(format!("s{i}"), address, threads, &options))
    };
    let balancing = Balancing { algorithm, ..Balancing::default() };
    Upstream::new("bench", (0..count).map(server).collect(), balancing)
}

fn pick(upstream: &Upstream, thread: usize, random: u64, now: Instant) {
    let input = PickInput {
        thread,
        tried: &[],
        client: Some(IpAddr::from((random as u32).to_be_bytes())),
        request: &NoKeys,
        now,
        random,
    };
    match black_box(upstream.pick_for(&input)) {
        Picked::Server(in_flight) => in_flight.responded(200, now),
        Picked::NoneUp => panic!("all are up"),
    }
}

/// Median nanoseconds per pick on one thread.
fn measure(upstream: &Upstream, thread: usize) -> f64 {
    let mut random = Random::new(thread as u64);
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..PICKS {
                pick(upstream, thread, random.draw(), began);
            }
            began.elapsed().as_nanos() as f64 / f64::from(PICKS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn measure_two(upstream: &Upstream) -> f64 {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| measure(upstream, 1));
        let mine = measure(upstream, 0);
        f64::midpoint(mine, other.join().expect("it does not panic"))
    })
}

fn main() {
    println!("{:<36}{:>9}{:>12}{:>13}", "algorithm", "servers", "ns, alone", "ns, of two");
    for algorithm in every_algorithm() {
        for count in [4, 100, 1_000] {
            let upstream = upstream(algorithm.clone(), count, 2);
            pick(&upstream, 0, 1, Instant::now()); // makes the view
            let (alone, two) = (measure(&upstream, 0), measure_two(&upstream));
            println!("{:<36}{count:>9}{alone:>12.0}{two:>13.0}", algorithm.to_string());
        }
    }
}
