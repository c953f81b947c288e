//! The same random requests to this store and to a real Redis server: the replies must be equal.

use std::path::Path;

use crate::common::random::Random;
use crate::session::client::{Client, Value};
use crate::session::redis::Redis;
use crate::session::server::{Server, eventually};

/// Two servers that get the same requests.
struct Pair {
    ours: Client,
    theirs: Client,
    history: Vec<String>,
}

impl Pair {
    fn new(ours: &Path, theirs: &Path) -> Self {
        Self {
            ours: Client::connect(ours).expect("ours"),
            theirs: Client::connect(theirs).expect("theirs"),
            history: Vec::new(),
        }
    }

    fn compare(&mut self, arguments: &[String]) {
        self.history.push(arguments.join(" "));
        // Redis tells expired entries by its cached clock; both see the request at the same time.
        self.ours.send(arguments).expect("ours takes it");
        self.theirs.send(arguments).expect("theirs takes it");
        let ours = comparable(arguments, self.ours.receive().expect("ours answers"));
        let theirs = comparable(arguments, self.theirs.receive().expect("theirs answers"));
        let near = match (&ours, &theirs) {
            // Times that are left: the two servers do not look at the clock at the same instant.
            (Value::Integer(a), Value::Integer(b)) if is_time(&arguments[0]) => {
                (a - b).abs() <= if arguments[0].starts_with('p') { 1000 } else { 1 }
                    && (*a < 0) == (*b < 0)
            }
            _ => false,
        };
        assert!(
            near || ours == theirs,
            "{arguments:?}\n  ours: {ours:?}\ntheirs: {theirs:?}\nafter: {:#?}\nof that key: {:#?}",
            &self.history[self.history.len().saturating_sub(40)..],
            self.history_of(arguments)
        );
    }
}

impl Pair {
    /// The latest requests that name the same key, or all databases.
    fn history_of(&self, arguments: &[String]) -> Vec<&String> {
        let name = arguments.get(1).map_or("", String::as_str);
        let names = |line: &&String| {
            line.contains(name)
                || ["flush", "select", "exec", "multi"].iter().any(|w| line.contains(w))
        };
        self.history.iter().rev().filter(names).take(60).collect()
    }
}

fn is_time(command: &str) -> bool {
    ["ttl", "pttl", "expiretime", "pexpiretime"].contains(&command)
}

/// A reply without what is not promised: the order of unordered things.
fn comparable(arguments: &[String], reply: Value) -> Value {
    let unordered = ["keys", "smembers", "sinter", "sunion", "sdiff", "hkeys", "hvals"];
    match (arguments[0].as_str(), reply) {
        (name, Value::Array(mut values)) if unordered.contains(&name) => {
            values.sort();
            Value::Array(values)
        }
        (_, Value::Set(mut values)) => {
            values.sort();
            Value::Set(values)
        }
        (_, Value::Map(mut pairs)) => {
            pairs.sort();
            Value::Map(pairs)
        }
        ("hgetall", Value::Array(values)) => {
            let mut pairs: Vec<Value> =
                values.chunks(2).map(|pair| Value::Array(pair.to_vec())).collect();
            pairs.sort();
            Value::Array(pairs)
        }
        ("exec", Value::Array(values)) => Value::Array(
            values
                .into_iter()
                .map(|value| match value {
                    Value::Array(mut inner) => {
                        inner.sort();
                        Value::Array(inner)
                    }
                    other => comparable(&[String::new()], other),
                })
                .collect(),
        ),
        (_, other) => other,
    }
}

