//! What is written stays, through restarts, checkpoints and expiry.

use crate::session::client::{Value, bulk, ok};
use crate::session::server::{Server, eventually};

#[test]
fn everything_is_there_after_a_restart() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    client.say("set a 1 ex 1000");
    client.say("hset h f v g w");
    client.say("sadd s x y z");
    client.say("select 2");
    client.say("set b 2");
    client.say("append b 3");
    client.say("hset gone f v");
    client.say("hdel gone f");
    server.stop();
    server.check();
    server.start_again();
    let mut client = server.client();
    assert_eq!(client.say("get a"), bulk("1"));
    let Value::Integer(left) = client.say("ttl a") else { panic!("no time") };
    assert!((900..=1000).contains(&left), "{left}");
    assert_eq!(client.say("hget h g"), bulk("w"));
    assert_eq!(client.say("scard s"), Value::Integer(3));
    assert_eq!(client.say("dbsize"), Value::Integer(3));
    client.say("select 2");
    assert_eq!(client.say("get b"), bulk("23"));
    assert_eq!(client.say("dbsize"), Value::Integer(1));
}

/// More than a memtable holds, so that entries are in the file, in the frozen table and in the
/// active one; then changed again in each of these places.
#[test]
fn entries_are_found_wherever_they_lie() {
    let mut server = Server::start(&["--memory", "16777216"]);
    let mut client = server.client();
    let value = "v".repeat(20_000);
    let rounds: i64 = 1500; // 30 MB: three checkpoints at least
    for number in 0..rounds {
        let expected = ok();
        assert_eq!(client.say(&format!("set k{number} {value} ex 1000")), expected);
    }
    for number in (0..rounds).step_by(7) {
        assert_eq!(client.say(&format!("del k{number}")), Value::Integer(1), "k{number}");
    }
    for number in (1..rounds).step_by(7) {
        assert_eq!(client.say(&format!("persist k{number}")), Value::Integer(1), "k{number}");
    }
    let left = rounds - (rounds + 6) / 7;
    assert_eq!(client.say("dbsize"), Value::Integer(left));
    for restart in [false, true] {
        if restart {
            server.kill();
            server.check();
            server.start_again();
            client = server.client();
        }
        for number in 0..rounds {
            let expected = if number % 7 == 0 { 0 } else { 20_000 };
            let length = client.say(&format!("strlen k{number}"));
            assert_eq!(length, Value::Integer(expected), "k{number}");
        }
        assert_eq!(client.say("ttl k1"), Value::Integer(-1));
        assert_eq!(client.say("dbsize"), Value::Integer(left));
    }
    assert_eq!(client.say("flushdb"), ok());
    assert_eq!(client.say("dbsize"), Value::Integer(0));
    assert_eq!(client.say("get k1"), Value::Null);
    client.say("set k1 new");
    server.kill();
    server.start_again();
    client = server.client();
    assert_eq!(client.say("dbsize"), Value::Integer(1));
    assert_eq!(client.say("get k2"), Value::Null);
    assert_eq!(client.say("get k1"), bulk("new"));
    server.stop();
    server.check();
}

/// What prolongs a session is in the file without its value: it counts in every reply, on every way
/// out, and through checkpoints, deaths and further changes.
#[test]
fn sessions_are_prolonged_wherever_their_values_lie() {
    const AT: i64 = 4_000_000_000;
    let mut server = Server::start(&["--memory", "200000"]);
    let mut client = server.client();
    let keys: i64 = 2000;
    for number in 0..keys {
        assert_eq!(client.say(&format!("set k{number} {number} exat {AT}")), ok());
    }
    // Each round changes another part of them once more; the others stay as the file has them.
    for round in 1..4 {
        for number in (0..keys).step_by(round) {
            let at = AT + number * 10 + i64::try_from(round).expect("small");
            let reply = client.say(&format!("expireat k{number} {at}"));
            assert_eq!(reply, Value::Integer(1), "k{number}");
        }
    }
    let expected = |number: i64| {
        let last = (1..4).rev().find(|round| number % round == 0).expect("1 divides all");
        AT + number * 10 + last
    };
    for number in (0..keys).step_by(5) {
        client.say(&format!("persist k{number}"));
    }
    for number in (0..keys).step_by(11) {
        assert_eq!(
            client.say(&format!("append k{number} +")),
            Value::Integer(i64::try_from(number.to_string().len()).expect("short") + 1)
        );
    }
    for number in (0..keys).step_by(13) {
        assert_eq!(client.say(&format!("del k{number}")), Value::Integer(1));
        assert_eq!(client.say(&format!("set k{number} again")), ok());
    }
    for restart in [false, true] {
        if restart {
            server.kill();
            server.check();
            server.start_again();
            client = server.client();
        }
        for number in 0..keys {
            let never = number % 5 == 0 || number % 13 == 0;
            let at = if never { -1 } else { expected(number) };
            let reply = client.say(&format!("expiretime k{number}"));
            assert_eq!(reply, Value::Integer(at), "k{number}");
            let text = match (number % 13, number % 11) {
                (0, _) => "again".to_owned(),
                (_, 0) => format!("{number}+"),
                _ => number.to_string(),
            };
            assert_eq!(client.say(&format!("get k{number}")), bulk(&text));
        }
    }
    // A shorter life counts too, and clearing leaves nothing of any of it behind.
    for number in 0..keys {
        client.say(&format!("pexpire k{number} 1"));
    }
    eventually("all are gone", || client.say("dbsize") == Value::Integer(0));
    for number in 0..keys {
        client.say(&format!("set k{number} v"));
        client.say(&format!("expireat k{number} {AT}"));
    }
    assert_eq!(client.say("flushdb"), ok());
    for number in 0..keys {
        assert_eq!(client.say(&format!("set k{number} {number}")), ok());
    }
    assert_eq!(client.say("ttl k7"), Value::Integer(-1));
    server.stop();
    server.check();
}

