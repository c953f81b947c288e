//! Each client gets the answer to what it asked, also from a server that sends more than answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::support::{Backend, Client, Proxy, Wire, eventually, ok};

/// How long after its answer a server still sends what is behind it: less than a connection rests
/// (`src/proxy/pool/`), also when the server's thread had to wait for its turn.
const SOON: Duration = Duration::from_millis(12);

/// The ways to send more than an answer: what is asked, and what the answer begins with.
const WAYS: [(&str, &str, &str); 5] = [
    ("a body to HEAD", "HEAD /more", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"),
    ("a body with 204", "GET /more", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("a body with 304", "GET /more", "HTTP/1.1 304 Not Modified\r\n\r\n"),
    ("a length of zero", "POST /more", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a short length", "GET /more", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
];

/// A server that answers with what it was asked for, and says more when asked for `/more`.
fn careless(answer: &'static str, after: Duration, said: &Arc<AtomicUsize>) -> Backend {
    let said = Arc::clone(said);
    Backend::raw(move |peer| {
        while let Some(request) = peer.request() {
            if !request.target().starts_with("/more") {
                if peer.send(&ok(request.target())).is_err() {
                    return;
                }
                continue;
            }
            let answered = Instant::now();
            if peer.send(answer.as_bytes()).is_err() {
                return;
            }
            std::thread::sleep(after);
            if answered.elapsed() < SOON {
                said.fetch_add(1, Ordering::SeqCst);
                let _ = peer.send(&ok(&format!("what is behind {}", request.target())));
            }
        }
    })
}

/// Asks on this connection, and reads the answer.
fn ask(client: &mut Client, what: &str) -> String {
    let method = what.split(' ').next().unwrap();
    let body = if method == "POST" { "Content-Length: 1\r\n\r\nx" } else { "\r\n" };
    client.send(format!("{what} HTTP/1.1\r\nHost: a\r\n{body}"));
    let response = client.final_response(method).unwrap();
    assert!(response.status() < 400, "{what}: {response:?}");
    response.text().to_owned()
}

#[test]
fn what_a_server_sends_behind_an_answer_goes_to_nobody() {
    let mut shifted = Vec::new();
    for (way, asked, answer) in WAYS {
        for after in [0, 1, 4].map(Duration::from_millis) {
            let said = Arc::default();
            let backend = careless(answer, after, &said);
            let proxy = Proxy::over(&[&backend]);
            let shifts = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for client in 0..4 {
                    let (proxy, shifts) = (&proxy, &shifts);
                    scope.spawn(move || {
                        let mut stream = proxy.connect();
                        for turn in 0..8 {
                            if client == 0 {
                                ask(&mut stream, &format!("{asked}/{turn}"));
                            }
                            for method in ["GET", "POST"] {
                                let target = format!("/{client}/{turn}/{method}");
                                let got = ask(&mut stream, &format!("{method} {target}"));
                                shifts.fetch_add(usize::from(got != target), Ordering::SeqCst);
                            }
                        }
                    });
                }
            });
            assert!(said.load(Ordering::SeqCst) > 0, "{way}: it was never said");
            if shifts.load(Ordering::SeqCst) > 0 {
                shifted.push(format!("{way} after {after:?}: {shifts:?} of 64"));
            }
        }
    }
    assert!(shifted.is_empty(), "{shifted:#?}");
}

#[test]
fn two_requests_that_a_client_sends_at_once_get_their_own_answers() {
    for (way, asked, answer) in WAYS.into_iter().filter(|way| !way.1.starts_with("POST")) {
        let backend = careless(answer, Duration::from_millis(1), &Arc::default());
        let proxy = Proxy::over(&[&backend]);
        for turn in 0..4 {
            let mut client = proxy.connect();
            let first = format!("{asked} HTTP/1.1\r\nHost: a\r\n\r\n");
            client.send(format!("{first}GET /{turn} HTTP/1.1\r\nHost: a\r\n\r\n"));
            client.final_response(asked.split(' ').next().unwrap()).unwrap();
            assert_eq!(client.final_response("GET").unwrap().text(), format!("/{turn}"), "{way}");
        }
    }
}

#[test]
fn nothing_carries_two_requests_after_a_server_has_sent_more_than_its_answer() {
    let (_, _, answer) = WAYS[4];
    let backend = careless(answer, Duration::from_millis(1), &Arc::default());
    let proxy = Proxy::with(&[&backend], |settings| {
        settings.front.timeouts.upstream_idle = Duration::from_hours(1);
    });
    assert_eq!(ask(&mut proxy.connect(), "GET /more"), "ok");
    eventually("it is seen, and the connection closed", || backend.open() == 0);
    let mut client = proxy.connect();
    for turn in 0..5 {
        assert_eq!(ask(&mut client, &format!("GET /{turn}")), format!("/{turn}"));
        eventually("the connection is closed after its request", || backend.open() == 0);
    }
    assert_eq!(backend.connections(), 6);
}

#[test]
fn a_server_that_gave_up_waiting_has_not_answered() {
    // It says so behind its first answer, just when the second request is on its way.
    let said = Arc::<AtomicUsize>::default();
    let says = Arc::clone(&said);
    let backend = Backend::raw(move |peer| {
        let request = peer.request().unwrap();
        peer.send(&ok(request.target())).unwrap();
        if peer.reader.fill().is_ok_and(|more| more) {
            says.fetch_add(1, Ordering::SeqCst);
            let timeout = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\
                           Content-Length: 0\r\n\r\n";
            peer.send(timeout.as_bytes()).unwrap();
            peer.shut();
            peer.wait_for_end();
        }
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    eventually("it is said three times", || {
        assert_eq!(ask(&mut client, "GET /a"), "/a");
        said.load(Ordering::SeqCst) >= 3
    });
}
