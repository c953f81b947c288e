//! `kill -9` at random moments: what was acknowledged is there, and nothing is half done.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::random::Random;
use crate::session::client::{Client, Value};
use crate::session::server::Server;

/// What one writer knows: for each of its keys the last acknowledged number, and the one it had
/// sent when the server died.
#[derive(Default)]
struct Known {
    acknowledged: u64,
    sent: u64,
}

/// Memory for so little that most deaths are in the middle of a checkpoint.
const MEMORY: &str = "100000";
/// An expiry far away, to which the number is added.
const LATE: u64 = 4_000_000_000;

/// Writes its own keys until the server is gone. A write is a transaction over a string, a hash, a
/// set, and the expiry of a key whose value stays: all of them carry the same number.
fn write(
    socket: &std::path::Path,
    writer: u64,
    known: &mut BTreeMap<u64, Known>,
    seed: u64,
    done: &AtomicU64,
) {
    let Ok(mut client) = Client::connect(socket) else { return };
    let mut random = Random(seed);
    loop {
        let key = random.next() % 20;
        let entry = known.entry(key).or_default();
        let number = entry.sent + 1;
        entry.sent = number;
        let name = format!("{writer}-{key}");
        let padding = "p".repeat(random.below(300));
        let mut bytes = Vec::new();
        for words in [
            vec!["multi".to_owned()],
            vec!["set".to_owned(), format!("s{name}"), format!("{number} {padding}")],
            vec!["hset".to_owned(), format!("h{name}"), "n".to_owned(), number.to_string()],
            vec!["sadd".to_owned(), format!("t{name}"), number.to_string()],
            vec!["srem".to_owned(), format!("t{name}"), (number - 1).to_string()],
            vec!["setnx".to_owned(), format!("e{name}"), "stays".to_owned()],
            vec!["expireat".to_owned(), format!("e{name}"), (LATE + number).to_string()],
            vec!["exec".to_owned()],
        ] {
            crate::session::client::encode(&mut bytes, &words);
        }
        if client.stream().write_all(&bytes).is_err() {
            return;
        }
        for _ in 0..7 {
            if client.receive().is_err() {
                return;
            }
        }
        match client.receive() {
            Ok(Value::Array(results)) if results.len() == 6 => {
                entry.acknowledged = number;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(other) => panic!("a transaction was answered with {other:?}"),
            Err(_) => return,
        }
    }
}

fn verify(server: &Server, known: &[BTreeMap<u64, Known>]) {
    let mut client = server.client();
    for (writer, keys) in known.iter().enumerate() {
        for (key, Known { acknowledged, sent }) in keys {
            let name = format!("{writer}-{key}");
            let text = match client.say(&format!("get s{name}")) {
                Value::Bulk(bytes) => String::from_utf8(bytes).expect("text"),
                Value::Null => "0".to_owned(),
                other => panic!("{other:?}"),
            };
            let number: u64 = text.split(' ').next().expect("a number").parse().expect("a number");
            assert!(
                number >= *acknowledged && number <= *sent,
                "{name} is {number}; {acknowledged} was acknowledged, {sent} was sent"
            );
            if number > 0 {
                let field = Value::Bulk(number.to_string().into_bytes());
                assert_eq!(client.say(&format!("hget h{name} n")), field, "half of {name}");
                assert_eq!(
                    client.say(&format!("smembers t{name}")),
                    Value::Array(vec![field]),
                    "half of {name}"
                );
                assert_eq!(
                    client.say(&format!("expiretime e{name}")),
                    Value::Integer(i64::try_from(LATE + number).expect("it fits")),
                    "half of {name}"
                );
            }
        }
    }
}

fn cycles(count: usize, sync: &str, seed: u64) {
    let mut server = Server::start(&["--sync", sync, "--memory", MEMORY]);
    let mut random = Random(seed);
    let mut known: Vec<BTreeMap<u64, Known>> = (0..3).map(|_| BTreeMap::new()).collect();
    let mut total = 0;
    for cycle in 0..count {
        let done = Arc::new(AtomicU64::new(0));
        let socket = server.socket();
        // The death comes after a number of writes and a little more, never after mere time, so
        // that a slow machine tests as much as a fast one.
        let writes = random.below(60) as u64;
        let pause = Duration::from_micros(random.next() % 3000);
        thread::scope(|scope| {
            for (writer, keys) in known.iter_mut().enumerate() {
                let (socket, done, seed) = (&socket, &done, random.next());
                scope.spawn(move || write(socket, writer as u64, keys, seed, done));
            }
            crate::session::server::eventually("enough was written", || {
                done.load(Ordering::Relaxed) >= writes
            });
            thread::sleep(pause);
            server.kill();
        });
        total += done.load(Ordering::Relaxed);
        // What was sent and not acknowledged is settled by what is found.
        server.start_again();
        verify(&server, &known);
        let mut client = server.client();
        for (writer, keys) in known.iter_mut().enumerate() {
            for (key, known) in keys {
                let text = match client.say(&format!("get s{writer}-{key}")) {
                    Value::Bulk(bytes) => String::from_utf8(bytes).expect("text"),
                    _ => "0".to_owned(),
                };
                let number = text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
                *known = Known { acknowledged: number, sent: number };
            }
        }
        assert!(!server.log().contains("damaged"), "cycle {cycle}: {}", server.log());
    }
    assert!(total > count as u64, "{total} writes in {count} cycles are no load");
    server.stop();
    server.check();
}

#[test]
fn no_acknowledged_write_is_lost_with_everysec() {
    cycles(cycle_count(), "everysec", 11);
}

#[test]
fn no_acknowledged_write_is_lost_with_always() {
    cycles(cycle_count(), "always", 12);
}

/// A start and a death take a second of a busy machine: a few in every run, hundreds on demand.
fn cycle_count() -> usize {
    let wanted = std::env::var("ROUNDSMAN_CRASH_CYCLES").ok();
    wanted.map_or(12, |count| count.parse().expect("ROUNDSMAN_CRASH_CYCLES is a number"))
}