#[test]
fn expired_entries_leave_the_disk_too() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    for number in 0..500 {
        client.say(&format!("set k{number} v px 300"));
    }
    client.say("set stays v");
    eventually("nothing of it is left", || client.say("dbsize") == Value::Integer(1));
    server.stop();
    server.check();
    server.start_again();
    assert_eq!(server.client().say("dbsize"), Value::Integer(1));
}

#[test]
fn the_nearest_expiry_goes_first_when_the_store_is_full() {
    let server = Server::start(&["--max-size", "1000000"]);
    let mut client = server.client();
    let value = "v".repeat(1000);
    client.say(&format!("set first {value} ex 5000"));
    client.say(&format!("set keeps {value}"));
    for number in 0..5000 {
        assert_eq!(client.say(&format!("set k{number} {value} ex {}", 10_000 + number)), ok());
    }
    assert_eq!(client.say("exists first"), Value::Integer(0), "it was the nearest");
    assert_eq!(client.say("exists keeps"), Value::Integer(1), "it never expires");
    assert_eq!(client.say("exists k4999"), Value::Integer(1), "it is the latest");
    let Value::Integer(left) = client.say("dbsize") else { panic!("no number") };
    assert!((800..1000).contains(&left), "{left}");
    // When nothing is left that expires, writes are refused and reads go on.
    client.say("flushdb");
    let mut last = ok();
    for number in 0..2000 {
        last = client.say(&format!("set k{number} {value}"));
    }
    assert_eq!(
        last,
        Value::Error("OOM command not allowed when used memory > 'maxmemory'.".to_owned())
    );
    assert_eq!(client.say("strlen k0"), Value::Integer(1000));
    assert_eq!(client.say("del k0 k1 k2 k3 k4 k5"), Value::Integer(6));
    assert_eq!(client.say(&format!("set k0 {value}")), ok());
}

#[test]
fn two_stores_never_share_a_directory() {
    let server = Server::start(&[]);
    let data = crate::session::server::path(&server.data()).to_owned();
    let other = server.directory.path().join("other.sock");
    let other = crate::session::server::path(&other);
    let (ok, output) = crate::session::server::tool(&["--data", &data, "--listen", other]);
    assert!(!ok && output.contains("in use by another process"), "{output}");
    let (ok, output) = crate::session::server::tool(&["check", "--data", &data]);
    assert!(!ok && output.contains("in use by another process"), "{output}");
}

/// The documentation has every command and no other.
#[test]
fn the_documentation_lists_what_there_is() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sessions.md"))
        .expect("docs/sessions.md");
    let (_, text) = text.split_once("## Commands").expect("the lists");
    let (supported, refused) = text.split_once("### Not supported").expect("both lists");
    let rows: Vec<String> = supported
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    let commands: Vec<&str> =
        roundsman::session::command::COMMANDS.iter().map(|c| c.name).collect();
    let missing: Vec<_> = commands.iter().filter(|c| !rows.iter().any(|r| r == *c)).collect();
    let invented: Vec<_> = rows.iter().filter(|r| !commands.contains(&r.as_str())).collect();
    assert!(missing.is_empty(), "not listed: {missing:?}");
    assert!(invented.is_empty(), "listed, but not there: {invented:?}");
    for name in roundsman::session::command::NOT_SUPPORTED {
        assert!(refused.contains(&format!("`{}`", name.to_ascii_uppercase())), "{name}");
    }
}
