//! Time and size limits, each with its status and its own reason.

use std::time::Duration;

use roundsman::config::Settings;
use roundsman::config::settings::PerClient;
use roundsman::front::Reason;

use super::support::{Backend, Proxy, Wire, eventually, get, ok};

const SHORT: Duration = Duration::from_millis(200);

/// Sends this, and expects that status, the end of the connection, and that reason counted.
fn refused(backend: &Backend, change: impl FnOnce(&mut Settings), raw: &str, reason: Reason) {
    let proxy = Proxy::with(&[backend], change);
    let mut client = proxy.send(raw);
    let response = client.final_response("GET").unwrap();
    assert_eq!(response.status(), reason.status(), "{response:?}");
    assert_eq!(response.one("connection"), Some("close"));
    assert!(client.is_closed());
    assert_eq!(proxy.totals().of(reason), 1, "{:?}", proxy.totals());
}

#[test]
fn request_heads() {
    let ok = Backend::named("ok");
    let limits = |s: &mut Settings| {
        s.front.limits.header_bytes = 2000;
        s.front.limits.headers = 10;
        s.front.timeouts.client_header = SHORT;
    };
    let long = "a".repeat(3000);
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    refused(&ok, limits, &head(&format!("X: {long}\r\n")), Reason::HeadTooLarge);
    refused(&ok, limits, &head(&"X: 1\r\n".repeat(10)), Reason::TooManyFields);
    refused(&ok, limits, &format!("GET /{long}"), Reason::TargetTooLong);
    refused(&ok, limits, "GET / HTTP/1.1\r\nHos", Reason::HeadTimeout);
    assert!(ok.raw_bytes().concat().is_empty());
}

#[test]
fn a_head_may_not_be_dragged_out_byte_by_byte() {
    let ok = Backend::named("ok");
    let proxy = Proxy::with(&[&ok], |s| s.front.timeouts.client_header = SHORT);
    let mut client = proxy.connect();
    let mut feeder = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        while feeder.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(client.final_response("GET").unwrap().status(), 408);
}

#[test]
fn request_bodies() {
    let ok = Backend::named("ok");
    let limits = |s: &mut Settings| {
        s.front.limits.body = Some(100);
        s.front.timeouts.client_body = SHORT;
    };
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}");
    refused(&ok, limits, &post("Content-Length: 101\r\n\r\n"), Reason::BodyTooLarge);
    let large = format!("Transfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n", "x".repeat(101));
    refused(&ok, limits, &post(&large), Reason::BodyTooLarge);
    assert!(ok.raw_bytes().concat().is_empty());
    refused(&ok, limits, &post("Content-Length: 100\r\n\r\nx"), Reason::BodyTimeout);
    refused(&ok, limits, &post("Transfer-Encoding: chunked\r\n\r\n5\r\nhe"), Reason::BodyTimeout);
}

#[test]
fn a_body_may_not_come_too_slowly() {
    let ok = Backend::named("ok");
    let proxy = Proxy::with(&[&ok], |s| {
        s.front.timeouts.client_body = SHORT * 5;
        s.front.limits.body_rate = 1_000_000;
    });
    let mut client = proxy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let mut feeder = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        while feeder.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(client.final_response("GET").unwrap().status(), 408);
    assert_eq!(proxy.totals().of(Reason::BodyTimeout), 1);
}

#[test]
fn servers_that_take_too_long() {
    let silent = Backend::raw(|peer| {
        peer.request();
        peer.wait_for_end();
    });
    let proxy = Proxy::with(&[&silent], |s| s.front.timeouts.response_header = SHORT);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 504);
    assert_eq!(client.get("/").status(), 504, "the client's connection is as good as before");
    assert_eq!(proxy.totals().of(Reason::ResponseTimeout), 2);
    eventually("its connections are closed", || silent.open() == 0);

    let proxy = Proxy::with(&[&silent], |s| s.front.timeouts.request = Some(SHORT));
    assert_eq!(proxy.ask(get("/")).status(), 504);
    assert_eq!(proxy.totals().of(Reason::TotalTimeout), 1);

    let stuck = Backend::raw(|peer| {
        peer.request();
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        peer.wait_for_end();
    });
    let proxy = Proxy::with(&[&stuck], |s| s.front.timeouts.response_body = SHORT);
    assert!(proxy.send(get("/")).final_response("GET").is_err());
    eventually("it is counted", || proxy.totals().of(Reason::ResponseTimeout) == 1);
}

