//! The tools that look at, copy and move sessions while the store serves them.

use std::fs::Permissions;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use crate::session::access::write_secret;
use crate::session::client::{Client, Value, bulk, ok};
use crate::session::redis::Redis;
use crate::session::server::{Server, eventually, path, tool};

/// A store with sessions of two apps: strings, hashes, sets, bytes that are no text.
fn filled(server: &Server) -> Client {
    let mut shop = server.client();
    shop.say("auth shop any");
    for number in 0..500 {
        shop.say(&format!("set sess:{number} {{\"user\":{number}}} ex {}", 1000 + number));
    }
    shop.say("set forever x");
    shop.call(&[&b"set"[..], b"b\xff\0", b"\x80\r\n", b"px", b"5000000"]).expect("a reply");
    shop.say("hset h f v g w");
    shop.say("expire h 2000");
    for number in 0..2500 {
        shop.say(&format!("sadd users m{number}"));
    }
    shop.say("set brief x px 1");
    shop.say("select 3");
    shop.say("set third 3 ex 100");
    shop.say("select 0");
    let mut blog = server.client();
    blog.say("auth blog any");
    blog.say("set sess:1 blog ex 100");
    // Counts are of what is stored: what has expired counts until it is swept.
    eventually("the brief one is gone", || shop.say("dbsize") == Value::Integer(504));
    shop
}

fn socket(server: &Server) -> String {
    path(&server.socket()).to_owned()
}