/// One random request. No life is so short that it could end between two replies. Keys are few, so that requests meet; values are such that each command finds
/// fitting and unfitting ones.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn request(random: &mut Random) -> Vec<String> {
    const KEYS: &[&str] = &["a", "b", "c", "d", "e", "{x}", "k k", "é"];
    const VALUES: &[&str] =
        &["", "0", "1", "-7", "10", "9223372036854775807", "3.25", "abc", "x y\r\nz", "1e1", "007"];
    const FIELDS: &[&str] = &["f", "g", "h", "", "long field name"];
    const NUMBERS: &[&str] = &["0", "1", "-1", "2", "5", "-3", "100", "x", "9223372036854775807"];
    const SECONDS: &[&str] = &["50", "100", "100000", "0", "-1", "x", "9223372036854775807"];
    const MILLIS: &[&str] = &["80000", "100000", "90000000", "0", "-1", "9223372036854775807"];
    const PATTERNS: &[&str] = &["*", "a*", "?", "[a-c]", "[^a]", "\\a", "k*k"];
    const TABLE: &[&str] = &[
        "get k",
        "set k v",
        "set k v",
        "set k v ex S",
        "set k v px M",
        "set k v nx",
        "set k v xx",
        "set k v xx get",
        "set k v nx get",
        "set k v keepttl",
        "set k v get ex S",
        "set k v ex",
        "set k v nx xx",
        "set k v keepttl ex S",
        "set k v exat 4102444800",
        "set k v exat 0",
        "set k v pxat 4102444800123",
        "setex k S v",
        "psetex k M v",
        "setnx k v",
        "getset k v",
        "getdel k",
        "getex k",
        "getex k ex S",
        "getex k persist",
        "getex k px M",
        "getex k exat S",
        "getex k nonsense",
        "mget k k k",
        "mset k v k v",
        "mset k v k",
        "msetnx k v k v",
        "append k v",
        "strlen k",
        "getrange k N N",
        "substr k N N",
        "setrange k N v",
        "incr k",
        "decr k",
        "incrby k N",
        "decrby k N",
        "incrbyfloat k 0.5",
        "incrbyfloat k -1.25",
        "incrbyfloat k x",
        "del k",
        "del k k",
        "unlink k k",
        "exists k k k",
        "touch k k",
        "type k",
        "rename k k",
        "renamenx k k",
        "copy k k",
        "copy k k replace",
        "copy k k db 3",
        "expire k S",
        "expire k S nx",
        "expire k S xx",
        "expire k S gt",
        "expire k S lt",
        "expire k S gt lt",
        "expire k S nx gt",
        "expire k S what",
        "pexpire k M",
        "expireat k S",
        "pexpireat k M",
        "expireat k 4102444800",
        "pexpireat k 4102444800123 gt",
        "ttl k",
        "pttl k",
        "expiretime k",
        "pexpiretime k",
        "persist k",
        "dbsize",
        "keys p",
        "hset k f v",
        "hset k f v f v",
        "hset k f",
        "hmset k f v f v",
        "hsetnx k f v",
        "hget k f",
        "hmget k f f f",
        "hgetall k",
        "hdel k f",
        "hdel k f f f",
        "hexists k f",
        "hlen k",
        "hkeys k",
        "hvals k",
        "hstrlen k f",
        "hincrby k f N",
        "hincrbyfloat k f 0.25",
        "hincrbyfloat k f x",
        "sadd k v",
        "sadd k v v v",
        "srem k v",
        "srem k v v",
        "smembers k",
        "sismember k v",
        "smismember k v v",
        "scard k",
        "smove k k v",
        "sinter k k",
        "sunion k k",
        "sdiff k k",
        "sinterstore k k k",
        "sunionstore k k k",
        "sdiffstore k k k",
        "sintercard 2 k k",
        "sintercard 2 k k limit N",
        "sintercard N k",
        "srandmember k 0",
        "spop k 0",
        "spop k -1",
        "hrandfield k 0",
        "scan N",
        "hscan k 0 count 1000",
        "sscan k 0 count",
        "hscan k x",
        "multi",
        "exec",
        "discard",
        "watch k",
        "unwatch",
        "select 0",
        "select 1",
        "select 16",
        "select x",
        "ping",
        "ping v",
        "ping v v",
        "echo v",
        "flushdb",
        "flushdb async",
        "flushdb what",
        "flushall",
        "get",
        "set k",
        "object help x y z",
        "nosuchcommand k v",
        "client getname",
        "client setname n",
        "client nosuch",
        "config nosuch",
        "readonly",
        "readwrite",
        "wait 0 0",
        "auth v",
        "auth default v",
        "auth a b c",
        "hello 9",
        "hello x",
        "command nosuch",
        "reset",
        "set k v ex S",
        "get k",
        "hgetall k",
        "smembers k",
    ];
    // Clearing everything is rare, or nothing would ever be there.
    let mut line = random.pick(TABLE);
    while (line.starts_with("flush") || line == "reset") && random.below(20) != 0 {
        line = random.pick(TABLE);
    }
    line.split(' ')
        .enumerate()
        .map(|(index, word)| {
            let from = match word {
                _ if index == 0 => return word.to_owned(),
                "k" => KEYS,
                "v" => VALUES,
                "f" => FIELDS,
                "N" => NUMBERS,
                "S" => SECONDS,
                "M" => MILLIS,
                "p" => PATTERNS,
                word => return word.to_owned(),
            };
            random.pick(from).to_owned()
        })
        .collect()
}

/// Requests whose reply is not the same on purpose, each with its reason.
fn differs_on_purpose(arguments: &[String], transaction: bool) -> bool {
    match arguments[0].as_str() {
        // Redis looks at subcommands when it queues, this store when it carries out.
        "client" | "config" | "command" => transaction,
        // Within a transaction the times that are left cannot be told from other numbers.
        name if is_time(name) => transaction,
        // A walk's cursors are the server's own; whole walks are compared at the end.
        "scan" => arguments[1] != "x",
        "object" => true, // not supported, and says so in our words
        "hscan" | "sscan" => arguments.get(2).is_some_and(|cursor| cursor == "0"),
        _ => false,
    }
}

/// Memory for a few dozen entries: the rest is in the file, and a checkpoint is never far.
const LITTLE: &[&str] = &["--memory", "16384"];

