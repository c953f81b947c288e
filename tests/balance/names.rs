//! Servers by DNS, on a paused clock: what the names stand for comes from the test.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roundsman::balance::{Picked, Server, State};
use roundsman::config::settings::{Dns, DnsName};
use roundsman::config::{Settings, Sources, load};
use roundsman::front::Front;
use roundsman::front::found::{Found, Record};
use roundsman::registry::dns::{self, Answer, DnsError, Lookup};
use tokio::time::Instant;

/// What each name is answered with, and when it was asked for.
#[derive(Clone, Default)]
struct Zone {
    answers: Arc<Mutex<BTreeMap<String, Result<Answer, DnsError>>>>,
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Lookup for Zone {
    async fn look_up(&self, name: &DnsName, _: &Dns) -> Result<Answer, DnsError> {
        let name = name.to_string();
        self.asked.lock().unwrap().push((name.clone(), Instant::now()));
        tokio::task::yield_now().await;
        self.answers.lock().unwrap().get(&name).cloned().unwrap_or(Err(DnsError::NoSuchName))
    }
}

impl Zone {
    fn set(&self, name: &str, answer: Result<Answer, DnsError>) {
        self.answers.lock().unwrap().insert(name.to_owned(), answer);
    }

    fn is(&self, name: &str, addresses: &[&str], ttl: u64) {
        self.set(name, Ok(answer(addresses, ttl)));
    }

    /// How often it was asked for.
    fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == name).count()
    }
}

fn answer(addresses: &[&str], ttl: u64) -> Answer {
    let found = addresses.iter().map(|a| found(a, None)).collect();
    Answer { found, ttl: Duration::from_secs(ttl), lacking: Vec::new() }
}

fn found(address: &str, record: Option<Record>) -> Found {
    Found { address: address.parse().unwrap(), record, host: "a.b".into() }
}

fn settings(upstreams: &[(&str, &str)]) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("upstreams")).unwrap();
    for (name, text) in upstreams {
        let host = format!("[[route]]\nhost = \"{name}.example\"\n");
        std::fs::write(
            directory.path().join(format!("upstreams/{name}.toml")),
            format!("{text}\n{host}"),
        )
        .unwrap();
    }
    load(&Sources::directory(directory.path())).strict().unwrap_or_else(|p| panic!("{p}"))
}

const API: &str = "servers = [{ address = \"dns:a.b:80\" }]";

fn front(zone: &Zone, upstreams: &[(&str, &str)]) -> Arc<Front> {
    let front = Arc::new(Front::new(settings(upstreams), 1));
    tokio::spawn(dns::run(Arc::clone(&front), zone.clone()));
    front
}

fn servers(front: &Front, upstream: &str) -> Vec<Arc<Server>> {
    front.snapshot().upstreams[&format!("upstream:{upstream}")].servers.clone()
}

fn names(front: &Front, upstream: &str) -> Vec<String> {
    servers(front, upstream).iter().map(|s| s.name.clone()).collect()
}

