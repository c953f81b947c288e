//! Plain forwarding: what arrives at a server and what comes back.

use roundsman::config::settings::{Address, HostPattern, ServerOptions, UpstreamServer};

use super::support::{Backend, Proxy, Wire, add, get, ok, until_reused};

#[test]
fn a_kept_alive_client_is_served_over_kept_connections() {
    let backend = Backend::named("hello");
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    let mut number = 0;
    until_reused(&backend, || {
        let response = client.get(&format!("/{number}"));
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert_eq!(response.one("connection"), None);
        number += 1;
    });
    assert_eq!(backend.requests().len(), number);
    assert_eq!(proxy.totals().requests, number as u64);
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
fn routes_are_found_by_what_servers_take_a_path_for() {
    let (site, admin) = (Backend::new(|r| ok(r.target())), Backend::named("admin"));
    let front = |passes: bool| {
        Proxy::with(&[&site], |settings| {
            settings.front.pass_ambiguous_paths = passes;
            let address = Address::Tcp(admin.address);
            let server = UpstreamServer { address, options: ServerOptions::default() };
            add(settings, "admin", vec![server], HostPattern::Any, "/admin");
        })
    };
    let proxy = front(false);
    for path in ["/admin", "/%61dmin", "//admin", "/%41dmin/../admin", "/ad%6Din/x?y"] {
        let response = proxy.ask(get(path));
        let expected = if path.contains("..") { 400 } else { 200 };
        assert_eq!(response.status(), expected, "{path}");
        assert!(expected == 400 || response.text() == "admin", "{path}");
    }
    assert!(admin.requests().iter().any(|r| r.target() == "/%61dmin"), "it goes on as it came");
    let ambiguous = ["/x/..%2fadmin", "/x/..;/admin", "/a%5cb", "/a%00", "/@scope%2Fname"];
    for path in ambiguous {
        assert_eq!(proxy.ask(get(path)).status(), 400, "{path}");
    }
    let passes = front(true);
    for path in ambiguous {
        assert_eq!(passes.ask(get(path)).text(), path);
    }
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

/// Node answers 400 to a length with a tab behind it, which others may send (found by `differential`).
#[test]
fn a_length_arrives_as_everybody_reads_it() {
    let backend = Backend::named("ok");
    let proxy = Proxy::over(&[&backend]);
    for length in ["5\t", "5 \t", "05", "5"] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(proxy.ask(format!("{head}hello")).text(), "ok");
    }
    let arrived = String::from_utf8(backend.raw_bytes().concat()).unwrap();
    assert_eq!(arrived.matches("\r\nContent-Length: 5\r\n").count(), 4, "{arrived}");
}

#[test]
fn later_versions_of_http_1_are_served_as_1_1() {
    let backend = Backend::named("ok");
    let proxy = Proxy::over(&[&backend]);
    for (line, status) in
        [("GET /a HTTP/1.2", 200), ("GET /a HTTP/2.0", 505), ("GET /a b HTTP/1.2", 400)]
    {
        assert_eq!(proxy.ask(format!("{line}\r\nHost: a\r\n\r\n")).status(), status, "{line}");
    }
    assert_eq!(backend.requests()[0].start, "GET /a HTTP/1.1");
}

#[test]
fn who_asks_for_the_way_gets_an_answer_of_each_stop() {
    let backend = Backend::named("server");
    let proxy = Proxy::over(&[&backend]);
    let ask = |method: &str, fields: &str| {
        proxy.ask(format!("{method} /way HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    };
    let options = ask("OPTIONS", "Max-Forwards: 0\r\n");
    assert_eq!((options.status(), options.text()), (200, ""));
    let trace = ask("TRACE", "Max-Forwards: 0\r\nCookie: a=b\r\nauthorization: c\r\nX-D: e\r\n");
    assert_eq!((trace.status(), trace.one("content-type")), (200, Some("message/http")));
    assert!(trace.text().starts_with("TRACE /way HTTP/1.1\r\nHost: a\r\nX-D: e\r\n"), "{trace:?}");
    assert_eq!(backend.requests().len(), 0);
    assert_eq!(ask("OPTIONS", "Max-Forwards: one\r\n").status(), 400);
    assert_eq!(ask("OPTIONS", "Max-Forwards: 1\r\nMax-Forwards: 2\r\n").status(), 400);
    for (method, sent, passed) in [
        ("OPTIONS", "Max-Forwards: 5", Some("4")),
        ("TRACE", "max-forwards: 1", Some("0")),
        ("OPTIONS", "X: y", None),
        ("GET", "Max-Forwards: 0", Some("0")),
    ] {
        assert_eq!(ask(method, &format!("{sent}\r\n")).text(), "server");
        let request = backend.requests().pop().unwrap();
        assert_eq!(request.one("max-forwards"), passed, "{method} {sent}");
    }
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