#[test]
fn idle_connections_end() {
    let backend = Backend::named("ok");
    let proxy = Proxy::with(&[&backend], |s| {
        s.front.timeouts.idle = SHORT;
        s.front.timeouts.upstream_idle = SHORT;
    });
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    assert!(client.is_closed());
    eventually("the server's connection ends", || backend.open() == 0);
}

#[test]
fn trailers_are_no_longer_than_heads() {
    let long = format!("5\r\nhello\r\n0\r\nX-T: {}\r\n\r\n", "x".repeat(40_000));
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{long}");
    let backend = Backend::new(move |request| {
        if request.target() == "/long" { answer.clone().into_bytes() } else { ok("ok") }
    });
    let proxy = Proxy::over(&[&backend]);
    let sent = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{long}");
    assert!((400..500).contains(&proxy.ask(sent).status()));
    assert_eq!(backend.requests().len(), 0);
    let mut client = proxy.send(get("/long"));
    assert!(client.final_response("GET").is_err(), "a response that was cut off looks whole");
}

#[test]
fn requests_on_one_connection() {
    let backend = Backend::named("ok");
    let proxy = Proxy::with(&[&backend], |s| s.front.limits.requests_per_connection = 2);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").one("connection"), None);
    assert_eq!(client.get("/").one("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn connections_of_one_client() {
    let backend = Backend::named("ok");
    let proxy =
        Proxy::with(&[&backend], |s| s.front.limits.connections_per_client = PerClient::AtMost(2));
    let (mut a, mut b) = (proxy.connect(), proxy.connect());
    assert_eq!((a.get("/").status(), b.get("/").status()), (200, 200));
    assert!(proxy.send(get("/")).is_closed());
    assert_eq!(proxy.totals().of(Reason::TooManyConnections), 1);
    drop(a);
    eventually("another one may come", || {
        let mut client = proxy.send(get("/"));
        client.final_response("GET").is_ok_and(|r| r.status() == 200)
    });
}

#[test]
fn connections_of_a_trusted_proxy_are_not_counted() {
    let backend = Backend::named("ok");
    let proxy = Proxy::with(&[&backend], |s| {
        s.front.limits.connections_per_client = PerClient::AtMost(2);
        s.front.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let mut clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    assert!(clients.iter_mut().all(|client| client.get("/").status() == 200));
}

#[test]
fn who_has_been_idle_for_a_while_makes_place() {
    let backend = Backend::named("ok");
    let proxy = Proxy::with(&[&backend], |s| s.front.limits.connections = 2);
    let mut idle: Vec<_> = (0..2).map(|_| proxy.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(proxy.ask(get("/")).status(), 200);
    assert!(idle.iter_mut().any(super::support::Reader::is_closed));
}

#[test]
fn connections_in_all_wait_in_the_backlog() {
    let backend = Backend::named("ok");
    let proxy = Proxy::with(&[&backend], |s| s.front.limits.connections = 1);
    let mut first = proxy.connect();
    assert_eq!(first.get("/").status(), 200);
    let mut second = proxy.send(get("/second"));
    assert_eq!(first.get("/").status(), 200);
    assert!(!backend.requests().iter().any(|r| r.target() == "/second"));
    drop(first);
    assert_eq!(second.final_response("GET").unwrap().status(), 200);
}

#[test]
fn response_heads() {
    let endless = Backend::new(|_| {
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(40_000)).into_bytes()
    });
    let proxy = Proxy::over(&[&endless]);
    assert_eq!(proxy.ask(get("/")).status(), 502);
    assert_eq!(proxy.totals().of(Reason::ResponseHeadTooLarge), 1);
    let large = Backend::new(|_| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "a".repeat(20_000)).into_bytes();
        answer.extend(ok("large").split_off(17));
        answer
    });
    let proxy = Proxy::over(&[&large]);
    assert_eq!(proxy.ask(get("/")).text(), "large");
}