/// On this paused clock time moves only when nobody has anything left to do.
async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds) + Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_again_when_its_ttl_is_over() {
    let zone = Zone::default();
    zone.is("dns:a.b:80", &["10.0.0.1:80", "10.0.0.2:80"], 30);
    let front = front(&zone, &[("api", API)]);
    after(0).await;
    assert_eq!(names(&front, "api"), ["10.0.0.1:80", "10.0.0.2:80"]);
    let stays = servers(&front, "api")[1].clone();
    let before = front.snapshot();
    zone.is("dns:a.b:80", &["10.0.0.2:80", "10.0.0.3:80"], 30);
    after(29).await;
    assert_eq!(zone.asked("dns:a.b:80"), 1, "the answer is still good");
    assert!(Arc::ptr_eq(&before, &front.snapshot()));
    after(1).await;
    assert_eq!(names(&front, "api"), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert!(Arc::ptr_eq(&stays, &servers(&front, "api")[0]), "who stays is the same server");
    let same = front.snapshot();
    after(300).await;
    assert_eq!(zone.asked("dns:a.b:80"), 2 + 10);
    assert!(Arc::ptr_eq(&same, &front.snapshot()), "the same answer changes nothing");
}

#[tokio::test(start_paused = true)]
async fn ttls_are_bounded_by_the_configuration() {
    let zone = Zone::default();
    zone.is("dns:a.b:80", &["10.0.0.1:80"], 0);
    zone.is("dns:c.d:80", &["10.0.0.1:80"], 1_000_000);
    let other = "servers = [{ address = \"dns:c.d:80\" }]";
    let _front = front(&zone, &[("api", API), ("other", other)]);
    after(600).await;
    assert!((598..=601).contains(&zone.asked("dns:a.b:80")), "{}", zone.asked("dns:a.b:80"));
    assert_eq!(zone.asked("dns:c.d:80"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_front_starts_with_a_name_that_does_not_resolve() {
    let zone = Zone::default();
    let front = front(&zone, &[("api", API)]);
    after(20).await;
    assert!(servers(&front, "api").is_empty());
    let upstream = front.snapshot().upstreams["upstream:api"].clone();
    assert!(matches!(upstream.pick(0, &[]), Picked::NoneUp));
    let mut changes = front.changes();
    zone.is("dns:a.b:80", &["10.0.0.1:80"], 30);
    changes.changed().await.unwrap(); // whoever waits for a server is woken
    assert_eq!(names(&front, "api"), ["10.0.0.1:80"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_stays_when_the_dns_fails() {
    let zone = Zone::default();
    zone.is("dns:a.b:80", &["10.0.0.1:80", "10.0.0.2:80"], 5);
    let front = front(&zone, &[("api", API)]);
    after(0).await;
    let before = front.snapshot();
    let silent = "10.0.0.53:53".parse().unwrap();
    for failed in [
        DnsError::Timeout(silent, Duration::from_secs(2)),
        DnsError::Refused("SERVFAIL"),
        DnsError::NoSuchName,
        DnsError::NoRecords,
    ] {
        zone.set("dns:a.b:80", Err(failed));
        after(60).await;
        assert!(Arc::ptr_eq(&before, &front.snapshot()));
    }
    zone.is("dns:a.b:80", &["10.0.0.3:80"], 5);
    after(10).await;
    assert_eq!(names(&front, "api"), ["10.0.0.3:80"], "a failed name is tried every 10 s");
}

#[tokio::test(start_paused = true)]
async fn other_upstreams_do_not_notice() {
    let zone = Zone::default();
    zone.is("dns:a.b:80", &["10.0.0.1:80"], 5);
    zone.is("dns:c.d:80", &["10.0.1.1:80"], 1000);
    let other = "servers = [{ address = \"dns:c.d:80\" }, { address = \"10.0.2.1:80\" }]";
    let front = front(&zone, &[("api", API), ("other", other)]);
    after(0).await;
    let of_other = front.snapshot().upstreams["upstream:other"].clone();
    front.set_state(&of_other.servers[0], State::Down);
    zone.is("dns:a.b:80", &["10.0.0.9:80"], 5);
    after(5).await;
    assert_eq!(names(&front, "api"), ["10.0.0.9:80"]);
    assert!(Arc::ptr_eq(&of_other, &front.snapshot().upstreams["upstream:other"]));
    // Who answers the routes is the new one.
    let snapshot = front.snapshot();
    let route = snapshot.router.find(b"api.example", b"/").unwrap();
    assert_eq!(snapshot.answering[route][0].servers[0].name, "10.0.0.9:80");
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_known_and_asks_for_what_is_new() {
    let zone = Zone::default();
    zone.is("dns:a.b:80", &["10.0.0.1:80"], 100);
    zone.is("dns:c.d:80", &["10.0.0.2:80"], 100);
    let front = front(&zone, &[("api", API)]);
    after(0).await;
    let server = servers(&front, "api")[0].clone();
    server.set_weight(7);
    let both = "servers = [{ address = \"dns:a.b:80\" }, { address = \"dns:c.d:80\" }]";
    front.replace(settings(&[("api", both)]));
    assert_eq!(names(&front, "api"), ["10.0.0.1:80"], "known at once");
    assert!(Arc::ptr_eq(&server, &servers(&front, "api")[0]));
    after(0).await;
    assert_eq!(names(&front, "api"), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(servers(&front, "api")[0].weight(), 7);
    assert_eq!(zone.asked("dns:a.b:80"), 1);
    front.replace(settings(&[("api", "servers = [{ address = \"dns:c.d:80\" }]")]));
    after(500).await;
    assert_eq!(zone.asked("dns:a.b:80"), 1, "nobody wants it any more");
    assert!(front.snapshot().found.keys().all(|name| name.to_string() == "dns:c.d:80"));
}

#[tokio::test(start_paused = true)]
async fn records_say_weight_and_who_is_a_backup() {
    let zone = Zone::default();
    let record = |weight, backup| Some(Record { weight, backup });
    let answer = |heavy| Answer {
        found: vec![
            found("10.0.0.1:8001", record(heavy, false)),
            found("10.0.0.2:8002", record(1, false)),
            found("10.0.0.3:8003", record(9, true)),
        ],
        ttl: Duration::from_secs(5),
        lacking: Vec::new(),
    };
    zone.set("dns-srv:_http._tcp.a.b", Ok(answer(4)));
    let text = "balance = \"weighted-round-robin\"\n\
                servers = [{ address = \"dns-srv:_http._tcp.a.b\" }]";
    let front = front(&zone, &[("api", text)]);
    after(0).await;
    let counts = |front: &Front, picks| {
        let upstream = front.snapshot().upstreams["upstream:api"].clone();
        let before: Vec<_> = upstream.servers.iter().map(|s| s.requests()).collect();
        (0..picks).for_each(|_| drop(upstream.pick(0, &[])));
        upstream.servers.iter().zip(before).map(|(s, b)| s.requests() - b).collect::<Vec<_>>()
    };
    assert_eq!(counts(&front, 500), [400, 100, 0]);
    for server in &servers(&front, "api")[..2] {
        front.set_state(server, State::Down);
    }
    assert_eq!(counts(&front, 10), [0, 0, 10]);
    for server in &servers(&front, "api")[..2] {
        front.set_state(server, State::Up);
    }
    zone.set("dns-srv:_http._tcp.a.b", Ok(answer(9)));
    after(5).await;
    let changed = counts(&front, 500);
    assert!(changed[0].abs_diff(450) <= 2 && changed[2] == 0, "{changed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_address_is_one_server_however_often_it_is_found() {
    let zone = Zone::default();
    zone.is("dns:a.b:80", &["10.0.0.1:80", "10.0.0.2:80"], 5);
    zone.is("dns:c.d:80", &["10.0.0.2:80", "10.0.0.3:80"], 5);
    let text = "balance = \"weighted-round-robin\"\nservers = [{ address = \"dns:a.b:80\" }, \
                { address = \"dns:c.d:80\" }, { address = \"10.0.0.1:80\", weight = 5 }]";
    let front = front(&zone, &[("api", text)]);
    after(0).await;
    // In the order of the list, which ip-hash goes by.
    assert_eq!(names(&front, "api"), ["10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:80"]);
    assert_eq!(servers(&front, "api")[2].weight(), 5, "the list goes before the names");
}
