//! Plain forwarding: what arrives at a server and what comes back.

use super::support::{Backend, Proxy, Wire, get, ok};

#[test]
fn a_kept_alive_client_is_served_over_one_server_connection() {
    let backend = Backend::named("hello");
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    for number in 0..20 {
        let response = client.get(&format!("/{number}"));
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert_eq!(response.one("connection"), None);
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.requests().len(), 20);
    assert_eq!(proxy.totals().requests, 20);
}

#[test]
fn servers_take_turns() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let proxy = Proxy::over(&[&a, &b]);
    let mut client = proxy.connect();
    let answers: Vec<_> = (0..10).map(|_| client.get("/").text().to_owned()).collect();
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "{answers:?}");
}

#[test]
fn a_server_is_told_where_the_request_comes_from() {
    let backend = Backend::named("x");
    let proxy = Proxy::over(&[&backend]);
    proxy.ask(
        "GET /a?b HTTP/1.1\r\nHost: a.example:81\r\nX-Forwarded-For: 6.6.6.6\r\n\
        Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-A: kept\r\n\r\n",
    );
    let request = &backend.requests()[0];
    assert_eq!(request.start, "GET /a?b HTTP/1.1");
    assert_eq!(request.one("host"), Some("a.example:81"));
    assert_eq!(request.one("x-a"), Some("kept"));
    assert_eq!(request.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.one("x-forwarded-proto"), Some("http"));
    assert_eq!(request.one("x-forwarded-host"), Some("a.example:81"));
    assert_eq!(request.one("x-forwarded-port"), Some(&*proxy.address.port().to_string()));
    let forwarded = "for=127.0.0.1;host=\"a.example:81\";proto=http";
    assert_eq!(request.one("forwarded"), Some(forwarded));
    assert_eq!(request.one("via"), Some("1.1 roundsman"));
    assert_eq!(request.one("x-real-ip"), None);
    assert_eq!(request.one("connection"), None);
}

#[test]
fn a_trusted_proxys_word_is_kept_and_added_to() {
    let backend = Backend::named("x");
    let proxy = Proxy::with(&[&backend], |s| {
        s.front.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    proxy.ask(
        "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\n\
        X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\n\
        Connection: X-Forwarded-For\r\nX_Forwarded_For: 8.8.8.8\r\n\r\n",
    );
    let request = &backend.requests()[0];
    assert_eq!(request.one("x-forwarded-for"), Some("6.6.6.6, 7.7.7.7, 127.0.0.1"));
    assert_eq!(request.one("x-forwarded-proto"), Some("https"));
    let forwarded = "for=6.6.6.6, for=127.0.0.1;host=a.example;proto=http";
    assert_eq!(request.one("forwarded"), Some(forwarded));
    assert_eq!(request.one("x_forwarded_for"), None);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::new(|request| ok(request.target()));
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send((0..50).map(|n| get(&format!("/{n}"))).collect::<String>());
    for number in 0..50 {
        assert_eq!(client.final_response("GET").unwrap().text(), format!("/{number}"));
    }
}
