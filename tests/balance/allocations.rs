//! Picking allocates nothing, whatever the algorithm.

use std::net::IpAddr;
use std::sync::Arc;

use roundsman::balance::key::Random;
use roundsman::balance::{NoKeys, PickInput, Picked, Server, Upstream};
use roundsman::config::settings::{Address, Algorithm, Balancing, ServerOptions, Sticky};
use tokio::time::Instant;

use super::algorithms::every_algorithm;

fn upstream(algorithm: Algorithm) -> Upstream {
    let server = |i: usize| {
        let options = ServerOptions {
            weight: 1 + (i % 5) as u32,
            max_connections: i.is_multiple_of(2).then_some(100),
            ..ServerOptions::default()
        };
        let address = Address::Tcp(([10, 0, 0, i as u8], 80).into());
        Arc::new(Server::with_options(format!("s{i}"), address, 1, &options))
    };
    let sticky = Sticky {
        cookie: "pin".into(),
        max_age: None,
        secure: false,
        drain: true,
        secret: Some("secret".into()),
    };
    let balancing = Balancing { algorithm, sticky: Some(sticky), ..Balancing::default() };
    Upstream::new("test", (0..50).map(server).collect(), balancing)
}

#[test]
fn no_pick_allocates() {
    for algorithm in every_algorithm() {
        let upstream = upstream(algorithm.clone());
        let mut random = Random::new(1);
        let mut pick = || {
            let number = random.draw();
            let input = PickInput {
                thread: 0,
                tried: &[upstream.servers[3].id],
                client: Some(IpAddr::from((number as u32).to_be_bytes())),
                request: &NoKeys,
                now: Instant::now(),
                random: number,
            };
            let Picked::Server(in_flight) = upstream.pick_for(&input) else {
                panic!("all are up");
            };
            assert!(upstream.set_cookie(&in_flight).is_some());
            in_flight.responded(if number.is_multiple_of(9) { 500 } else { 200 }, Instant::now());
        };
        pick(); // makes this thread's view
        let measured = allocation_counter::measure(|| (0..500).for_each(|_| pick()));
        assert_eq!(measured.count_total, 0, "{algorithm}: {measured:?}");
    }
}
