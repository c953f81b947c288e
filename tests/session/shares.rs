//! Apps that share a store: one that takes all it can get leaves the others theirs.

use std::io::Read as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::access::{Remote, listening};
use crate::session::client::{Client, Value, ok};
use crate::session::server::Server;

fn of(server: &Server, namespace: &str) -> Client {
    let mut client = server.client();
    assert_eq!(client.say(&format!("auth {namespace} any")), ok());
    client
}

/// Fills the store with another app's sessions, of which each expires later than the victim's.
/// That there is no room. What was taken before may be given back a moment later, and then there is some again.
fn is_full(reply: &Value) -> bool {
    matches!(reply, Value::Error(text) if text.starts_with("OOM "))
}

#[test]
fn no_app_evicts_the_sessions_of_another() {
    let server = Server::start(&["--max-size", "1000000", "--memory", "1000000"]);
    let (mut shop, mut greedy) = (of(&server, "shop"), of(&server, "greedy"));
    let value = "v".repeat(1000);
    for number in 0..200 {
        assert_eq!(shop.say(&format!("set s{number} {value} ex {}", 1000 + number)), ok());
    }
    for number in 0..3000 {
        assert_eq!(greedy.say(&format!("set k{number} {value} ex {}", 50_000 + number)), ok());
    }
    assert_eq!(shop.say("dbsize"), Value::Integer(200), "not one is gone");
    let Value::Integer(left) = greedy.say("dbsize") else { panic!("no number") };
    assert!((600..900).contains(&left), "it pays for what it takes itself: {left}");
    assert_eq!(greedy.say("exists k2999"), Value::Integer(1));

    // What never expires cannot be evicted: it is the greedy one that gets no more.
    greedy.say("flushdb");
    assert!((0..20_000).any(|number| is_full(&greedy.say(&format!("set k{number} {value}")))));
    for number in 200..400 {
        assert_eq!(shop.say(&format!("set s{number} {value} ex {}", 1000 + number)), ok());
    }
    assert_eq!(shop.say("dbsize"), Value::Integer(400));
    // And no more than its half.
    assert!((400..20_000).any(|number| is_full(&shop.say(&format!("set s{number} {value}")))));
}

#[test]
fn no_app_has_all_connections() {
    let (_server, port) = listening("[session]\nconnections = 40\n");
    let connect = |line: &str| {
        let mut client = Remote::connect(port);
        (client.say(line).starts_with("+OK") && client.say("ping") == "+PONG").then_some(client)
    };
    let shop: Vec<Remote> = (0..60).map_while(|_| connect("auth shop 'open sesame:1'")).collect();
    assert!((25..=32).contains(&shop.len()), "{}", shop.len());
    let blog: Vec<Remote> = (0..60).map_while(|_| connect("auth blog other")).collect();
    assert!(!blog.is_empty(), "there is room for another app");
    drop(shop);
    let again: Vec<Remote> = (0..60).map_while(|_| connect("auth shop 'open sesame:1'")).collect();
    assert!(again.len() > 20, "{}", again.len());
}

#[test]
fn strangers_do_not_occupy_the_store() {
    let (server, port) = listening("[session]\nconnections = 40\n");
    let began = Instant::now();
    let strangers: Vec<Remote> = (0..40).map(|_| Remote::connect(port)).collect();
    // While they sit there, workers and whoever knows a password come in.
    assert_eq!(of(&server, "shop").say("set a 1"), ok());
    // A refusal comes without a question; to a question of a stranger there is one answer.
    let mut seated = Vec::new();
    for mut client in strangers {
        if client.say("get a").starts_with("-NOAUTH ") {
            seated.push(client);
        }
    }
    assert!((1..=10).contains(&seated.len()), "a quarter at most: {}", seated.len());
    // Those that have a seat lose it, however quiet they are.
    for mut stranger in seated {
        drop(stranger.0.read_to_end(&mut Vec::new()));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "they were closed after {took:?}");
    let mut late = Remote::connect(port);
    assert_eq!(late.say("auth blog other"), "+OK");
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(late.say("ping"), "+PONG", "it is no stranger any more");
}
