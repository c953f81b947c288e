//! From the beginning of a connection to its end: idle ones, cancelled requests, shutdown.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use roundsman::config::settings::{Address, HostPattern, ServerOptions, UpstreamServer};
use roundsman::front::Reason;

use super::hostile as frames;
use super::support::{Client, get, post, proxy, proxy_with, run, whole};
use crate::http::support::{Backend, Wire, add, eventually, eventually_meanwhile, ok};

/// A backend that answers `/slow` when told to.
fn slow() -> (Backend, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::new(move |request| {
        if request.target() == "/slow" {
            let _ = wait.lock().unwrap().recv();
        }
        ok("done")
    });
    (backend, go)
}

#[test]
fn a_cancelled_request_frees_its_server() {
    let backend = Backend::raw(|peer| {
        while let Some(request) = peer.head() {
            if request.target() == "/" {
                let _ = peer.send(&ok("fine"));
            } else {
                return peer.wait_for_end();
            }
        }
    });
    let proxy = proxy(&[&backend]);
    run(async {
        let client = Client::connect(&proxy).await;
        let (response, mut body) = client.begin(post("/hangs"), false).await;
        body.send_data(Bytes::from_static(b"x"), false).unwrap();
        assert_eq!(client.get("/").await.unwrap().status, 200);
        eventually("it is at the server", || {
            proxy.in_flight() == 1 && backend.requests().len() == 2
        });
        // How many others there are is the pool's business.
        let open = backend.open();
        body.send_reset(h2::Reason::CANCEL);
        drop(response);
        eventually_meanwhile("the server has nothing to do", || proxy.in_flight() == 0).await;
        eventually_meanwhile("its connection is closed", || backend.open() == open - 1).await;
        assert_eq!(client.get("/").await.unwrap().status, 200);
    });
    assert_eq!(proxy.totals().of(Reason::ClientGone), 1);
}

#[test]
fn who_has_been_idle_for_a_while_makes_place() {
    let backend = Backend::named("ok");
    let proxy = proxy_with(&[&backend], |settings| settings.front.limits.connections = 1);
    run(async {
        let client = Client::connect(&proxy).await;
        assert_eq!(client.get("/").await.unwrap().status, 200);
        let ask = || proxy.ask(crate::http::support::get("/")).status();
        let asked = std::thread::scope(|scope| scope.spawn(ask).join());
        assert_eq!(asked.unwrap(), 200);
    });
}

#[test]
fn in_a_full_front_a_connection_with_requests_that_nobody_answers_makes_place() {
    let silent = Backend::raw(|peer| {
        peer.head();
        peer.wait_for_end();
    });
    let other = Backend::named("served");
    let proxy = proxy_with(&[&silent], |settings| {
        settings.front.limits.connections = 4;
        let address = Address::Tcp(other.address);
        let server = UpstreamServer { address, options: ServerOptions::default() };
        let host = HostPattern::Exact("other.example".into());
        add(settings, "other", vec![server], host, "/");
    });
    run(async {
        let mut clients = Vec::new();
        let mut responses = Vec::new();
        for _ in 0..4 {
            let client = Client::connect(&proxy).await;
            responses.push(client.begin(get("/"), true).await);
            clients.push(client);
        }
        eventually_meanwhile("all are in flight", || proxy.in_flight() == 4).await;
        let ask = || proxy.ask("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").text().to_owned();
        let asked = std::thread::scope(|scope| scope.spawn(ask).join());
        assert_eq!(asked.unwrap(), "served");
        assert!(proxy.in_flight() >= 2, "an even share stays");
    });
}

#[test]
fn a_client_that_goes_takes_all_its_requests_along() {
    let backend = Backend::raw(|peer| {
        peer.head();
        peer.wait_for_end();
    });
    let proxy = proxy(&[&backend]);
    run(async {
        let client = Client::connect(&proxy).await;
        let mut responses = Vec::new();
        for _ in 0..10 {
            responses.push(client.begin(get("/"), true).await);
        }
        eventually_meanwhile("all have arrived", || backend.requests().len() == 10).await;
        assert_eq!(proxy.in_flight(), 10);
    });
    eventually("all are given up", || proxy.in_flight() == 0 && backend.open() == 0);
    eventually("the connection is counted out", || proxy.totals().open == 0);
}

#[test]
fn an_idle_connection_is_ended_with_a_word() {
    let backend = Backend::named("x");
    let proxy = proxy_with(&[&backend], |s| s.front.timeouts.idle = Duration::from_millis(200));
    run(async {
        let client = Client::connect(&proxy).await;
        assert_eq!(client.get("/").await.unwrap().status, 200);
        assert_eq!(client.end().await, Ok(()));
    });
    eventually("it is counted out", || proxy.totals().open == 0);
    // Nor does one that says nothing, or only half of the preface, stay.
    let proxy = proxy_with(&[&backend], |s| {
        s.front.timeouts.idle = Duration::from_millis(100);
        s.front.timeouts.client_header = Duration::from_millis(100);
    });
    for begun in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = proxy.send(begun);
        while matches!(client.fill(), Ok(true)) {}
    }
    eventually("they are counted out", || proxy.totals().open == 0);
}

