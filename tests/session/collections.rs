//! Walks over hashes and sets that change meanwhile, and picks at random.

use std::collections::BTreeSet;

use crate::session::client::{Client, Value};
use crate::session::redis::Redis;
use crate::session::server::Server;

/// One step of a walk: what it gave (of a hash, its fields), and the cursor after it.
fn step(client: &mut Client, command: &str, cursor: &str, found: &mut BTreeSet<String>) -> String {
    let reply = client.say(&format!("{command} c {cursor} count 10"));
    let Value::Array(parts) = reply else { panic!("{reply:?}") };
    let [Value::Bulk(next), Value::Array(elements)] = &parts[..] else { panic!("{parts:?}") };
    for element in elements.iter().step_by(if command == "hscan" { 2 } else { 1 }) {
        let Value::Bulk(name) = element else { panic!("{element:?}") };
        found.insert(String::from_utf8(name.clone()).expect("text"));
    }
    String::from_utf8(next.clone()).expect("digits")
}

/// Redis's promise: a whole walk gives every element that was there from its begin to its end.
#[test]
fn a_walk_gives_all_that_was_there_all_the_time() {
    let server = Server::start(&["--memory", "100000"]);
    let mut client = server.client();
    for (command, add, remove) in [("sscan", "sadd", "srem"), ("hscan", "hset", "hdel")] {
        // So many steps before the collection shrinks to so many, and grows again.
        for steps in [1, 2, 5, 15] {
            for (left, grown) in [(128, 0), (100, 0), (1, 0), (0, 0), (60, 400), (129, 0)] {
                client.say("del c");
                for number in 0..300 {
                    let value = if add == "hset" { " v" } else { "" };
                    client.say(&format!("{add} c m{number}{value}"));
                }
                let mut found = BTreeSet::new();
                let mut cursor = "0".to_owned();
                for _ in 0..steps {
                    cursor = step(&mut client, command, &cursor, &mut found);
                    assert_ne!(cursor, "0", "300 elements are more than {steps} steps");
                }
                for number in left..300 {
                    client.say(&format!("{remove} c m{number}"));
                }
                for number in 0..grown {
                    let value = if add == "hset" { " v" } else { "" };
                    client.say(&format!("{add} c new{number}{value}"));
                }
                while cursor != "0" {
                    cursor = step(&mut client, command, &cursor, &mut found);
                }
                for number in 0..left {
                    let name = format!("m{number}");
                    assert!(
                        found.contains(&name),
                        "{command}: {name} of {left} after {steps} steps"
                    );
                }
            }
        }
    }
}

fn length(reply: &Value) -> usize {
    match reply {
        Value::Array(values) | Value::Set(values) => values.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_many_are_picked_as_were_asked_for_or_it_is_said() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.say("sadd s a b c");
    client.say("hset h f v");
    assert_eq!(length(&client.say("srandmember s -1100000")), 1_100_000);
    assert_eq!(length(&client.say("hrandfield h -1100000")), 1_100_000);
    // More than any reply may be.
    let large = "x".repeat(1_000_000);
    client.say(&format!("sadd large {large}"));
    client.say(&format!("hset fields {large} v"));
    for (request, reason) in [
        ("srandmember large -200", "too large"),
        ("hrandfield fields -9223372036854775807", "too long"),
    ] {
        let mut client = server.client();
        let Value::Error(text) = client.say(request) else { panic!("not refused") };
        assert!(text.contains(reason), "{text}");
    }
    assert_eq!(client.say("ping"), Value::Simple("PONG".to_owned()));
}

/// Nobody else is served while sets are combined. Were it done name by name, each of these would be
/// thousands of millions of steps, and the test would not end in time.
#[test]
fn one_command_cannot_keep_all_others_waiting() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for chunk in 0..100 {
        let members: Vec<String> = (0..1000).map(|n| format!("{}", chunk * 1000 + n)).collect();
        client.say(&format!("sadd large {}", members.join(" ")));
    }
    client.say("sadd small 1 2 x");
    client.say("sunionstore other large");
    client.say("srem other 7");
    let large = vec!["large"; 20_000].join(" ");
    assert_eq!(client.say(&format!("sintercard 20000 {large}")), Value::Integer(100_000));
    assert_eq!(client.say(&format!("sunionstore to {large}")), Value::Integer(100_000));
    let other = vec!["other"; 20_000].join(" ");
    assert_eq!(client.say(&format!("sdiffstore to large {other}")), Value::Integer(1));
    let small = vec!["small"; 20_000].join(" ");
    assert_eq!(client.say(&format!("sdiffstore to large {small}")), Value::Integer(99_998));
    assert_eq!(client.say("sdiffstore to large small large"), Value::Integer(0));
    assert_eq!(client.say("sintercard 2 large small"), Value::Integer(2));
}

#[test]
fn counts_that_are_none_are_refused_as_redis_refuses_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&[]);
    let (mut ours, mut theirs) = (server.client(), redis.client());
    for request in [
        "sadd s a",
        "hset h f v",
        "srandmember s -9223372036854775808",
        "srandmember s x",
        "srandmember s 1 2",
        "srandmember nothing -5",
        "srandmember nothing 5",
        "srandmember nothing",
        "hrandfield h -9223372036854775808",
        "hrandfield h -4611686018427387904 withvalues",
        "hrandfield h 4611686018427387904 withvalues",
        "hrandfield h x",
        "hrandfield h 1 what",
        "hrandfield nothing -5",
        "hrandfield nothing",
        "spop s 9223372036854775808",
        "spop s -9223372036854775808",
    ] {
        assert_eq!(ours.say(request), theirs.say(request), "{request}");
    }
}
