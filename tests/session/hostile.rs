//! Clients that do what they should not: the others must not notice, and memory must not grow.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::session::client::{Value, bulk, encode, ok};
use crate::session::server::{Server, eventually};

const MIB: usize = 1024 * 1024;

#[test]
fn ten_thousand_requests_at_once_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for number in 0..10_000 {
        encode(&mut bytes, &["set".to_owned(), format!("k{number}"), number.to_string()]);
        encode(&mut bytes, &["get".to_owned(), format!("k{number}")]);
    }
    let mut writer = client.stream().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || writer.write_all(&bytes));
    for number in 0..10_000 {
        assert_eq!(client.receive().expect("a reply"), ok());
        assert_eq!(client.receive().expect("a reply"), bulk(&number.to_string()));
    }
    sender.join().expect("no panic").expect("all was sent");
}

#[test]
fn a_client_that_never_reads_stops_being_read_from() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.say(&format!("set big {}", "x".repeat(MIB)));
    let before = server.memory();
    let deaf = server.client();
    deaf.stream().set_nonblocking(true).expect("a mode");
    let mut request = Vec::new();
    encode(&mut request, &["get", "big"]);
    // Until its requests are not taken any more.
    let mut sent = 0;
    while sent < 64 * MIB {
        match deaf.stream().write(&request) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 64 * MIB, "everything was taken");
    assert_eq!(client.say("ping"), Value::Simple("PONG".to_owned()));
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 32 * MIB, "memory grew by {grown}");
}

#[test]
fn a_length_is_only_a_promise() {
    let server = Server::start(&[]);
    let before = server.memory();
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let client = server.client();
            client.stream().write_all(b"*1048576\r\n$33554432\r\nonly this").expect("it is taken");
            client
        })
        .collect();
    assert_eq!(server.client().say("ping"), Value::Simple("PONG".to_owned()));
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64 * MIB, "100 promises cost {grown}");
    drop(clients);
}

#[test]
fn large_requests_of_many_clients_are_bounded_together() {
    let server = Server::start(&[]);
    let before = server.memory();
    let piece = vec![b'x'; MIB];
    let mut refused = 0;
    let mut clients = Vec::new();
    for _ in 0..24 {
        let client = server.client();
        let mut stream = client.stream();
        let sent = stream.write_all(b"*2\r\n$4\r\necho\r\n$33554432\r\n").is_ok()
            && (0..31).all(|_| stream.write_all(&piece).is_ok());
        refused += usize::from(!sent);
        clients.push(client);
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 400 * MIB, "memory grew by {grown}");
    assert!(refused > 0, "744 MiB were taken");
    let mut small = server.client();
    assert_eq!(small.say("set a 1"), ok(), "small requests always fit");
    drop(clients);
    eventually("the room is given back", || {
        let mut client = server.client();
        let big = "y".repeat(8 * MIB);
        client.call(&["echo", &big]).is_ok_and(|reply| reply == bulk(&big))
    });
}

#[test]
fn a_reply_beyond_all_measure_ends_the_connection() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.say(&format!("set big {}", "x".repeat(MIB)));
    let mut words = vec!["mget"];
    words.extend(std::iter::repeat_n("big", 2000));
    let Value::Error(text) = client.call(&words).expect("a reply") else { panic!("not refused") };
    assert!(text.contains("too large"), "{text}");
    assert!(client.call(&["ping"]).is_err(), "it is closed");
    assert_eq!(server.client().say("exists big"), Value::Integer(1));
}

#[test]
fn a_half_closed_client_gets_all_its_replies() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        encode(&mut bytes, &["incr", "n"]);
    }
    client.stream().write_all(&bytes).expect("it is taken");
    client.stream().shutdown(Shutdown::Write).expect("half of it closes");
    for number in 1..=1000 {
        assert_eq!(client.receive().expect("a reply"), Value::Integer(number));
    }
    assert!(client.receive().is_err(), "then it is closed");
}

