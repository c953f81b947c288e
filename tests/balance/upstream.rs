//! An upstream as the request path uses it: every algorithm through `Upstream::pick_for`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use roundsman::balance::key::Random;
use roundsman::balance::{
    InFlight, NoKeys, PickInput, Picked, RequestKeys, Server, State, Upstream,
};
use roundsman::config::settings::{
    Address, Algorithm, Balancing, Hash, HashKey, HashMethod, ServerOptions, Sticky,
};
use tokio::time::Instant;

use super::algorithms::every_algorithm;

fn address(number: usize) -> Address {
    Address::Tcp(([10, 0, 0, number as u8], 80).into())
}

fn server(number: usize, threads: usize, options: &ServerOptions) -> Arc<Server> {
    Arc::new(Server::with_options(format!("s{number}"), address(number), threads, options))
}

fn weighing(weight: u32) -> ServerOptions {
    ServerOptions { weight, ..ServerOptions::default() }
}

fn upstream(algorithm: Algorithm, weights: &[u32], threads: usize) -> Upstream {
    let servers =
        weights.iter().enumerate().map(|(i, &w)| server(i, threads, &weighing(w))).collect();
    Upstream::new("test", servers, Balancing { algorithm, ..Balancing::default() })
}

fn input(thread: usize, random: u64) -> PickInput<'static> {
    PickInput { thread, tried: &[], client: None, request: &NoKeys, now: Instant::now(), random }
}

fn picked(upstream: &Upstream, input: &PickInput<'_>) -> Option<InFlight> {
    match upstream.pick_for(input) {
        Picked::Server(in_flight) => Some(in_flight),
        Picked::NoneUp => None,
    }
}

fn name(upstream: &Upstream, input: &PickInput<'_>) -> String {
    picked(upstream, input).expect("a server").server().name.clone()
}

#[derive(Default)]
struct Request {
    cookies: BTreeMap<&'static str, String>,
    path: &'static str,
}

impl RequestKeys for Request {
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.cookies.get(name).map(String::as_bytes)
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
}

#[test]
fn no_algorithm_picks_who_is_out() {
    for algorithm in every_algorithm() {
        let upstream = upstream(algorithm.clone(), &[1, 2, 0, 3, 1], 1);
        upstream.servers[0].set_state(State::Draining);
        upstream.servers[1].set_state(State::Down);
        let mut random = Random::new(1);
        let mut seen = BTreeMap::new();
        for client in 0..500_u32 {
            let client = Some(IpAddr::from((client * 7919).to_be_bytes()));
            let input = PickInput { client, ..input(0, random.draw()) };
            *seen.entry(name(&upstream, &input)).or_insert(0) += 1;
        }
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["s3", "s4"], "{algorithm}");
        let tried = [upstream.servers[3].id];
        let retry = PickInput { tried: &tried, ..input(0, 0) };
        assert!((0..9).all(|_| name(&upstream, &retry) == "s4"), "{algorithm}");
        for server in &upstream.servers {
            server.set_state(State::Down);
        }
        assert!(picked(&upstream, &input(0, 1)).is_none(), "{algorithm}");
        upstream.servers[1].set_state(State::Up);
        assert_eq!(name(&upstream, &input(0, 1)), "s1", "{algorithm}");
    }
}

/// Seven thousand requests over weights 5, 1, 1, each on any of N threads: every server within 2 N
/// of its exact share, whichever seven thousand they are.
#[test]
fn weights_hold_across_threads() {
    for threads in [1, 2, 4, 16] {
        let upstream = upstream(Algorithm::WeightedRoundRobin, &[5, 1, 1], threads);
        let mut random = Random::new(42);
        let mut window = std::collections::VecDeque::new();
        let mut counts = [0_i64; 3];
        let mut worst = 0;
        for _ in 0..21_000 {
            let thread = (random.draw() % threads as u64) as usize;
            let number = usize::from(name(&upstream, &input(thread, 0)).as_bytes()[1] - b'0');
            counts[number] += 1;
            window.push_back(number);
            if window.len() > 7_000 {
                counts[window.pop_front().expect("not empty")] -= 1;
            }
            if window.len() == 7_000 {
                for (count, share) in counts.iter().zip([5_000, 1_000, 1_000]) {
                    worst = worst.max((count - share).abs());
                }
            }
        }
        println!("{threads} threads: at most {worst} requests of 7,000 off");
        assert!(
            worst < 2 * i64::try_from(threads).expect("few"),
            "{threads} threads: off by {worst}"
        );
    }
}

