//! Requests over HTTP/2 to HTTP/1.1 servers.

use bytes::Bytes;
use http::{HeaderMap, Request};

use super::support::{Client, get, post, proxy, proxy_with, run, send_all, whole};
use crate::http::support::{Backend, Wire, eventually, get as http1, ok};

#[test]
fn many_requests_at_once_over_one_connection() {
    let backend = Backend::new(|request| ok(request.target()));
    let proxy = proxy(&[&backend]);
    run(async {
        let client = Client::connect(&proxy).await;
        let mut responses = Vec::new();
        for number in 0..100 {
            responses.push((number, client.begin(get(&format!("/{number}")), true).await.0));
        }
        for (number, response) in responses {
            let response = whole(response).await.unwrap();
            assert_eq!(response.status, 200);
            assert_eq!(response.body, format!("/{number}").as_bytes());
            assert_eq!(response.fields["content-length"], response.body.len().to_string());
        }
    });
    assert_eq!(proxy.totals().requests, 100);
    assert_eq!(proxy.totals().accepted, 1);
    eventually("nothing is in flight", || proxy.in_flight() == 0);
}

#[test]
fn http1_is_still_spoken_on_the_same_listener_and_http2_only_where_it_is_wanted() {
    let backend = Backend::named("hello");
    let both = proxy(&[&backend]);
    let mut client = both.connect();
    assert_eq!((client.get("/").status(), client.get("/").status()), (200, 200));
    // A method that begins as the preface does.
    assert_eq!(both.ask("PRIX / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    assert_eq!(both.ask("PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n").status(), 505);

    let plain = crate::http::support::Proxy::over(&[&backend]);
    assert_eq!(plain.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
}

#[test]
fn a_server_sees_the_request_that_was_meant() {
    let backend = Backend::named("x");
    let proxy = proxy(&[&backend]);
    run(async {
        let client = Client::connect(&proxy).await;
        let request = Request::get("http://a.example:81/a?b=c")
            .header("cookie", "a=1")
            .header("cookie", "b=2; c=3")
            .header("x-a", "kept")
            .header("x-a", "twice")
            .header("x-forwarded-for", "6.6.6.6")
            .header("host", "A.example:81")
            .header("te", "trailers")
            .body(())
            .unwrap();
        assert_eq!(whole(client.begin(request, true).await.0).await.unwrap().status, 200);
    });
    let request = &backend.requests()[0];
    assert_eq!(request.start, "GET /a?b=c HTTP/1.1");
    assert_eq!(request.one("host"), Some("a.example:81"));
    assert_eq!(request.one("cookie"), Some("a=1; b=2; c=3"));
    assert_eq!(request.all("x-a"), ["kept", "twice"]);
    assert_eq!(request.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.one("x-forwarded-host"), Some("a.example:81"));
    assert_eq!(request.one("via"), Some("2 roundsman"));
    assert_eq!(request.one("te"), Some("trailers"));
    assert_eq!(request.one("transfer-encoding"), None);
    assert_eq!(request.one("content-length"), None);
}

#[test]
fn ambiguous_and_malformed_requests_reach_no_server() {
    let backend = Backend::named("x");
    let proxy = proxy_with(&[&backend], |s| s.front.limits.headers = 20);
    run(async {
        let client = Client::connect(&proxy).await;
        let mut many = Request::get("http://a.example/");
        for number in 0..20 {
            many = many.header(format!("x-{number}"), "x");
        }
        let uri = |uri: &str| Request::get(uri).header("x", "y");
        for (request, status) in [
            (uri("http://a.example/").header("host", "b.example"), 400),
            (uri("http://a.example/").header("host", "a.example").header("host", "a.example"), 400),
            (uri("http://a@b.example/"), 400),
            (uri("http://a.example/a/../b"), 400),
            (uri("http://a.example/%zz"), 400),
            (uri("http://a.example/").header("expect", "the worst"), 417),
            (uri("ftp://a.example/"), 400),
            (many, 431),
        ] {
            let request = request.body(()).unwrap();
            let shown = format!("{request:?}");
            let response = whole(client.begin(request, true).await.0).await.unwrap();
            assert_eq!(response.status, status, "{shown}");
            assert!(response.fields.contains_key("x-request-id"));
        }
        let connect = Request::connect("a.example:80").body(()).unwrap();
        assert_eq!(whole(client.begin(connect, true).await.0).await.unwrap().status, 405);
        assert_eq!(client.get("/").await.unwrap().status, 200, "the connection is as good as new");
    });
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn bodies_stream_both_ways_with_trailers() {
    let backend = Backend::raw(|peer| {
        while let Some(request) = peer.request() {
            let size = request.body.len();
            let digest: u64 = request.body.iter().map(|b| u64::from(*b)).sum();
            let trailer = request.trailers.iter().map(|(_, v)| v.as_str()).collect::<String>();
            let coding = request.one("transfer-encoding").unwrap_or("none").to_owned();
            let body = format!("{size} {digest} {coding} {trailer}");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n\
                 {:x}\r\n{body}\r\n0\r\nX-End: yes\r\n\r\n",
                body.len()
            );
            peer.send(answer.as_bytes()).unwrap();
        }
    });
    let proxy = proxy(&[&backend]);
    run(async {
        let client = Client::connect(&proxy).await;
        let data = Bytes::from(vec![7_u8; 3_000_000]);
        // Without a length, and with trailers.
        let (response, mut body) = client.begin(post("/"), false).await;
        send_all(&mut body, data.clone(), false).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "last".parse().unwrap());
        trailers.insert("content-length", "1".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        let response = whole(response).await.unwrap();
        assert_eq!(response.body, b"3000000 21000000 chunked last");
        assert_eq!(response.trailers.unwrap()["x-end"], "yes");
        assert!(!response.fields.contains_key("transfer-encoding"));
        // With one.
        let mut request = post("/");
        request.headers_mut().insert("content-length", "3000000".parse().unwrap());
        let (response, mut body) = client.begin(request, false).await;
        send_all(&mut body, data, true).await;
        assert_eq!(whole(response).await.unwrap().body, b"3000000 21000000 none ");
    });
}

#[test]
fn a_large_response_comes_whole_to_a_client_with_a_small_window() {
    let backend = Backend::new(|_| ok(&"0123456789abcdef".repeat(100_000)));
    let proxy = proxy(&[&backend]);
    run(async {
        let mut small = h2::client::Builder::new();
        small.initial_window_size(1000).initial_connection_window_size(70_000);
        let client = Client::with(&proxy, &mut small).await;
        let (a, b) = tokio::join!(client.get("/a"), client.get("/b"));
        for response in [a.unwrap(), b.unwrap()] {
            assert_eq!(response.body.len(), 1_600_000);
            assert!(response.body.chunks(16).all(|part| part == b"0123456789abcdef"));
        }
    });
}

#[test]
fn responses_without_a_body_have_none() {
    let backend = Backend::new(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n".to_vec(),
        "/empty" => ok(""),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(), // to HEAD
    });
    let proxy = proxy(&[&backend]);
    run(async {
        let client = Client::connect(&proxy).await;
        for (path, status) in [("/204", 204), ("/304", 304), ("/empty", 200)] {
            let response = client.get(path).await.unwrap();
            assert_eq!((response.status, response.body.len()), (status, 0), "{path}");
        }
        let head = Request::head("http://a.example/").body(()).unwrap();
        let response = whole(client.begin(head, true).await.0).await.unwrap();
        assert_eq!(response.fields["content-length"], "5");
        assert_eq!(response.body, b"");
    });
}

#[test]
fn hop_by_hop_fields_of_a_server_do_not_reach_a_client() {
    let backend = Backend::new(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
          Proxy-Connection: x\r\nUpgrade: h2c\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let proxy = proxy(&[&backend]);
    let fields = run(async { Client::connect(&proxy).await.get("/").await.unwrap().fields });
    let mut names: Vec<_> = fields.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-kept"]);
}

#[test]
fn interim_responses_and_early_answers_come_through() {
    let backend = Backend::raw(|peer| {
        while let Some(head) = peer.head() {
            if head.target() == "/refused" {
                peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
                return peer.wait_for_end();
            }
            if head.one("expect").is_some() {
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                while !peer.reader.buffer.ends_with(b"\r\n0\r\n\r\n") {
                    assert!(peer.reader.fill().unwrap());
                }
                return drop(peer.send(&ok("done")));
            }
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").unwrap();
            peer.send(&ok("done")).unwrap();
        }
    });
    let proxy = proxy(&[&backend]);
    run(async {
        let client = Client::connect(&proxy).await;
        let (mut response, _) = client.begin(get("/"), true).await;
        let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let hint = hint.unwrap().unwrap();
        assert_eq!(
            (hint.status().as_u16(), &hint.headers()["link"]),
            (103, &"</a>".parse().unwrap())
        );
        assert_eq!(whole(response).await.unwrap().body, b"done");

        // Refused in the middle of an upload: the answer counts, and the rest is not wanted.
        let (response, mut body) = client.begin(post("/refused"), false).await;
        body.send_data(Bytes::from_static(b"some"), false).unwrap();
        let response = whole(response).await.unwrap();
        assert_eq!((response.status, &*response.body), (403, &b"no"[..]));
        let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, h2::Reason::NO_ERROR);

        let mut expecting = post("/expect");
        expecting.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let (mut response, mut body) = client.begin(expecting, false).await;
        let go = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(go.unwrap().unwrap().status().as_u16(), 100);
        body.send_data(Bytes::from_static(b"body"), true).unwrap();
        assert_eq!(whole(response).await.unwrap().status, 200);
    });
}

#[test]
fn what_the_front_answers_itself_and_what_breaks() {
    let backend =
        Backend::raw(|peer| {
            let Some(request) = peer.request() else { return };
            match request.target() {
                "/garbage" => drop(peer.send(b"SSH-2.0-x\r\n")),
                "/cut" => drop(peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")),
                "/cut-chunks" => {
                    drop(peer.send(
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                    ));
                }
                _ => drop(peer.send(&ok("fine"))),
            }
        });
    let proxy = proxy_with(&[&backend], |s| {
        s.front.limits.body = Some(10);
        s.routes[0].path = "/".into();
    });
    run(async {
        let client = Client::connect(&proxy).await;
        assert_eq!(client.get("/garbage").await.unwrap().status, 502);
        for path in ["/cut", "/cut-chunks"] {
            let error = client.get(path).await.unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{path}");
        }
        let (response, mut body) = client.begin(post("/large"), false).await;
        body.send_data(Bytes::from_static(b"more than ten bytes"), true).unwrap();
        let response = whole(response).await.unwrap();
        assert_eq!(response.status, 413);
        assert!(String::from_utf8_lossy(&response.body).contains("too large"));
        assert_eq!(client.get("/").await.unwrap().body, b"fine");
    });
    // The same over HTTP/1.1 still works.
    assert_eq!(proxy.ask(http1("/")).status(), 200);
}
