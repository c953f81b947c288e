//! Servers that speak HTTP/2: from either kind of client, with everything that gRPC needs.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use roundsman::front::Reason;

use super::support::{Client, Server, answer, get, post, run, send_all, whole};
use crate::http::support::{Wire as _, eventually, eventually_meanwhile, get as http1};

fn echo() -> Server {
    Server::new(|request, mut respond, _| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            send_all(&mut stream, data, false).await;
        }
        let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
}

#[test]
fn http1_clients_are_served_over_one_connection() {
    let server = Server::new(|request, respond, _| async move {
        answer(respond, &request.uri().path().repeat(2));
    });
    let proxy = server.proxy();
    let mut client = proxy.connect();
    for _ in 0..5 {
        let response = client.get("/x");
        assert_eq!((response.status(), response.text()), (200, "/x/x"));
    }
    let posted = proxy.ask("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(posted.text(), "/p/p");
    let asked = server.asked();
    assert!(asked.iter().all(|a| a.connection == 0));
    assert_eq!((asked[0].method.as_str(), asked[0].uri.as_str()), ("GET", "http://a.example/x"));
    let names: Vec<_> = asked[0].fields.keys().map(http::HeaderName::as_str).collect();
    assert!(!names.contains(&"host") && !names.contains(&"connection"), "{names:?}");
    assert_eq!(asked[0].fields["x-forwarded-for"], "127.0.0.1");
    assert_eq!(asked[5].fields["content-length"], "3");
    eventually("nothing is in flight", || proxy.in_flight() == 0);
}

#[test]
fn what_cannot_be_written_to_a_server_is_its_clients_fault() {
    let server = Server::new(|_, respond, _| async move { answer(respond, "ok") });
    let proxy = server.proxy();
    for _ in 0..5 {
        assert_eq!(proxy.connect().get("/a`b").status(), 400);
    }
    assert_eq!(proxy.connect().get("/").text(), "ok");
    assert_eq!(server.asked().len(), 1);
    assert_eq!((proxy.totals().retries, proxy.totals().of(Reason::ServerGone)), (0, 0));
    let snapshot = proxy.front.snapshot();
    assert!(snapshot.servers().all(|(_, server)| (server.requests(), server.failures()) == (1, 0)));
}

#[test]
fn a_conversation_goes_both_ways_at_once() {
    let proxy = echo().proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        let (response, mut body) = client.begin(post("/chat"), false).await;
        let mut answers = response.await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            body.send_data(Bytes::from_static(word.as_bytes()), false).unwrap();
            let data = answers.data().await.unwrap().unwrap();
            assert_eq!(data, word);
            answers.flow_control().release_capacity(data.len()).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "yes".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        assert!(answers.data().await.is_none());
        let trailers = answers.trailers().await.unwrap().unwrap();
        assert_eq!(
            (&trailers["x-end"], &trailers["grpc-status"]),
            (&"yes".parse().unwrap(), &"0".parse().unwrap())
        );
    });
}

#[test]
fn large_bodies_stream_through_with_flow_control() {
    let proxy = echo().proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        let data = Bytes::from((0..4_000_000_u32).map(|n| n as u8).collect::<Vec<_>>());
        let (response, mut body) = client.begin(post("/"), false).await;
        let send = async {
            send_all(&mut body, data.clone(), true).await;
        };
        let (response, ()) = tokio::join!(whole(response), send);
        assert!(response.unwrap().body == data, "the same bytes");
    });
    // And from a client of the other version, in chunks.
    let chunks = format!("3e8\r\n{}\r\n", "y".repeat(1000)).repeat(100);
    let response = proxy.ask(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\nX-T: 1\r\n\r\n"
    ));
    assert_eq!(response.body.len(), 100_000);
    assert!(response.trailers.contains(&("x-t".into(), "1".into())), "{:?}", response.trailers);
}

#[test]
fn a_response_of_trailers_only_stays_one() {
    let server = Server::new(|_, mut respond, _| async move {
        let response = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "12")
            .body(())
            .unwrap();
        respond.send_response(response, true).unwrap();
    });
    let proxy = server.proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        let (response, _) = client.begin(post("/"), true).await;
        let response = response.await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn interim_responses_and_head() {
    let server = Server::new(|request, mut respond, _| async move {
        let hint = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        respond.send_informational(hint).unwrap();
        if request.method() == http::Method::HEAD {
            let head = Response::builder().header("content-length", "7").body(()).unwrap();
            respond.send_response(head, true).unwrap();
        } else {
            answer(respond, "done");
        }
    });
    let proxy = server.proxy();
    let mut client = proxy.send(http1("/"));
    assert_eq!(client.response("GET").unwrap().status(), 103);
    assert_eq!(client.response("GET").unwrap().text(), "done");
    let head = proxy.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.one("content-length"), Some("7"));
}