#[test]
fn who_does_not_answer_is_told_at_last_which_requests_were_seen() {
    let backend = Backend::named("x");
    let proxy = proxy_with(&[&backend], |s| s.front.timeouts.idle = Duration::from_millis(100));
    // Its settings and a GET for `a`, and then it answers no PING.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 0x01, b'a']);
    let mut client = proxy.send(bytes);
    while matches!(client.fill(), Ok(true)) {}
    let (mut rest, mut farewells) = (&client.buffer[..], Vec::new());
    while let [a, b, c, kind, ..] = *rest {
        let (frame, next) = rest.split_at(9 + u32::from_be_bytes([0, a, b, c]) as usize);
        if kind == 7 {
            let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            farewells.push((word(9), word(13)));
        }
        rest = next;
    }
    assert_eq!(farewells, [(u32::MAX >> 1, 0), (1, 0)]);
    eventually("it is counted out", || proxy.totals().open == 0);
}

#[test]
fn a_connection_is_renewed_after_so_many_requests() {
    let backend = Backend::named("x");
    let proxy = proxy_with(&[&backend], |s| s.front.limits.requests_per_connection = 5);
    run(async {
        let client = Client::connect(&proxy).await;
        for _ in 0..5 {
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
        assert_eq!(client.end().await, Ok(()));
    });
    assert_eq!(backend.requests().len(), 5);
}

#[test]
fn a_shutdown_finishes_what_is_open_and_takes_nothing_new() {
    let (backend, go) = slow();
    let proxy = proxy(&[&backend]);
    std::thread::scope(|scope| {
        let cut = run(async {
            let client = Client::connect(&proxy).await;
            let (response, _) = client.begin(get("/slow"), true).await;
            assert_eq!(client.get("/").await.unwrap().status, 200);
            let idle = Client::connect(&proxy).await;
            assert_eq!(idle.get("/").await.unwrap().status, 200);
            let cut = scope.spawn(|| proxy.stop(Duration::from_secs(15)));
            assert_eq!(idle.end().await, Ok(()), "an idle one is told to go");
            // The busy one is told, too, and its request is answered all the same.
            let refused = loop {
                let mut send = client.send.clone();
                match std::future::poll_fn(|cx| send.poll_ready(cx)).await {
                    Ok(()) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => break error,
                }
            };
            assert!(refused.is_go_away(), "{refused}");
            go.send(()).unwrap();
            assert_eq!(whole(response).await.unwrap().body, b"done");
            assert_eq!(client.end().await, Ok(()));
            cut
        });
        assert_eq!(cut.join().unwrap(), 0, "nothing was cut off");
    });
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let backend = Backend::new(|_| ok(&"x".repeat(1_000_000)));
    let proxy = proxy_with(&[&backend], |s| {
        s.front.timeouts.client_write = Duration::from_millis(200);
    });
    run(async {
        let client = Client::connect(&proxy).await;
        let (response, _) = client.begin(get("/"), true).await;
        let mut body = response.await.unwrap().into_body();
        // The window is never opened again.
        let mut got = 0;
        let error = loop {
            match body.data().await {
                Some(Ok(data)) => got += data.len(),
                Some(Err(error)) => break error,
                None => panic!("it ended after {got} bytes"),
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
        assert!(got < 1_000_000);
        assert_eq!(proxy.totals().of(Reason::WriteTimeout), 1);
        eventually("its server is free", || proxy.in_flight() == 0);
    });
}

#[test]
fn a_client_that_takes_nothing_loses_its_connection() {
    let backend = Backend::new(|_| ok(&"x".repeat(1_000_000)));
    let proxy = proxy_with(&[&backend], |s| {
        s.front.timeouts.client_write = Duration::from_millis(500);
    });
    let mut socket = std::net::TcpStream::connect(proxy.address).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // All windows are wide open, so that the rest is up to the socket.
    bytes.extend(frames::settings(&[(4, 0x7fff_ffff)]));
    bytes.extend(frames::frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
    (0..60).for_each(|number| bytes.extend(frames::ask(number)));
    socket.write_all(&bytes).unwrap();
    eventually("they are asked for", || backend.requests().len() > 10);
    eventually("the connection is gone", || proxy.totals().open == 0);
    assert!(proxy.totals().of(Reason::WriteTimeout) > 0);
    eventually("its servers are free", || proxy.in_flight() == 0);
}

#[test]
fn a_client_that_does_not_send_is_given_up() {
    let backend = Backend::named("x");
    let proxy = proxy_with(&[&backend], |s| {
        s.front.timeouts.client_body = Duration::from_millis(200);
    });
    run(async {
        let client = Client::connect(&proxy).await;
        let (response, mut body) = client.begin(post("/"), false).await;
        body.send_data(Bytes::from_static(b"begun"), false).unwrap();
        assert_eq!(whole(response).await.unwrap().status, 408);
    });
    assert_eq!(proxy.totals().of(Reason::BodyTimeout), 1);
    eventually("its server is free", || proxy.in_flight() == 0);
}