fn output(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .arg("session")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn migrate(server: &Server, to: &str, more: &[&str]) -> (bool, String) {
    let socket = socket(server);
    tool(&[&["migrate", "--socket", &socket, "--to", to], more].concat())
}

fn left(client: &mut Client, key: &str) -> i64 {
    match client.say(&format!("ttl {key}")) {
        Value::Integer(left) => left,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stats_tell_what_there_is() {
    let server = Server::start(&[]);
    let mut shop = filled(&server);
    shop.say("get forever");
    shop.say("get nothing");
    let (ok, text) = tool(&["stats", "--socket", &socket(&server)]);
    assert!(ok && text.contains("506 keys") && text.contains("writes    taken"), "{text}");
    assert!(text.lines().any(|l| l.starts_with("blog ") && l.contains(" 0          1 ")), "{text}");
    let (ok, text) = tool(&["stats", "--json", "--socket", &socket(&server)]);
    let figures: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(ok);
    assert_eq!(figures["keys"], 506);
    assert_eq!(figures["hits"], 1);
    assert!(figures["file_bytes"].as_u64() > Some(0), "{text}");
    let third = &figures["namespaces"].as_array().expect("a list")[2];
    assert_eq!(
        (&third["name"], &third["database"], &third["keys"]),
        (&"shop".into(), &3.into(), &1.into())
    );
}

#[test]
fn what_was_exported_is_there_after_an_import() {
    let server = Server::start(&[]);
    filled(&server);
    let exported = output(&["export", "--socket", &socket(&server)], "");
    assert!(exported.status.success());
    let text = String::from_utf8(exported.stdout).expect("text");
    assert_eq!(text.lines().count(), 506);
    let other = Server::start(&[]);
    let imported = output(&["import", "--socket", &socket(&other)], &text);
    let said = String::from_utf8_lossy(&imported.stdout).into_owned();
    assert!(
        imported.status.success() && said.contains("506 keys imported, 0 had expired"),
        "{imported:?}"
    );
    let again = output(&["export", "--socket", &socket(&other)], "");
    // Times are computed from what is left of them: apart from the rest, to the second.
    let read = |text: &str| {
        let mut lines: Vec<(String, Option<u64>)> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .map(|mut line: serde_json::Value| {
                let fields = line.as_object_mut().expect("an object");
                let expires = fields.remove("expires").map(|at| at.as_u64().expect("a time"));
                if let Some(set) = fields.get_mut("set").and_then(|set| set.as_array_mut()) {
                    set.sort_by_key(ToString::to_string);
                }
                (line.to_string(), expires)
            })
            .collect();
        lines.sort();
        lines
    };
    let (before, after) = (read(&text), read(&String::from_utf8_lossy(&again.stdout)));
    assert_eq!(before.len(), after.len());
    for ((before, expires), (after, later)) in before.iter().zip(&after) {
        assert_eq!(before, after);
        let same = match (expires, later) {
            (Some(expires), Some(later)) => expires.abs_diff(*later) < 1000,
            (None, None) => true,
            _ => false,
        };
        assert!(same, "{before} expires at {expires:?}, and then at {later:?}");
    }
    let mut client = other.client();
    client.say("auth shop any");
    assert_eq!(client.say("scard users"), Value::Integer(2500));
    assert_eq!(
        client.call(&[&b"get"[..], b"b\xff\0"]).expect("a reply"),
        Value::Bulk(b"\x80\r\n".to_vec())
    );

    // One app's, as another's.
    let blog = output(&["export", "--app", "blog", "--socket", &socket(&server)], "");
    let text = String::from_utf8_lossy(&blog.stdout).into_owned();
    assert_eq!(text.lines().count(), 1);
    assert!(
        output(&["import", "--app", "news", "--socket", &socket(&other)], &text).status.success()
    );
    client.say("auth news any");
    assert_eq!(client.say("get sess:1"), bulk("blog"));

    // What cannot be read is said, with its line.
    let bad =
        output(&["import", "--socket", &socket(&other)], &format!("{text}{{\"app\":\"a\"}}\n"));
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(!bad.status.success() && said.contains("standard input: line 2: "), "{said}");
    let past = r#"{"app":"shop","key":"old","string":"x","expires":1000}"#;
    let past = output(&["import", "--socket", &socket(&other)], past);
    assert!(String::from_utf8_lossy(&past.stdout).contains("0 keys imported, 1 had expired"));
}

#[test]
fn sessions_move_to_redis_with_their_times() {
    let server = Server::start(&[]);
    let mut shop = filled(&server);
    let Some(redis) = Redis::start(&[]) else { return };
    let mut there = redis.client();
    let (ok, text) = migrate(&server, &redis.tcp_url(), &[]);
    assert!(!ok && text.contains("several apps") && text.contains("blog, shop"), "{text}");
    let (ok, text) = migrate(&server, &redis.tcp_url(), &["--app", "shop"]);
    assert!(ok && text.contains("shop: 504 keys; 504 copied"), "{text}");
    assert_eq!(there.say("dbsize"), Value::Integer(504));
    assert_eq!(there.say("get sess:7"), bulk("{\"user\":7}"));
    assert!((900..=1007).contains(&left(&mut there, "sess:7")));
    assert_eq!(there.say("ttl forever"), Value::Integer(-1));
    assert_eq!(there.say("hget h g"), bulk("w"));
    assert!((1900..=2000).contains(&left(&mut there, "h")));
    assert_eq!(there.say("scard users"), Value::Integer(2500));
    assert_eq!(
        there.call(&[&b"get"[..], b"b\xff\0"]).expect("a reply"),
        Value::Bulk(b"\x80\r\n".to_vec())
    );

    // Again, after both sides were used: the later use wins, and what is new comes over.
    shop.say("set sess:1 newer ex 3000");
    there.say("set sess:2 newer ex 3000");
    there.say("del sess:3");
    let (ok, text) = migrate(&server, &redis.tcp_url(), &["--app", "shop"]);
    assert!(ok && text.contains("1 kept there"), "{text}");
    assert_eq!(there.say("get sess:1"), bulk("newer"));
    assert_eq!(there.say("get sess:2"), bulk("newer"));
    assert_eq!(there.say("exists sess:3"), Value::Integer(1));
    // Or only what is missing.
    there.say("set sess:4 other ex 1");
    there.say("persist sess:4");
    there.say("del sess:5");
    let (ok, text) = migrate(&server, &redis.tcp_url(), &["--app", "shop", "--missing"]);
    assert!(ok && text.contains("1 copied"), "{text}");
    assert_eq!(there.say("get sess:4"), bulk("other"));
    // Another database, there too.
    let url = format!("{}/2", redis.tcp_url());
    let (ok, text) = migrate(&server, &url, &["--app", "shop", "--database", "3"]);
    assert!(ok, "{text}");
    there.say("select 2");
    assert_eq!(there.say("get third"), bulk("3"));
}

#[test]
fn a_copy_follows_until_it_is_interrupted() {
    let server = Server::start(&[]);
    let mut shop = server.client();
    shop.say("auth shop any");
    for number in 0..300 {
        shop.say(&format!("set sess:{number} old ex 5000"));
    }
    let Some(redis) = Redis::start(&[]) else { return };
    let mut there = redis.client();
    let mut follower = Command::new(env!("CARGO_BIN_EXE_roundsman"))
        .args([
            "session",
            "migrate",
            "--follow",
            "--to",
            &redis.tcp_url(),
            "--socket",
            &socket(&server),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    eventually("the first pass is done", || there.say("dbsize") == Value::Integer(300));
    // The app goes on: it changes, adds, prolongs and logs out.
    shop.say("set sess:1 new ex 5000");
    shop.say("set sess:new new ex 5000");
    shop.say("expire sess:2 9000");
    shop.say("del sess:3");
    // And there somebody uses a session that then ends here.
    there.say("expire sess:4 9000");
    shop.say("del sess:4");
    eventually("all of it has come over", || {
        there.say("get sess:1") == bulk("new")
            && there.say("get sess:new") == bulk("new")
            && left(&mut there, "sess:2") > 8000
            && there.say("exists sess:3") == Value::Integer(0)
    });
    assert_eq!(there.say("exists sess:4"), Value::Integer(1), "it is in use there");
    let pid = rustix::process::Pid::from_child(&follower);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert!(follower.wait().expect("it ends").success());
}

#[test]
fn sessions_move_to_a_server_with_tls_whose_certificate_is_trusted() {
    let server = Server::start(&[]);
    filled(&server);
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(file("cert"), made.cert.pem()).expect("it can be written");
    std::fs::write(file("key"), made.signing_key.serialize_pem()).expect("it can be written");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let port = free.expect("a port is free").port().to_string();
    let (cert, key) = (file("cert"), file("key"));
    let tls = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let others = ["--tls-ca-cert-file", &cert, "--tls-auth-clients", "no"];
    let Some(redis) = Redis::start(&[tls.as_slice(), &others].concat()) else { return };
    let url = format!("rediss://localhost:{port}");
    let (done, text) = migrate(&server, &url, &["--app", "shop"]);
    assert!(!done && text.contains("invalid peer certificate"), "{text}");
    let (done, text) = migrate(&server, &url, &["--app", "shop", "--ca-file", &cert]);
    assert!(done && text.contains(&format!("504 copied to {url}")), "{text}");
    assert_eq!(redis.client().say("get sess:7"), bulk("{\"user\":7}"));
    // A certificate is for a name.
    let other = url.replace("localhost", "127.0.0.1");
    let (done, text) = migrate(&server, &other, &["--app", "shop", "--ca-file", &cert]);
    assert!(!done && text.contains("invalid peer certificate"), "{text}");
}

#[test]
fn sessions_move_to_a_cluster_each_to_the_server_that_has_its_slot() {
    let server = Server::start(&[]);
    let mut shop = filled(&server);
    let Some(first) = Redis::start(&["--cluster-enabled", "yes"]) else { return };
    let Some(second) = Redis::start(&["--cluster-enabled", "yes"]) else { return };
    let (mut one, mut two) = (first.client(), second.client());
    let place = second.tcp_url().replace("redis://127.0.0.1:", "");
    one.say("cluster addslotsrange 0 8000");
    two.say("cluster addslotsrange 8001 16383");
    let url = first.tcp_url().replace("redis", "redis+cluster");
    let (done, text) = migrate(&server, &url, &["--app", "shop"]);
    assert!(!done && text.contains("no server of the cluster has slot 8001"), "{text}");
    one.say(&format!("cluster meet 127.0.0.1 {place}"));
    eventually("they are one cluster", || {
        [&mut one, &mut two].into_iter().all(|node| {
            matches!(node.say("cluster info"), Value::Bulk(text)
                if text.starts_with(b"cluster_state:ok"))
        })
    });
    let (done, text) = migrate(&server, &url, &["--app", "shop"]);
    assert!(done && text.contains("504 copied"), "{text}");
    let mut sizes = [&mut one, &mut two].map(|node| match node.say("dbsize") {
        Value::Integer(keys) => keys,
        other => panic!("{other:?}"),
    });
    sizes.sort_unstable();
    assert!(sizes[0] > 100 && sizes.iter().sum::<i64>() == 504, "{sizes:?}");
    // Again, after both sides were used; and what is gone here goes there.
    shop.say("set sess:1 newer ex 9000");
    let (done, text) = migrate(&server, &url, &["--app", "shop"]);
    assert!(done, "{text}");
    let there = |node: &mut Client| node.say("get sess:1");
    assert!([there(&mut one), there(&mut two)].contains(&bulk("newer")));
    // A server that is in no cluster says so.
    let Some(alone) = Redis::start(&[]) else { return };
    let url = alone.tcp_url().replace("redis", "redis+cluster");
    let (done, text) = migrate(&server, &url, &["--app", "shop"]);
    assert!(!done && text.contains("cluster support disabled"), "{text}");
}

#[test]
fn what_cannot_be_reached_is_said_clearly() {
    let server = Server::start(&[]);
    let mut shop = server.client();
    shop.say("auth shop any");
    shop.say("set a 1");
    let Some(redis) = Redis::start(&["--requirepass", "secret"]) else { return };
    let url = redis.tcp_url();
    let (done, text) = migrate(&server, &url, &[]);
    assert!(
        !done && text.contains("does not let us in: NOAUTH") && text.contains("--password-file"),
        "{text}"
    );
    let with = url.replace("redis://", "redis://:wrong@");
    let (done, text) = migrate(&server, &with, &[]);
    assert!(!done && text.contains("WRONGPASS") && !text.contains("wrong@"), "{text}");
    let file = server.directory.path().join("password");
    write_secret(&file, "secret\n");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("ours");
    let (done, text) = migrate(&server, &url, &["--password-file", path(&file)]);
    assert!(!done && text.contains("others may read it"), "{text}");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("ours");
    let (done, text) = migrate(&server, &url, &["--password-file", path(&file)]);
    assert!(done && text.contains("1 copied"), "{text}");
    let mut there = redis.client();
    assert_eq!(there.say("auth secret"), ok());
    assert_eq!(there.say("get a"), bulk("1"));
    for (to, expected) in [
        ("rediss://127.0.0.1:1", "onnection refused"),
        ("mongodb://127.0.0.1/x", "MongoDB"),
        ("redis+cluster://127.0.0.1/1", "database 0 alone"),
        ("redis://127.0.0.1:1", "onnection refused"),
        ("redis://127.0.0.1:1/100000000000", "database"),
        ("shop", "no scheme"),
    ] {
        let (done, text) = migrate(&server, to, &[]);
        assert!(!done && text.contains(expected), "{to}: {text}");
    }
    let (done, text) = tool(&["stats", "--socket", "/nonexistent"]);
    assert!(!done && text.contains("is roundsman-session.socket started?"), "{text}");
}
