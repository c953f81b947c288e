//! What client libraries ask for beside the data.

use crate::session::client::{Client, Value, bulk, ok};
use crate::session::redis::Redis;
use crate::session::server::Server;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn keys_are_found_in_requests_where_redis_finds_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&[]);
    let (mut ours, mut theirs) = (server.client(), redis.client());
    for line in [
        "get k",
        "mget a b c",
        "mset a 1 b 2",
        "set k v ex 10",
        "del a b",
        "copy a b",
        "rename a b",
        "sintercard 2 a b limit 1",
        "sinterstore t a b",
        "smove a b m",
        "hset h f v g w",
        "memory usage k",
        "watch a b",
        "ping x",
        "get a b",
        "nosuchcommand a",
        "touch a b c d",
    ] {
        let request = words(&format!("command getkeys {line}"));
        let (ours, theirs) = (ours.call(&request), theirs.call(&request));
        assert_eq!(ours.expect("a reply"), theirs.expect("a reply"), "{line}");
    }
}

fn names(reply: Value) -> Vec<String> {
    let Value::Array(names) = reply else { panic!("{reply:?}") };
    let text = |name| match name {
        Value::Bulk(bytes) => String::from_utf8(bytes).expect("text"),
        other => panic!("{other:?}"),
    };
    names.into_iter().map(text).collect()
}

#[test]
fn commands_are_listed_and_described() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&[]);
    let (mut ours, mut theirs) = (server.client(), redis.client());
    for filter in
        ["pattern h*", "pattern *get", "aclcat hash", "aclcat transaction", "aclcat nosuch"]
    {
        let list =
            |client: &mut Client| names(client.say(&format!("command list filterby {filter}")));
        let (ours, theirs) = (list(&mut ours), list(&mut theirs));
        assert!(ours.iter().all(|name| theirs.contains(name)), "{filter}: {ours:?} {theirs:?}");
        assert_eq!(ours.is_empty(), theirs.is_empty(), "{filter}");
    }
    assert_eq!(ours.say("command list filterby module json"), Value::Array(vec![]));
    // Names, arity, keys and below them the subcommands.
    for name in
        ["get", "mset", "client|id", "config|get", "memory|usage", "client|nosuch", "nosuch"]
    {
        let head = |client: &mut Client| {
            let reply = client.say(&format!("command info {name}"));
            let Value::Array(described) = reply else { panic!("{reply:?}") };
            match described.as_slice() {
                [Value::Array(parts)] => {
                    Some([&parts[0], &parts[1], &parts[3], &parts[4], &parts[5]].map(Value::clone))
                }
                [Value::Null] => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(head(&mut ours), head(&mut theirs), "{name}");
    }
    let Value::Array(described) = ours.say("command info client") else { panic!("no array") };
    let Value::Array(parts) = &described[0] else { panic!("no array") };
    assert!(matches!(&parts[9], Value::Array(below) if below.len() > 5), "{parts:?}");
}

fn fields(text: Value, between: char, within: char) -> Vec<String> {
    let (Value::Bulk(text) | Value::Verbatim(text)) = text else { panic!("{text:?}") };
    let text = String::from_utf8(text).expect("text");
    let fields = text.trim().split(between).filter_map(|field| field.trim().split_once(within));
    fields.map(|(name, _)| name.to_owned()).collect()
}

/// Libraries end with an error where a field that they look for is not there.
#[test]
fn a_connection_is_described_by_the_fields_that_redis_has() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&[]);
    let (mut ours, mut theirs) = (server.client(), redis.client());
    for request in ["client info", "client list", "client list type normal"] {
        let (ours, theirs) =
            (fields(ours.say(request), ' ', '='), fields(theirs.say(request), ' ', '='));
        let missing: Vec<_> = theirs.iter().filter(|name| !ours.contains(name)).collect();
        assert!(missing.is_empty(), "{request}: {missing:?}");
    }
    for request in
        ["client list type pubsub", "client list type x", "client list id x", "client list x"]
    {
        assert_eq!(ours.say(request), theirs.say(request), "{request}");
    }
    assert_eq!(ours.say("client getredir"), theirs.say("client getredir"));
    let own = fields(ours.say("info"), '\n', ':');
    for field in [
        "redis_version",
        "redis_mode",
        "os",
        "arch_bits",
        "process_id",
        "run_id",
        "tcp_port",
        "uptime_in_seconds",
        "uptime_in_days",
        "connected_clients",
        "blocked_clients",
        "maxclients",
        "used_memory",
        "used_memory_human",
        "maxmemory",
        "maxmemory_human",
        "maxmemory_policy",
        "loading",
        "rdb_changes_since_last_save",
        "rdb_bgsave_in_progress",
        "rdb_last_save_time",
        "aof_enabled",
        "aof_last_write_status",
        "total_commands_processed",
        "keyspace_hits",
        "role",
        "connected_slaves",
        "master_replid",
        "master_repl_offset",
        "cluster_enabled",
    ] {
        assert!(own.iter().any(|name| name == field), "{field} of {own:?}");
        let theirs = fields(theirs.say("info everything"), '\n', ':');
        assert!(theirs.iter().any(|name| name == field), "Redis has no {field}");
    }
    for setting in [
        "appendonly",
        "databases",
        "maxmemory",
        "maxmemory-policy",
        "notify-keyspace-events",
        "replica-read-only",
        "slave-read-only",
        "requirepass",
        "save",
        "timeout",
        "tcp-keepalive",
        "hash-max-ziplist-entries",
        "maxmemory-samples",
        "cluster-enabled",
        "proto-max-bulk-len",
    ] {
        let request = format!("config get {setting}");
        let Value::Array(found) = ours.say(&request) else { panic!("no array") };
        let Value::Array(theirs) = theirs.say(&request) else { panic!("no array") };
        assert_eq!((found.len(), found.first()), (2, theirs.first()), "{setting}");
    }
}

/// As node-redis with `clientSideCache` does it.
#[test]
fn a_client_that_keeps_copies_is_told_when_they_are_stale() {
    let server = Server::start(&["--sync", "always"]);
    let (mut cache, mut other) = (server.client(), server.client());
    assert!(
        matches!(cache.say("client tracking on"), Value::Error(text) if text.contains("RESP3"))
    );
    cache.say("hello 3");
    assert_eq!(cache.say("client tracking on"), ok());
    let told = |cache: &mut Client, name: Option<&str>| {
        let names = name.map_or(Value::Null, |name| Value::Array(vec![bulk(name)]));
        let expected = Value::Push(vec![bulk("invalidate"), names]);
        assert_eq!(cache.receive().expect("it is told"), expected);
    };
    other.say("mset a 1 b 2 c 3");
    assert_eq!(cache.say("get a"), bulk("1"));
    cache.say("mget b nothing");
    other.say("set c 4");
    other.say("set a 2");
    told(&mut cache, Some("a"));
    other.say("set a 3");
    assert_eq!(
        cache.say("ping"),
        Value::Simple("PONG".to_owned()),
        "once, until it reads it again"
    );
    other.say("set nothing 1");
    told(&mut cache, Some("nothing"));
    cache.say("get a");
    cache.say("set a mine");
    told(&mut cache, Some("a"));
    // A time that is over.
    other.say("set short 1 px 30");
    cache.say("get short");
    told(&mut cache, Some("short"));
    other.say("flushall");
    told(&mut cache, None);
    assert_eq!(cache.say("client tracking off"), ok());
    cache.say("get a");
    other.say("set a 9");
    assert_eq!(cache.say("get a"), bulk("9"));
    assert!(matches!(cache.say("client tracking on bcast"), Value::Error(_)));
}