#[test]
fn what_a_server_did_not_begin_with_is_sent_again_whatever_it_is() {
    let refusing = Server::new(|_, mut respond, _| async move {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    });
    let serving = Server::new(|_, respond, _| async move { answer(respond, "served") });
    let mut settings = crate::http::support::settings(&[refusing.backend, serving.backend]);
    super::support::take_http2(&mut settings);
    super::support::speak_http2(&mut settings);
    let proxy = crate::http::support::Proxy::start(settings, 1);
    run(async {
        let client = Client::connect(&proxy).await;
        for _ in 0..4 {
            let (response, _) = client.begin(post("/"), true).await;
            assert_eq!(whole(response).await.unwrap().body, b"served");
        }
    });
    assert!(!refusing.asked().is_empty());
}

#[test]
fn what_a_server_may_have_begun_with_is_not() {
    let server = Server::new(|_, mut respond, _| async move {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let proxy = server.proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        let (response, _) = client.begin(post("/"), true).await;
        assert_eq!(whole(response).await.unwrap().status, 502);
    });
    assert_eq!(server.asked().len(), 1);
    assert_eq!(proxy.totals().of(Reason::ServerGone), 1);
}

#[test]
fn a_server_that_takes_its_leave_loses_nothing() {
    // Every connection ends after its third request.
    let server = Server::with(
        h2::server::Builder::new(),
        |_, respond, _| async move { answer(respond, "served") },
        {
            let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::<usize>::new()));
            move |connection, number| {
                let mut seen = seen.lock().unwrap();
                let len = seen.len().max(number + 1);
                seen.resize(len, 0);
                seen[number] += 1;
                if seen[number] == 3 {
                    connection.graceful_shutdown();
                }
            }
        },
    );
    let proxy = server.proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        for number in 0..30 {
            let (response, _) = client.begin(post(&format!("/{number}")), true).await;
            assert_eq!(whole(response).await.unwrap().body, b"served");
        }
    });
    assert!(server.asked().iter().map(|a| a.connection).max().unwrap() >= 9);
    let asked: Vec<_> = server.asked().into_iter().map(|a| a.uri).collect();
    assert_eq!(asked.len(), 30, "each was served once: {asked:?}");
}

#[test]
fn a_broken_conversation_is_broken_for_the_client_and_a_cancelled_one_for_the_server() {
    let server = Server::new(|request, mut respond, _| async move {
        let path = request.uri().path().to_owned();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        if path == "/breaks" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        } else {
            let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            assert_eq!(reset.unwrap(), h2::Reason::CANCEL);
        }
    });
    let proxy = server.proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        let error = client.get("/breaks").await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
        let (response, mut body) = client.begin(get("/hangs"), true).await;
        let response = response.await.unwrap();
        assert_eq!(proxy.in_flight(), 1);
        body.send_reset(h2::Reason::CANCEL);
        drop(response);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        eventually_meanwhile("nothing is in flight", || proxy.in_flight() == 0).await;
    });
}

#[test]
fn a_server_of_the_other_version_is_a_failed_one() {
    let backend = crate::http::support::Backend::named("hello");
    let mut settings = crate::http::support::settings(&[backend.address]);
    super::support::speak_http2(&mut settings);
    let proxy = crate::http::support::Proxy::start(settings, 1);
    assert_eq!(proxy.ask(http1("/")).status(), 502);
}

#[test]
fn more_requests_than_one_connection_takes_go_over_several() {
    let mut few = h2::server::Builder::new();
    few.max_concurrent_streams(4);
    let server = Server::with(
        few,
        |_, respond, _| async move {
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            answer(respond, "served");
        },
        |_, _| {},
    );
    let proxy = server.proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        // The first one learns how many the server takes.
        assert_eq!(client.get("/").await.unwrap().status, 200);
        let mut responses = Vec::new();
        for _ in 0..20 {
            let request = Request::get("http://a.example/").body(()).unwrap();
            responses.push(client.begin(request, true).await.0);
        }
        for response in responses {
            assert_eq!(whole(response).await.unwrap().body, b"served");
        }
    });
    assert!(server.asked().iter().map(|a| a.connection).max().unwrap() >= 1);
}

#[test]
fn what_was_taken_is_passed_on_though_nothing_follows() {
    let mut small = h2::server::Builder::new();
    small.initial_window_size(1000);
    let server = Server::with(
        small,
        |request, respond, _| async move {
            let mut body = request.into_body();
            let mut got = 0;
            while got < 10_000 {
                let data = body.data().await.unwrap().unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                got += data.len();
            }
            answer(respond, "all");
        },
        |_, _| {},
    );
    let proxy = server.proxy();
    run(async {
        let client = Client::connect(&proxy).await;
        let (response, mut body) = client.begin(post("/"), false).await;
        send_all(&mut body, Bytes::from(vec![1; 10_000]), false).await;
        assert_eq!(whole(response).await.unwrap().body, b"all");
    });
}
