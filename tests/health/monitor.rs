//! The monitor at work: real counters, real checks, what it publishes and whom it wakes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::waiting::eventually_meanwhile;

use roundsman::balance::{HealthReason, Status};
use roundsman::balance::{Picked, Server, State, Upstream};
use roundsman::config::Settings;
use roundsman::config::settings::{
    self, ActiveCheck, Address, Balancing, HttpProbe, Passive, Probe, ServerOptions, StartState,
    Statuses, UpstreamServer,
};
use roundsman::front::Front;
use roundsman::health;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

fn settings(servers: &[SocketAddr], balancing: &Balancing) -> Settings {
    let server = |address: &SocketAddr| UpstreamServer {
        address: Address::Tcp(*address),
        options: ServerOptions { slow_start: balancing.slow_start, ..ServerOptions::default() },
    };
    let upstream = settings::Upstream {
        name: "api".into(),
        servers: servers.iter().map(server).collect(),
        names: Vec::new(),
        balancing: balancing.clone(),
    };
    Settings { upstreams: BTreeMap::from([("api".into(), upstream)]), ..Settings::default() }
}

/// A front with a monitor.
fn front(servers: &[SocketAddr], balancing: &Balancing) -> Arc<Front> {
    let front = Arc::new(Front::new(settings(servers, balancing), 1));
    tokio::spawn(health::run(Arc::clone(&front)));
    front
}

fn upstream(front: &Front) -> Arc<Upstream> {
    Arc::clone(&front.snapshot().upstreams["upstream:api"])
}

fn nowhere(count: usize) -> Vec<SocketAddr> {
    (1..=count).map(|port| SocketAddr::from(([192, 0, 2, 1], port as u16))).collect()
}

/// Waits until a server is this; the front says whenever one has become something else.
async fn until(front: &Front, server: &Server, status: Status) {
    let mut changes = front.changes();
    let wait = async {
        while server.health().status != status {
            changes.changed().await.expect("the front is there");
        }
    };
    let is = || server.health().status;
    timeout(Duration::from_secs(30), wait)
        .await
        .unwrap_or_else(|_| panic!("{} is {}, not {status}", server.name, is()));
}

