//! `WATCH`: an `EXEC` whose watched keys were touched does nothing, whatever came before.

use std::thread;

use crate::session::client::{Client, Value, ok};
use crate::session::redis::Redis;
use crate::session::server::Server;

/// What a connection may have said before its `WATCH`, and the database it is in then.
const BEFORE: &[(&[&str], u8)] = &[
    (&[], 0),
    (&["ping"], 0),
    (&["select 1"], 1),
    (&["auth default any"], 0),
    (&["auth default any", "select 1"], 1),
    (&["hello 3"], 0),
    (&["hello 3 auth default any"], 0),
    (&["select 1", "reset"], 0),
    (&["get k", "reset"], 0),
    (&["select 1", "select 0"], 0),
    (&["client setname me"], 0),
    (&["multi", "discard"], 0),
    (&["watch other", "unwatch"], 0),
    (&["get k"], 0),
    (&["set other 1"], 0),
];

/// Whether the transaction of a client that watches `k` fails when another one does this.
fn fails(watcher: &mut Client, other: &mut Client, before: &[&str], lines: &[&str]) -> bool {
    for line in before {
        watcher.say(line);
    }
    assert_eq!(watcher.say("watch k"), ok());
    for line in lines {
        other.say(line);
    }
    assert_eq!(watcher.say("multi"), ok());
    watcher.say("ping");
    watcher.say("exec") == Value::Null
}

#[test]
fn the_first_command_of_a_connection_may_be_watch() {
    for (before, database) in BEFORE {
        for there in [false, true] {
            // A store of its own each time: nothing has ever been in its databases.
            let server = Server::start(&[]);
            let mut other = server.client();
            other.say(&format!("select {database}"));
            if there {
                assert_eq!(other.say("set k 1"), ok());
            }
            let mut watcher = server.client();
            assert!(
                fails(&mut watcher, &mut other, before, &["set k 2"]),
                "after {before:?}, k there: {there}"
            );
            let mut watcher = server.client();
            assert!(
                !fails(&mut watcher, &mut other, before, &["set z 2"]),
                "after {before:?}, k there: {there}: z is not k"
            );
        }
    }
}

#[test]
fn the_watched_key_is_that_of_the_database_in_which_it_was_watched() {
    let server = Server::start(&[]);
    let (mut watcher, mut other) = (server.client(), server.client());
    assert!(!fails(&mut watcher, &mut other, &[], &["select 1", "set k 1", "select 0"]));
    watcher.say("watch k");
    watcher.say("select 2");
    other.say("set k 1");
    watcher.say("multi");
    assert_eq!(watcher.say("exec"), Value::Null);
}

/// Four clients that read, add and write back lose no addition.
#[test]
fn optimistic_increments_lose_nothing() {
    let server = Server::start(&[]);
    let socket = server.socket();
    thread::scope(|scope| {
        for _ in 0..4 {
            let socket = &socket;
            scope.spawn(move || {
                let mut done = 0;
                while done < 200 {
                    // A new connection each time, as a pool has them.
                    let mut client = Client::connect(socket).expect("it accepts");
                    client.say("watch n");
                    let number: u64 = match client.say("get n") {
                        Value::Bulk(text) => {
                            String::from_utf8(text).expect("text").parse().expect("a number")
                        }
                        _ => 0,
                    };
                    client.say("multi");
                    client.say(&format!("set n {}", number + 1));
                    done += usize::from(client.say("exec") != Value::Null);
                }
            });
        }
    });
    assert_eq!(server.client().say("get n"), Value::Bulk(b"800".to_vec()));
}