/// The same with real threads, all at once.
#[test]
fn weights_hold_across_running_threads() {
    const THREADS: usize = 4;
    let upstream = upstream(Algorithm::WeightedRoundRobin, &[5, 1, 1], THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let upstream = &upstream;
            scope.spawn(move || (0..1_750).for_each(|_| drop(upstream.pick(thread, &[]))));
        }
    });
    for (server, share) in upstream.servers.iter().zip([5_000_i64, 1_000, 1_000]) {
        let off = server.requests().cast_signed() - share;
        assert!(off.abs() < 2 * THREADS.cast_signed() as i64, "{} is off by {off}", server.name);
        assert_eq!(server.in_flight(), 0);
    }
}

#[test]
fn round_robin_is_in_turn_over_the_whole_front() {
    let upstream = upstream(Algorithm::RoundRobin, &[1, 1, 1], 3);
    let picks: Vec<_> = (0..6).map(|i| name(&upstream, &input(i % 3, 0))).collect();
    assert_eq!(picks, ["s0", "s1", "s2", "s0", "s1", "s2"]);
}

#[test]
fn least_connections_sees_what_other_threads_have_in_flight() {
    let upstream = upstream(Algorithm::LeastConnections, &[1, 1, 1], 4);
    let mut held: Vec<_> = (0..30).filter_map(|i| picked(&upstream, &input(i % 4, 0))).collect();
    assert!(upstream.servers.iter().all(|s| s.in_flight() == 10));
    held.retain(|request| request.server().name != "s1");
    for thread in 0..10 {
        let request = picked(&upstream, &input(thread % 4, 0)).expect("a server");
        assert_eq!(request.server().name, "s1", "it has the fewest");
        held.push(request);
    }
    assert!(upstream.servers.iter().all(|s| s.in_flight() == 10));
}

#[test]
fn least_connections_weighs() {
    let upstream = upstream(Algorithm::LeastConnections, &[3, 1], 2);
    let held: Vec<_> = (0..40).filter_map(|i| picked(&upstream, &input(i % 2, 0))).collect();
    assert_eq!(held.len(), 40);
    assert_eq!(upstream.servers[0].in_flight(), 30);
}

/// A server that fails everything at once is always idle: it must not get everything.
#[test]
fn failing_fast_does_not_attract() {
    for algorithm in [Algorithm::LeastConnections, Algorithm::PeakEwma] {
        let upstream = upstream(algorithm.clone(), &[1, 1, 1], 1);
        let mut random = Random::new(3);
        let mut held = std::collections::VecDeque::new();
        let mut now = Instant::now();
        for _ in 0..5_000 {
            let request =
                picked(&upstream, &PickInput { now, ..input(0, random.draw()) }).expect("a server");
            now += Duration::from_millis(1);
            if request.server().name == "s0" {
                request.responded(500, now);
            } else {
                held.push_back(request); // the others take twenty milliseconds
            }
            if held.len() > 20 {
                held.pop_front().expect("not empty").responded(200, now);
            }
        }
        let failed = upstream.servers[0].requests();
        assert!(
            (1..250).contains(&failed),
            "{algorithm}: {failed} of 5,000 went to the failing one"
        );
    }
}

#[test]
fn peak_ewma_prefers_the_fast() {
    let upstream = upstream(Algorithm::PeakEwma, &[1, 1, 1, 1], 1);
    let mut random = Random::new(3);
    let mut now = Instant::now();
    for _ in 0..2_000 {
        let request =
            picked(&upstream, &PickInput { now, ..input(0, random.draw()) }).expect("a server");
        let slow = request.server().name == "s2";
        now += Duration::from_millis(1);
        request.responded(200, now + Duration::from_millis(if slow { 500 } else { 5 }));
    }
    let slow = upstream.servers[2].requests();
    assert!((1..50).contains(&slow), "{slow} of 2,000 went to the slow one");
}

#[test]
fn max_connections_is_never_exceeded() {
    const THREADS: usize = 4;
    let options = ServerOptions { max_connections: Some(3), ..ServerOptions::default() };
    let servers = (0..2).map(|i| server(i, THREADS, &options)).collect();
    let upstream = Upstream::new("test", servers, Balancing::default());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let upstream = &upstream;
            scope.spawn(move || {
                for round in 0..2_000 {
                    let held: Vec<_> = (0..=round % 4)
                        .filter_map(|_| picked(upstream, &input(thread, 0)))
                        .collect();
                    assert!(upstream.servers.iter().all(|s| s.in_flight() <= 3 + THREADS as u32));
                    drop(held);
                }
            });
        }
    });
    let held: Vec<_> = (0..6).filter_map(|i| picked(&upstream, &input(i % THREADS, 0))).collect();
    assert_eq!(held.len(), 6);
    assert!(picked(&upstream, &input(0, 0)).is_none());
}