async fn settle() {
    // On this single-threaded, paused clock, time moves only when nobody has anything left to do.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test(start_paused = true)]
async fn failed_requests_eject_and_a_trial_brings_back() {
    let front = front(&nowhere(2), &Balancing::default());
    settle().await;
    let server = Arc::clone(&upstream(&front).servers[0]);
    for _ in 0..2 {
        server.begin(0).expect("it is up").failed();
    }
    settle().await;
    assert_eq!(server.health().status, Status::Up);
    server.begin(0).expect("it is up").failed();
    until(&front, &server, Status::Ejected).await;
    let ejected = Instant::now();
    for _ in 0..10 {
        match upstream(&front).pick(0, &[]) {
            Picked::Server(other) => assert_ne!(other.server().name, server.name),
            Picked::NoneUp => panic!("the other one is up"),
        }
    }
    until(&front, &server, Status::Suspect).await;
    assert!((9..=11).contains(&ejected.elapsed().as_secs()), "{:?}", ejected.elapsed());
    let first = upstream(&front).pick(0, &[upstream(&front).servers[1].id]);
    let Picked::Server(trial) = first else { panic!("nobody tries it") };
    assert!(trial.is_trial());
    let second = upstream(&front).pick(0, &[upstream(&front).servers[1].id]);
    assert!(matches!(second, Picked::NoneUp), "two at once try it");
    trial.responded(200, Instant::now());
    drop(trial);
    until(&front, &server, Status::Up).await;
    let transitions: Vec<_> = server.transitions().collect();
    assert_eq!(
        transitions,
        [
            (Status::Up, HealthReason::TrialPassed, 1),
            (Status::Suspect, HealthReason::TimePassed, 1),
            (Status::Ejected, HealthReason::Failures, 1),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_only_server_is_never_ejected() {
    let front = front(&nowhere(1), &Balancing::default());
    settle().await;
    let upstream = upstream(&front);
    for _ in 0..100 {
        upstream.servers[0].begin(0).expect("it is up").failed();
        settle().await;
    }
    assert_eq!(upstream.servers[0].health().status, Status::Up);
}

/// Half of the servers at most are ejected, unless a backup stands in.
#[tokio::test(start_paused = true)]
async fn with_a_backup_nobody_else_is_indispensable() {
    let mut settings = settings(&nowhere(3), &Balancing::default());
    settings.upstreams.get_mut("api").expect("it is there").servers[2].options.backup = true;
    let front = Arc::new(Front::new(settings, 1));
    tokio::spawn(health::run(Arc::clone(&front)));
    settle().await;
    let upstream = upstream(&front);
    for server in &upstream.servers {
        (0..3).for_each(|_| server.begin(0).expect("it is up").failed());
        settle().await;
    }
    assert_eq!(upstream.servers[0].health().status, Status::Ejected);
    assert_eq!(upstream.servers[1].health().status, Status::Ejected);
    assert_eq!(upstream.servers[2].health().status, Status::Up, "now it is the last");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_errs_alone_is_an_outlier() {
    let front = front(&nowhere(3), &Balancing::default());
    settle().await;
    let servers = upstream(&front).servers.clone();
    for _ in 0..60 {
        for (i, server) in servers.iter().enumerate() {
            let status = if i == 1 { 500 } else { 200 };
            server.begin(0).expect("it is up").responded(status, Instant::now());
        }
    }
    until(&front, &servers[1], Status::Ejected).await;
    assert_eq!(servers[0].health().status, Status::Up);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_starts_slowly() {
    let balancing = Balancing { slow_start: Duration::from_secs(10), ..Balancing::default() };
    let front = front(&nowhere(2), &balancing);
    settle().await;
    let upstream = upstream(&front);
    let server = &upstream.servers[0];
    front.set_state(server, State::Down);
    settle().await;
    front.set_state(server, State::Up);
    until(&front, server, Status::SlowStart).await;
    let mut shares = Vec::new();
    let mut before = server.requests();
    for _ in 0..5 {
        for _ in 0..500 {
            drop(upstream.pick(0, &[]));
        }
        shares.push(server.requests() - before);
        before = server.requests();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert!(shares[0] < 30, "{shares:?}");
    assert!(shares.windows(2).all(|pair| pair[0] < pair[1]), "{shares:?}");
    assert!((150..=250).contains(&shares[4]), "{shares:?}");
    until(&front, server, Status::Up).await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_known() {
    let balancing = Balancing { slow_start: Duration::from_mins(1), ..Balancing::default() };
    let addresses = nowhere(3);
    let front = front(&addresses[..2], &balancing);
    settle().await;
    let server = Arc::clone(&upstream(&front).servers[0]);
    for _ in 0..3 {
        server.begin(0).expect("it is up").failed();
    }
    until(&front, &server, Status::Ejected).await;
    front.replace(settings(&addresses, &balancing));
    settle().await;
    let after = upstream(&front);
    assert!(Arc::ptr_eq(&server, &after.servers[0]));
    assert_eq!(server.health().status, Status::Ejected);
    assert_eq!(server.failures(), 3);
    assert_eq!(after.servers[2].health().status, Status::Up);
}

#[tokio::test(start_paused = true)]
async fn a_reload_does_not_wind_the_clock_of_slow_start_back() {
    let balancing = Balancing { slow_start: Duration::from_secs(100), ..Balancing::default() };
    let addresses = nowhere(3);
    let front = front(&addresses[..2], &balancing);
    settle().await;
    let server = Arc::clone(&upstream(&front).servers[0]);
    front.set_state(&server, State::Down);
    settle().await;
    front.set_state(&server, State::Up);
    until(&front, &server, Status::SlowStart).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    server.set_weight(7);
    front.replace(settings(&addresses, &balancing));
    settle().await;
    let health = server.health();
    assert_eq!(health.status, Status::SlowStart);
    assert!((490..=510).contains(&health.share), "{health:?}");
    assert_eq!(server.weight(), 7, "a weight changed at run time stays, too");
    tokio::time::sleep(Duration::from_secs(51)).await;
    assert_eq!(server.health().status, Status::Up);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_woken_when_a_server_comes_back() {
    let passive = Passive { panic_threshold: 0, max_ejected: 100, ..Passive::default() };
    let front = front(&nowhere(2), &Balancing { passive, ..Balancing::default() });
    settle().await;
    let upstream = upstream(&front);
    front.set_state(&upstream.servers[1], State::Down);
    let mut changes = front.changes();
    assert!(matches!(upstream.pick(0, &[upstream.servers[0].id]), Picked::NoneUp));
    front.set_state(&upstream.servers[1], State::Up);
    changes.changed().await.expect("the front is there");
    assert!(matches!(upstream.pick(0, &[upstream.servers[0].id]), Picked::Server(_)));
}

// === active checks, over real sockets ===

/// How a test server answers.
const ANSWER: u8 = 0;
const FAIL: u8 = 1;
const HANG: u8 = 2;
const OTHER_BODY: u8 = 3;
const TEAPOT: u8 = 4;

struct Origin {
    address: SocketAddr,
    manner: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

async fn origin() -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let (manner, asked) = (Arc::new(AtomicU8::new(ANSWER)), Arc::new(AtomicUsize::new(0)));
    let (how, count) = (Arc::clone(&manner), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (how, count) = (Arc::clone(&how), Arc::clone(&count));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                assert!(head.starts_with("get /healthz http/1.1\r\n"), "{head}");
                assert!(head.contains("\r\nhost: api.example\r\n"), "{head}");
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = match how.load(Ordering::SeqCst) {
                    ANSWER => ("200 OK", "all is well"),
                    FAIL => ("503 Service Unavailable", "all is well"),
                    TEAPOT => ("418 I'm a teapot", "all is well"),
                    OTHER_BODY => ("200 OK", "nothing is well, all is we"),
                    _ => return std::future::pending().await,
                };
                let length = body.len();
                let response =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(response.as_bytes()).await;
            });
        }
    });
    Origin { address, manner, asked }
}

fn checked(probe: Probe) -> Balancing {
    Balancing {
        active: Some(ActiveCheck {
            probe,
            interval: Duration::from_millis(30),
            timeout: Duration::from_millis(500),
            fails: 2,
            passes: 2,
            start: StartState::Down,
            ..ActiveCheck::default()
        }),
        ..Balancing::default()
    }
}

fn http() -> Probe {
    Probe::Http(HttpProbe {
        path: "/healthz".into(),
        host: Some("api.example".into()),
        statuses: Statuses(vec![200..=299, 418..=418]),
        body: Some("all is well".into()),
    })
}

#[tokio::test]
async fn http_checks_remove_and_bring_back() {
    let (one, two) = (origin().await, origin().await);
    let front = front(&[one.address, two.address], &checked(http()));
    let servers = upstream(&front).servers.clone();
    // Before its first check a server that starts as down gets nothing.
    assert!(matches!(upstream(&front).pick(0, &[]), Picked::NoneUp));
    for server in &servers {
        until(&front, server, Status::Up).await;
    }
    assert!(matches!(upstream(&front).pick(0, &[]), Picked::Server(_)));
    // Only the statuses of the configuration count as well.
    one.manner.store(TEAPOT, Ordering::SeqCst);
    let before = one.asked.load(Ordering::SeqCst);
    eventually_meanwhile("it is asked on", || one.asked.load(Ordering::SeqCst) >= before + 5).await;
    assert_eq!(servers[0].health().status, Status::Up);
    for manner in [FAIL, HANG, OTHER_BODY] {
        one.manner.store(manner, Ordering::SeqCst);
        until(&front, &servers[0], Status::Ejected).await;
        let before = two.asked.load(Ordering::SeqCst);
        one.manner.store(ANSWER, Ordering::SeqCst);
        until(&front, &servers[0], Status::Up).await;
        assert!(two.asked.load(Ordering::SeqCst) > before, "a slow check delays the others");
        assert_eq!(servers[1].health().status, Status::Up);
    }
}

#[tokio::test]
async fn tcp_checks_only_connect() {
    // A loopback address of its own: nobody takes the port while it is free.
    let [.., a, b, c] = std::process::id().to_be_bytes();
    let listener =
        TcpListener::bind(SocketAddr::from(([127, a | 128, b, c], 0))).await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let other = origin().await;
    let front = front(&[address, other.address], &checked(Probe::Tcp));
    let servers = upstream(&front).servers.clone();
    until(&front, &servers[0], Status::Up).await;
    drop(listener);
    until(&front, &servers[0], Status::Ejected).await;
    let _listener = TcpListener::bind(address).await.expect("the port is free again");
    until(&front, &servers[0], Status::Up).await;
    assert_eq!(other.asked.load(Ordering::SeqCst), 0, "nothing is asked");
}

#[tokio::test]
async fn a_stopped_server_is_not_asked() {
    let one = origin().await;
    let other = origin().await;
    let front = front(&[one.address, other.address], &checked(http()));
    let servers = upstream(&front).servers.clone();
    until(&front, &servers[0], Status::Up).await;
    front.set_state(&servers[0], State::Down);
    // A check that was under way may still arrive; then there must be none for ten rounds.
    let after = |count: usize| {
        let other = Arc::clone(&other.asked);
        async move {
            let target = other.load(Ordering::SeqCst) + count;
            let is = || other.load(Ordering::SeqCst) >= target;
            eventually_meanwhile("the other one is asked on", is).await;
        }
    };
    after(2).await;
    let before = one.asked.load(Ordering::SeqCst);
    after(10).await;
    assert_eq!(one.asked.load(Ordering::SeqCst), before);
    front.set_state(&servers[0], State::Up);
    until(&front, &servers[0], Status::Up).await;
    assert!(one.asked.load(Ordering::SeqCst) > before);
}