/// What is done before somebody watches, and after: EXEC must fail where Redis's does.
const CHANGES: &[(&str, &str)] = &[
    ("", "flushdb"),
    ("", "flushall"),
    ("set other 1", "flushdb"),
    ("set other 1", "flushall"),
    ("set k 1", "flushdb"),
    ("set k 1", "flushall"),
    ("select 1", "flushall"),
    ("set k 1", "set k 1"),
    ("set k 1", "del k"),
    ("", "del k"),
    ("set k 1", "expire k 100"),
    ("set k 1", "expire k 0"),
    ("", "expire k 100"),
    ("set k 1", "persist k"),
    ("set k 1 ex 100", "persist k"),
    ("set k 1", "getex k"),
    ("set k 1", "getex k ex 100"),
    ("set k 1", "getdel k"),
    ("set k 1", "get k"),
    ("set k 1", "append k x"),
    ("set k 1", "setrange k 0 x"),
    ("set k 1", "incrbyfloat k 0"),
    ("set k 1", "rename k other"),
    ("set other 1", "rename other k"),
    ("set k 1", "rename k k"),
    ("set k 1", "copy k other"),
    ("set other 1", "copy other k"),
    ("set k 1", "setnx k 2"),
    ("set k 1", "set k 2 nx"),
    ("set k 1", "msetnx k 2 other 3"),
    ("hset k f v", "hset k f v"),
    ("hset k f v", "hsetnx k f w"),
    ("hset k f v", "hdel k g"),
    ("hset k f v", "hdel k f"),
    ("hset k f 1", "hincrby k f 0"),
    ("sadd k a", "sadd k a"),
    ("sadd k a", "sadd k b"),
    ("sadd k a", "srem k b"),
    ("sadd k a", "srem k a"),
    ("sadd k a", "spop k 0"),
    ("sadd k a", "spop k"),
    ("sadd k a", "smove k other a"),
    ("sadd k a", "smove k other b"),
    ("sadd k a", "smove k k a"),
    ("sadd k a;sadd other a", "smove other k a"),
    ("sadd k a;sadd other b", "smove other k b"),
    ("sadd other b", "smove other k b"),
    ("", "sinterstore k other other"),
    ("sadd k a", "sinterstore k other other"),
    ("sadd k a", "sunionstore other k"),
    ("sadd other a", "sunionstore k other"),
    ("set k 1", "multi;set k 2;exec"),
    ("set k 1", "multi;set k 2;discard"),
];

#[test]
fn what_touches_a_key_is_what_touches_it_in_redis() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&[]);
    for (before, after) in CHANGES {
        let mut outcomes = Vec::new();
        for (mut watcher, mut other) in
            [(server.client(), server.client()), (redis.client(), redis.client())]
        {
            other.say("flushall");
            for line in before.split(';').filter(|line| !line.is_empty()) {
                other.say(line);
            }
            let lines: Vec<&str> = after.split(';').collect();
            outcomes.push(fails(&mut watcher, &mut other, &[], &lines));
        }
        assert_eq!(outcomes[0], outcomes[1], "[ours, Redis's] for {after:?} after {before:?}");
    }
}

#[test]
fn a_time_that_is_over_touches_what_was_there_and_nothing_else() {
    let server = Server::start(&[]);
    let (mut watcher, mut other) = (server.client(), server.client());
    // It was there.
    other.say("set k 1 px 50");
    watcher.say("watch k");
    crate::session::server::eventually("it is gone", || other.say("dbsize") == Value::Integer(0));
    watcher.say("multi");
    assert_eq!(watcher.say("exec"), Value::Null);
    // It was gone before, and is removed afterwards.
    for remove in ["flushdb", "get k", "del k", "dbsize"] {
        other.say("set k 1 px 1");
        crate::session::server::eventually("it is gone", || other.say("get k") == Value::Null);
        watcher.say("watch k");
        other.say(remove);
        crate::session::server::eventually("it has left", || {
            other.say("dbsize") == Value::Integer(0)
        });
        watcher.say("multi");
        assert_eq!(watcher.say("exec"), Value::Array(vec![]), "{remove}");
    }
}

/// A connection's watched keys are looked up, never walked over: a walk for each of so many would
/// take longer than the time limit of a test.
#[test]
fn many_watched_keys_keep_nobody_waiting() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let keys: Vec<String> = (0..100_000).map(|number| format!("k{number}")).collect();
    // In one request, one by one, and the same one again and again.
    let mut words = vec!["watch".to_owned()];
    words.extend(keys.iter().cloned());
    assert_eq!(client.call(&words).expect("a reply"), ok());
    let mut one = server.client();
    let mut same = vec!["watch".to_owned()];
    same.extend(std::iter::repeat_n("k".to_owned(), 300_000));
    assert_eq!(one.call(&same).expect("a reply"), ok());
    for chunk in keys.chunks(10) {
        let mut words = vec!["watch".to_owned()];
        words.extend(chunk.iter().cloned());
        assert_eq!(one.call(&words).expect("a reply"), ok());
    }
    server.client().say("set k7 1");
    for client in [&mut client, &mut one] {
        client.say("multi");
        assert_eq!(client.say("exec"), Value::Null);
        client.say("multi");
        assert_eq!(client.say("exec"), Value::Array(vec![]), "it watches nothing now");
    }
}