fn run(seed: u64, version: &str, requests: usize, options: &[&str]) {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(options);
    let mut pair = Pair::new(&server.socket(), &redis.socket);
    let mut other = Pair::new(&server.socket(), &redis.socket);
    let mut random = Random(seed);
    let hello = ["hello".to_owned(), version.to_owned()];
    for pair in [&mut pair, &mut other] {
        for client in [&mut pair.ours, &mut pair.theirs] {
            client.call(&hello).expect("an answer");
        }
    }
    println!("seed {seed}, RESP{version}");
    let mut transaction = false;
    for _ in 0..requests {
        let arguments = request(&mut random);
        if differs_on_purpose(&arguments, transaction) {
            continue;
        }
        // A second connection touches what the first one watches.
        if random.below(8) == 0 && !["multi", "select"].contains(&arguments[0].as_str()) {
            other.compare(&arguments);
            continue;
        }
        pair.compare(&arguments);
        match arguments[0].as_str() {
            "multi" => transaction = true,
            "exec" | "discard" | "reset" => transaction = false,
            _ => {}
        }
    }
    for word in ["discard", "unwatch"] {
        pair.ours.call(&[word]).expect("ours");
        pair.theirs.call(&[word]).expect("theirs");
    }
    for database in ["0", "1", "3"] {
        pair.compare(&["select".to_owned(), database.to_owned()]);
        assert_eq!(walk(&mut pair.ours), walk(&mut pair.theirs), "database {database}");
    }
}

/// All keys, by a whole walk.
fn walk(client: &mut Client) -> Vec<Value> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let reply = client.say(&format!("scan {cursor} count 3"));
        let Value::Array(parts) = reply else { panic!("{reply:?}") };
        let [Value::Bulk(next), Value::Array(keys)] = &parts[..] else { panic!("{parts:?}") };
        found.extend(keys.iter().cloned());
        cursor = String::from_utf8(next.clone()).expect("digits");
        if cursor == "0" {
            found.sort();
            found.dedup();
            return found;
        }
    }
}

#[test]
fn replies_are_those_of_redis_in_resp2() {
    run(1, "2", 8000, &[]);
}

#[test]
fn replies_are_those_of_redis_in_resp3() {
    run(2, "3", 8000, LITTLE);
}

/// A seed that once found an overflow; `ROUNDSMAN_SEED` tries another.
#[test]
fn replies_are_those_of_redis_with_any_seed() {
    let seed = std::env::var("ROUNDSMAN_SEED").map_or(1_795_398_771_833_777_339, |seed| {
        seed.parse().expect("ROUNDSMAN_SEED is a number")
    });
    run(seed, "3", 4000, LITTLE);
}

/// Time moves: what is set with a short life is gone on both sides at the same time.
#[test]
fn entries_expire_when_those_of_redis_do() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&[]);
    let mut pair = Pair::new(&server.socket(), &redis.socket);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for line in ["set a 1 px 150", "hset h f v", "pexpire h 150", "sadd s m", "pexpire s 150"] {
        pair.compare(&words(line));
    }
    pair.compare(&words("watch a"));
    eventually("ours expire", || pair.ours.say("exists a h s") == Value::Integer(0));
    eventually("theirs expire", || pair.theirs.say("exists a h s") == Value::Integer(0));
    for line in [
        "multi",
        "ping",
        "exec",
        "exists a h s",
        "ttl a",
        "hset h g w",
        "hgetall h",
        "sadd s n",
        "smembers s",
        "ttl h",
        "set a 2 xx",
        "incr a",
        "ttl a",
    ] {
        pair.compare(&words(line));
    }
}

/// Fractions, large, small and odd ones, have the digits that Redis gives them (which it computes with, on
/// other processors, otherwise).
#[test]
#[cfg(target_arch = "x86_64")]
fn sums_of_fractions_are_those_of_redis() {
    const NUMBERS: &[&str] = &[
        "0",
        "1",
        "-1",
        "0.1",
        "0.2",
        "1.5",
        "3.0e3",
        "1e5",
        "1e-5",
        "1e17",
        "1e20",
        "-1e20",
        "123456789012345678",
        "12345678901234567890",
        "1e300",
        "1e308",
        "1e400",
        "-1e4932",
        "1e4932",
        "1e5000",
        "1e-5000",
        "1e-4950",
        "inf",
        "-inf",
        "infinity",
        "nan",
        "0x10",
        "0x1p3",
        "0X1.8P-4",
        "1e-17",
        "1e-18",
        "5e-18",
        "0.00000000000000001",
        "123456789.123456789",
        "99999999999.99999",
        "0.3333333333333333333",
        ".5",
        "5.",
        "-.5",
        "+5",
        "",
        " 1",
        "1 ",
        "1e",
        "e1",
        "--1",
        "1.2.3",
        "3.14159265358979323846",
        "100000000.1",
        "7.7",
        "1e15",
        "-0",
        "-0.0",
        "0e99999",
        "1\u{0}",
    ];
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&[]);
    let mut pair = Pair::new(&server.socket(), &redis.socket);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for before in NUMBERS {
        for amount in NUMBERS {
            pair.compare(&words(&["set", "k", before]));
            pair.compare(&words(&["incrbyfloat", "k", amount]));
            pair.compare(&words(&["hset", "h", "f", before]));
            pair.compare(&words(&["hincrbyfloat", "h", "f", amount]));
        }
    }
}