#[test]
fn what_is_no_protocol_gets_an_error_and_the_end() {
    let server = Server::start(&[]);
    for (bytes, expected) in [
        (&b"*-x\r\n"[..], "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1\r\n!3\r\nget\r\n", "expected '$', got '!'"),
        (b"*1\r\n$-3\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
        (b"get \"a\r\n", "unbalanced quotes"),
    ] {
        let mut client = server.client();
        client.stream().write_all(bytes).expect("it is taken");
        let Value::Error(text) = client.receive().expect("a reply") else { panic!("no error") };
        assert!(text.contains(expected), "{text}");
        let mut rest = Vec::new();
        client.stream().read_to_end(&mut rest).expect("the end");
        assert!(rest.is_empty(), "{rest:?}");
    }
    let mut client = server.client();
    client.stream().write_all(b"SET inline 'a b'\r\n\r\nget inline\n").expect("it is taken");
    assert_eq!(client.receive().expect("a reply"), ok());
    assert_eq!(client.receive().expect("a reply"), bulk("a b"));
}

/// Transactions of tiny requests: what they take is counted as it is, so that all clients together
/// stay within their bound.
#[test]
fn transactions_of_many_tiny_requests_are_bounded_together() {
    let server = Server::start(&[]);
    let before = server.memory();
    let tiny = b"*1\r\n$4\r\nPING\r\n".repeat(4096);
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = server.client();
        assert_eq!(client.say("multi"), ok());
        let mut writer = client.stream().try_clone().expect("a second handle");
        let tiny = tiny.clone();
        // Until it is refused, or its connection ends.
        std::thread::spawn(move || while writer.write_all(&tiny).is_ok() {});
        let end = loop {
            match client.receive() {
                Ok(Value::Simple(_)) => {}
                other => break other,
            }
        };
        if let Ok(Value::Error(text)) = &end {
            assert!(text.contains("larger than") || text.contains("too large"), "{text}");
        }
        let _ = client.stream().shutdown(Shutdown::Write);
        clients.push(client);
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 400 * MIB, "memory grew by {grown}");
    assert_eq!(server.client().say("set a 1"), ok());
}

/// Nobody else is served while a request is carried out, however many sets one names.
#[test]
fn sets_are_combined_within_bounds() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for chunk in 0..100 {
        let members: Vec<String> = (0..1000).map(|n| format!("{}", chunk * 1000 + n)).collect();
        client.say(&format!("sadd set0 {}", members.join(" ")));
    }
    for number in 1..=10 {
        assert_eq!(client.say(&format!("copy set0 set{number}")), Value::Integer(1));
    }
    let names = |count| (0..count).map(|n| format!("set{n}")).collect::<Vec<_>>().join(" ");
    assert_eq!(client.say(&format!("sintercard 2 {}", names(2))), Value::Integer(100_000));
    for request in ["sintercard 11", "sunionstore to"] {
        let reply = client.say(&format!("{request} {}", names(11)));
        let Value::Error(text) = reply else { panic!("{request} was carried out") };
        assert!(text.contains("takes too long") && text.contains("1000000 elements"), "{text}");
    }
    assert_eq!(client.say("exists to"), Value::Integer(0));
    let reply = client.say("srandmember set0 -5000001");
    assert!(matches!(&reply, Value::Error(text) if text.contains("5000000 elements")), "{reply:?}");
}