#[tokio::test]
async fn a_request_that_waits_for_a_place_is_woken() {
    let options = ServerOptions { max_connections: Some(1), ..ServerOptions::default() };
    let upstream = Upstream::new("test", vec![server(0, 1, &options)], Balancing::default());
    let held = picked(&upstream, &input(0, 0)).expect("room");
    let waits = upstream.freed().notified();
    tokio::pin!(waits);
    waits.as_mut().enable();
    assert!(picked(&upstream, &input(0, 0)).is_none());
    drop(held);
    waits.await;
    assert!(picked(&upstream, &input(0, 0)).is_some());
}

#[test]
fn backups_wait_for_their_hour() {
    let backup = ServerOptions { backup: true, ..ServerOptions::default() };
    let servers = vec![server(0, 1, &weighing(1)), server(1, 1, &backup)];
    for algorithm in every_algorithm() {
        let balancing = Balancing { algorithm: algorithm.clone(), ..Balancing::default() };
        let upstream = Upstream::new("test", servers.clone(), balancing);
        let input = input(0, 0);
        assert!((0..9).all(|_| name(&upstream, &input) == "s0"), "{algorithm}");
        servers[0].set_state(State::Down);
        assert!((0..9).all(|_| name(&upstream, &input) == "s1"), "{algorithm}");
        servers[0].set_state(State::Up);
        assert_eq!(name(&upstream, &input), "s0", "{algorithm}");
    }
}

#[test]
fn a_request_that_failed_everywhere_else_goes_to_a_backup() {
    for algorithm in every_algorithm() {
        let backup = ServerOptions { backup: true, ..ServerOptions::default() };
        let servers = vec![
            server(0, 1, &ServerOptions::default()),
            server(1, 1, &ServerOptions::default()),
            server(2, 1, &backup),
        ];
        let balancing = Balancing { algorithm, ..Balancing::default() };
        let upstream = Upstream::new("test", servers, balancing);
        let ids: Vec<_> = upstream.servers.iter().map(|s| s.id).collect();
        let after = |tried| picked(&upstream, &PickInput { tried, ..input(0, 7) });
        let name = |in_flight: Option<InFlight>| in_flight.map(|i| i.server().name.clone());
        assert_eq!(name(after(&ids[..1])).as_deref(), Some("s1"));
        assert_eq!(name(after(&ids[..2])).as_deref(), Some("s2"));
        assert_eq!(name(after(&ids)), None);
    }
}

#[test]
fn a_server_may_be_down_by_configuration() {
    let down = ServerOptions { down: true, ..ServerOptions::default() };
    let servers = vec![server(0, 1, &down), server(1, 1, &weighing(1))];
    let upstream = Upstream::new("test", servers, Balancing::default());
    assert!((0..5).all(|_| name(&upstream, &input(0, 0)) == "s1"));
    upstream.servers[0].set_options(&weighing(1));
    assert!((0..5).any(|_| name(&upstream, &input(0, 0)) == "s0"));
}

#[test]
fn a_reload_keeps_turns_and_counts() {
    let before = upstream(Algorithm::WeightedRoundRobin, &[5, 1, 1], 1);
    let first: Vec<_> = (0..3).map(|_| name(&before, &input(0, 0))).collect();
    let after = Upstream::new("test", before.servers.clone(), before.balancing.clone());
    let second: Vec<_> = (0..4).map(|_| name(&after, &input(0, 0))).collect();
    assert_eq!([first, second].concat(), ["s0", "s0", "s1", "s0", "s2", "s0", "s0"]);
    assert_eq!(after.servers[0].requests(), 5);
}

#[test]
fn a_changed_weight_counts_from_the_next_pick_on() {
    let upstream = upstream(Algorithm::WeightedRoundRobin, &[1, 1], 1);
    (0..4).for_each(|_| drop(upstream.pick(0, &[])));
    upstream.servers[1].set_weight(3);
    let before = upstream.servers[1].requests();
    (0..400).for_each(|_| drop(upstream.pick(0, &[])));
    let got = upstream.servers[1].requests() - before;
    assert!((299..=301).contains(&got), "{got}");
}

#[test]
fn a_hash_sends_each_path_to_one_server() {
    let hash = Hash { on: HashKey::Path, method: HashMethod::Maglev };
    let upstream = upstream(Algorithm::Hash(hash), &[1, 1, 1, 1], 2);
    let of = |path, thread| {
        let request = Request { path, ..Request::default() };
        name(&upstream, &PickInput { request: &request, ..input(thread, 0) })
    };
    let paths = ["/", "/a", "/b", "/c", "/d", "/e", "/f", "/g"];
    let homes: Vec<_> = paths.iter().map(|path| of(path, 0)).collect();
    assert_eq!(homes, paths.iter().map(|path| of(path, 1)).collect::<Vec<_>>());
    assert!(homes.iter().collect::<std::collections::BTreeSet<_>>().len() > 1);
}