/// Nobody else is served while a transaction is carried out: it has no more than one request, and of one
/// that makes gigabytes out of a few bytes the rest is not carried out.
#[test]
fn a_transaction_is_carried_out_within_bounds() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for chunk in 0..100 {
        let members: Vec<String> = (0..1000).map(|n| format!("{}", chunk * 1000 + n)).collect();
        client.say(&format!("sadd large {}", members.join(" ")));
    }
    client.say("sunionstore other large");
    let mut exec = |request: &dyn Fn(usize) -> String, count: usize| -> Vec<Value> {
        assert_eq!(client.say("multi"), ok());
        for number in 0..count {
            assert_eq!(client.say(&request(number)), Value::Simple("QUEUED".to_owned()));
        }
        let Value::Array(replies) = client.say("exec") else { panic!("no array") };
        assert_eq!(replies.len(), count);
        replies
    };
    let is_refused =
        |reply: &Value| matches!(reply, Value::Error(text) if text.contains("was not carried out"));

    let replies = exec(&|_| "sintercard 2 large other".to_owned(), 3000);
    let done = replies.iter().take_while(|reply| **reply == Value::Integer(100_000)).count();
    assert!((1..=5).contains(&done), "{done} looked at 200000 members each");
    assert!(matches!(&replies[done], Value::Error(_)), "{:?}", replies[done]);
    assert!(replies[done + 1..].iter().all(is_refused), "nothing is carried out behind a gap");

    let before = server.memory();
    let replies = exec(&|number| format!("setrange key{number} 33554430 x"), 20);
    assert_eq!(replies[0], Value::Integer(33_554_431));
    assert!(is_refused(&replies[19]), "{:?}", replies[19]);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 600 * MIB, "memory grew by {grown}");
    assert_eq!(server.client().say("exists key0 key19"), Value::Integer(1));
}

/// A long name and a pattern that fits it nearly everywhere would take minutes, on the one thread.
#[test]
fn patterns_are_compared_within_bounds() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let name = "a".repeat(MIB);
    assert_eq!(client.say(&format!("set {name} x")), ok());
    assert_eq!(client.say(&format!("sadd set {name}")), Value::Integer(1));
    let nearly = format!("*{}b", "a".repeat(2000));
    for request in [format!("keys {nearly}"), format!("sscan set 0 match {nearly}")] {
        let Value::Error(text) = client.say(&request) else { panic!("it was carried out") };
        assert!(text.contains("takes too long"), "{text}");
    }
    for request in ["keys", "sscan set 0 match", "config get", "command list filterby pattern"] {
        let Value::Error(text) = client.say(&format!("{request} {name}")) else {
            panic!("{request} was carried out")
        };
        assert!(text.contains("too long"), "{request}: {text}");
    }
    assert_eq!(client.say("scan 0 match se*"), client.say("scan 0 match s[a-f]t count 100"));
}

/// Replies that wait for a client to take them are counted too.
#[test]
fn replies_that_nobody_takes_are_bounded_together() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.say(&format!("set big {}", "x".repeat(MIB)));
    let before = server.memory();
    let mut request = Vec::new();
    let mut words = vec!["mget"];
    words.extend(std::iter::repeat_n("big", 100));
    encode(&mut request, &words);
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let client = server.client();
            client.stream().write_all(&request).expect("it is taken");
            client
        })
        .collect();
    // Each has an answer, whatever it is, and takes no more than its begin.
    for client in &deaf {
        let _ = client.stream().read(&mut [0; 100]);
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 400 * MIB, "memory grew by {grown}");
    drop(deaf);
}

/// A web page that has a browser send a form to the store, with commands in its body: nothing of it
/// may be carried out.
#[test]
fn an_http_request_is_no_request() {
    for head in [
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "post / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "PUT /x HTTP/1.1\r\nAccept: */*\r\nHOST: 127.0.0.1\r\n\r\n",
        "GET / HTTP/1.0\r\nAccept: */*\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nX: y\r\n\r\n",
        "nonsense\r\nhost: x\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let server = Server::start(&[]);
        let client = server.client();
        let body = format!("{head}set a of-a-browser\r\n*3\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\nx\r\n");
        client.stream().write_all(body.as_bytes()).expect("it is taken");
        let mut rest = Vec::new();
        let _ = client.stream().read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("+OK"), "{head:?}");
        assert_eq!(server.client().say("exists a"), Value::Integer(0), "{head:?}");
        eventually("the log says so", || {
            let log = server.log();
            log.contains("WARN") && log.contains("HTTP")
        });
    }
}