// === sticky ===

fn sticky_upstream(drain: bool, count: usize) -> Upstream {
    let sticky = Sticky {
        cookie: "pin".into(),
        max_age: Some(Duration::from_mins(1)),
        secure: true,
        drain,
        secret: Some("secret".into()),
    };
    let servers = (0..count).map(|i| server(i, 1, &weighing(1))).collect();
    Upstream::new("test", servers, Balancing { sticky: Some(sticky), ..Balancing::default() })
}

fn with_cookie(value: &str) -> Request {
    Request { cookies: BTreeMap::from([("pin", value.to_owned())]), ..Request::default() }
}

/// The cookie that a first request is given, and by whom.
fn first_visit(upstream: &Upstream) -> (Request, String) {
    let in_flight = picked(upstream, &input(0, 0)).expect("a server");
    let field = upstream.set_cookie(&in_flight).expect("a cookie");
    let (value, attributes) =
        field.strip_prefix("pin=").and_then(|f| f.split_once("; ")).expect("a cookie");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
    (with_cookie(value), in_flight.server().name.clone())
}

#[test]
fn a_sticky_client_stays() {
    let upstream = sticky_upstream(false, 5);
    for _ in 0..5 {
        let (request, home) = first_visit(&upstream);
        for _ in 0..7 {
            let in_flight =
                picked(&upstream, &PickInput { request: &request, ..input(0, 0) }).expect("up");
            assert_eq!(in_flight.server().name, home);
            assert_eq!(upstream.set_cookie(&in_flight), None, "it has the cookie already");
        }
    }
}

#[test]
fn a_sticky_client_survives_its_servers_absence() {
    let upstream = sticky_upstream(false, 5);
    let (request, home) = first_visit(&upstream);
    let server = upstream.servers.iter().find(|s| s.name == home).expect("it is one of them");
    for state in [State::Down, State::Draining] {
        server.set_state(state);
        let visit = || picked(&upstream, &PickInput { request: &request, ..input(0, 0) });
        let other = visit().expect("up").server().name.clone();
        assert_ne!(other, home);
        for _ in 0..7 {
            let in_flight = visit().expect("up");
            assert_eq!(in_flight.server().name, other, "it starts over once, not each time");
            assert_eq!(upstream.set_cookie(&in_flight), None, "it is to come home");
        }
        server.set_state(State::Up);
        assert_eq!(visit().expect("up").server().name, home);
    }
}

#[test]
fn a_draining_server_keeps_its_sticky_clients_where_configured() {
    let upstream = sticky_upstream(true, 3);
    let (request, home) = first_visit(&upstream);
    let server = upstream.servers.iter().find(|s| s.name == home).expect("it is one of them");
    server.set_state(State::Draining);
    let own = PickInput { request: &request, ..input(0, 0) };
    assert!((0..9).all(|_| name(&upstream, &own) == home));
    assert!((0..9).all(|_| name(&upstream, &input(0, 0)) != home), "nobody else goes there");
    server.set_state(State::Down);
    assert!((0..9).all(|_| name(&upstream, &own) != home), "down is down");
}

#[test]
fn a_forged_or_foreign_cookie_is_no_cookie() {
    let upstream = sticky_upstream(false, 3);
    let (request, _) = first_visit(&upstream);
    let value = request.cookies["pin"].clone();
    for forged in ["", "s1", &value[1..], &value.to_uppercase(), &format!("+{}", &value[1..])] {
        let request = with_cookie(forged);
        if forged == value {
            continue; // without letters, upper case is the same
        }
        let picks = (0..3).map(|_| {
            picked(&upstream, &PickInput { request: &request, ..input(0, 0) }).expect("up")
        });
        let picks: Vec<_> = picks.collect();
        assert!(picks.iter().all(|p| upstream.set_cookie(p).is_some()), "{forged:?}");
    }
    let mut other = upstream.balancing.clone();
    other.sticky.as_mut().expect("it is sticky").secret = Some("another".into());
    let other = Upstream::new("test", upstream.servers.clone(), other);
    let in_flight = picked(&other, &PickInput { request: &request, ..input(0, 0) }).expect("up");
    assert!(other.set_cookie(&in_flight).is_some(), "signed with another secret");
}

#[test]
fn explaining_changes_nothing() {
    let upstream = upstream(Algorithm::RoundRobin, &[1, 1], 1);
    let would = upstream.explain(&input(0, 0)).server.expect("a server").0;
    assert_eq!(upstream.explain(&input(0, 0)).server.expect("a server").0, would);
    assert_eq!(upstream.servers[0].requests() + upstream.servers[1].requests(), 0);
    assert_eq!(name(&upstream, &input(0, 0)), upstream.servers[would].name);
}
