//! What happens when servers fail: another one, the queue, or an honest error.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roundsman::balance::State;
use roundsman::config::settings::Address;
use roundsman::front::Reason;

use super::support::{Backend, Proxy, Wire, eventually, get, ok};

/// An address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server that answers the first request of each connection and closes right after it saw the
/// second, as one does whose idle time has just run out.
fn closes_second() -> Backend {
    Backend::raw(|peer| {
        peer.request().unwrap();
        peer.send(&ok("first")).unwrap();
        peer.reader.fill().unwrap();
    })
}

#[test]
fn a_stale_connection_is_no_failure() {
    let backend = closes_second();
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    eventually("four were stale", || {
        assert_eq!(client.get("/").text(), "first");
        proxy.totals().stale >= 4
    });
    let (_, server) =
        proxy.front.snapshot().servers().next().map(|(u, s)| (u.clone(), s.clone())).unwrap();
    assert_eq!(server.failures(), 0);
    assert_eq!(proxy.totals().retries, 0);
}

#[test]
fn what_is_not_idempotent_is_not_sent_twice() {
    let backend = closes_second();
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    let mut posts = 0;
    eventually("one meets a connection that is just being closed", || {
        posts += 1;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        client.final_response("POST").unwrap().status() == 502
    });
    let sent = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().matches("POST / ").count();
    eventually("the server has seen it", || backend.open() == 0);
    assert_eq!(backend.raw_bytes().into_iter().map(sent).sum::<usize>(), posts);
}

#[test]
fn a_closed_idle_connection_is_seen_before_a_post_is_sent_on_it() {
    let backend = Backend::raw(|peer| {
        let request = peer.request().unwrap();
        peer.send(&ok(request.method())).unwrap();
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "GET");
    eventually("the server has closed", || backend.open() == 0);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.final_response("POST").unwrap().text(), "POST");
}

#[test]
fn unasked_bytes_on_an_idle_connection_are_nobodys_answer() {
    let said = Arc::<AtomicUsize>::default();
    let says = Arc::clone(&said);
    let backend = Backend::raw(move |peer| {
        while let Some(request) = peer.request() {
            peer.send(&ok(request.target())).unwrap();
            if peer.number == 0 {
                peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").unwrap();
                says.store(1, Ordering::SeqCst);
                peer.shut();
                return peer.wait_for_end();
            }
        }
    });
    let proxy = Proxy::over(&[&backend]);
    for path in ["/a", "/b", "/c"] {
        let response = proxy.ask(get(path));
        assert_eq!((response.status(), response.text()), (200, path));
        eventually("it is said before the next one asks", || said.load(Ordering::SeqCst) == 1);
        eventually("the first connection is gone", || backend.open() < 2);
    }
}

#[test]
fn a_server_that_refuses_connections_is_gone_round() {
    let good = Backend::named("good");
    let proxy = Proxy::with(&[&good], |s| {
        let upstream = s.upstreams.get_mut("test").unwrap();
        let mut dead = upstream.servers[0].clone();
        dead.address = roundsman::config::settings::Address::Tcp(nobody());
        upstream.servers.insert(0, dead);
    });
    for _ in 0..4 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(proxy.ask(post).text(), "good", "nothing was sent, so even a POST goes on");
    }
    assert!(proxy.totals().retries > 0);
}

/// Servers that end each connection when they have read so many bytes of a request, or all of it; and how
/// many requests they have been sent.
fn failing(count: usize, bytes: Option<usize>) -> (Vec<Backend>, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let one = || {
        let asked = Arc::clone(&asked);
        Backend::raw(move |peer| {
            let came = match bytes {
                None => peer.request().is_some(),
                Some(bytes) => peer.reader.stream.read_exact(&mut vec![0; bytes]).is_ok(),
            };
            asked.fetch_add(usize::from(came), Ordering::SeqCst);
        })
    };
    ((0..count).map(|_| one()).collect(), asked)
}

/// A server that dies of a request has taken it; nobody else is to die of it but one, and not again.
#[test]
fn a_request_that_servers_take_without_an_answer_goes_to_one_other_at_most() {
    let (dying, asked) = failing(5, None);
    let proxy = Proxy::with(&dying.iter().collect::<Vec<_>>(), |s| s.front.retries.attempts = 3);
    for (path, servers) in [("/poison", 2), ("/poison", 1), ("/poison", 1), ("/other", 2)] {
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(proxy.ask(get(path)).status(), 502);
        assert_eq!(asked.load(Ordering::SeqCst) - before, servers, "{path}");
    }
}

#[test]
fn each_retry_goes_to_another_server_and_the_number_is_bounded() {
    let (failing, asked) = failing(5, Some(1));
    let proxy = Proxy::with(&failing.iter().collect::<Vec<_>>(), |s| s.front.retries.attempts = 2);
    let response = proxy.ask(get("/"));
    assert_eq!(response.status(), 502);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert!(failing.iter().all(|f| f.connections() <= 1));
    assert_eq!(proxy.totals().of(Reason::ServerGone), 1);
}

/// As the documentation of `[retries]` says: also the only one is asked again.
#[test]
fn the_only_server_is_asked_again_unless_it_has_read_all_of_it_twice() {
    for (bytes, times) in [(Some(1), 3), (None, 2)] {
        let (failing, asked) = failing(1, bytes);
        let proxy = Proxy::with(&[&failing[0]], |s| s.front.retries.attempts = 2);
        assert_eq!(proxy.ask(get("/")).status(), 502);
        assert_eq!(asked.load(Ordering::SeqCst), times, "{bytes:?}");
    }
}

#[test]
fn the_budget_ends_retries() {
    let failing = [(); 2].map(|()| {
        Backend::raw(|peer| {
            peer.request();
        })
    });
    let proxy = Proxy::with(&[&failing[0], &failing[1]], |s| {
        s.front.retries.attempts = 1;
        s.front.retries.budget_percent = 0;
        s.upstreams.get_mut("test").unwrap().balancing.passive.max_fails = 0;
    });
    let mut client = proxy.connect();
    for _ in 0..300 {
        assert_eq!(client.get("/").status(), 502);
    }
    let retries = proxy.totals().retries;
    assert!((1..300).contains(&retries), "{retries}");
}

#[test]
fn requests_wait_while_the_only_server_is_down() {
    let backend = Backend::named("back");
    let proxy = Proxy::over(&[&backend]);
    let (_, server) =
        proxy.front.snapshot().servers().next().map(|(u, s)| (u.clone(), s.clone())).unwrap();
    proxy.front.set_state(&server, State::Down);
    let mut clients: Vec<_> = (0..10).map(|_| proxy.send(get("/"))).collect();
    eventually("they wait", || proxy.totals().waiting == 10);
    proxy.front.set_state(&server, State::Up);
    for client in &mut clients {
        assert_eq!(client.final_response("GET").unwrap().text(), "back");
    }
    assert_eq!(proxy.totals().waiting, 0);
}

#[test]
fn nobody_waits_for_servers_that_nobody_starts() {
    let backend = Backend::named("back");
    let an_hour = Duration::from_hours(1);
    let proxy = Proxy::with(&[&backend], |s| {
        s.upstreams.get_mut("test").unwrap().balancing.queue_timeout = an_hour;
    });
    let (_, server) =
        proxy.front.snapshot().servers().next().map(|(u, s)| (u.clone(), s.clone())).unwrap();
    proxy.front.set_state(&server, State::Down);
    let mut waits = proxy.send(get("/"));
    eventually("one waits", || proxy.totals().waiting == 1);
    assert!(server.set_absent(true));
    proxy.front.set_state(&server, State::Draining); // whoever waits looks again
    proxy.front.set_state(&server, State::Down);
    assert_eq!(waits.final_response("GET").unwrap().status(), 503);
    assert_eq!(proxy.ask(get("/")).status(), 503);
    assert_eq!(proxy.totals().of(Reason::NoServer), 2);
    // Somebody starts it.
    server.set_absent(false);
    let mut waits = proxy.send(get("/"));
    eventually("one waits", || proxy.totals().waiting == 1);
    proxy.front.set_state(&server, State::Up);
    assert_eq!(waits.final_response("GET").unwrap().text(), "back");
}

#[test]
fn the_queue_is_bounded_in_length_and_time() {
    let backend = Backend::named("x");
    let proxy = Proxy::with(&[&backend], |s| {
        let balancing = &mut s.upstreams.get_mut("test").unwrap().balancing;
        balancing.queue = 1;
        balancing.queue_timeout = Duration::from_millis(500);
    });
    let (_, server) =
        proxy.front.snapshot().servers().next().map(|(u, s)| (u.clone(), s.clone())).unwrap();
    proxy.front.set_state(&server, State::Down);
    let mut waits = proxy.send(get("/"));
    eventually("one waits", || proxy.totals().waiting == 1);
    let full = proxy.ask(get("/"));
    assert_eq!(full.status(), 503);
    assert!(full.one("retry-after").is_some());
    assert_eq!(waits.final_response("GET").unwrap().status(), 503);
    let totals = proxy.totals();
    assert_eq!((totals.of(Reason::QueueFull), totals.of(Reason::NoServer)), (1, 1));
}

#[test]
fn a_server_that_comes_back_is_not_met_on_old_connections() {
    let backend = Backend::named("x");
    let proxy = Proxy::over(&[&backend]);
    assert_eq!(proxy.ask(get("/")).status(), 200);
    assert_eq!(backend.connections(), 1);
    let (_, server) =
        proxy.front.snapshot().servers().next().map(|(u, s)| (u.clone(), s.clone())).unwrap();
    proxy.front.set_state(&server, State::Draining);
    proxy.front.set_state(&server, State::Up);
    assert_eq!(proxy.ask(get("/")).status(), 200);
    assert_eq!(backend.connections(), 2);
    proxy.threads.forget_idle(server.id);
    eventually("nothing is kept", || backend.open() == 0);
}

/// Node's `http2.createServer()` and gRPC servers begin with their settings, whatever they are asked.
#[test]
fn a_server_that_speaks_http2_is_told_from_one_that_speaks_nonsense() {
    for (bytes, reason, text) in [
        (&b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"[..], Reason::SpeaksHttp2, "protocol = \"h2c\""),
        (b"\0\0\x07\x04\0\0\0\0\0\0\x03\0\0\0\x64\0", Reason::BadResponse, "invalid answer"),
    ] {
        let backend = Backend::raw(move |peer| {
            peer.request().unwrap();
            let _ = peer.send(bytes);
        });
        let proxy = Proxy::over(&[&backend]);
        let response = proxy.connect().get("/");
        assert_eq!(response.status(), 502);
        assert!(response.text().contains(text), "{}", response.text());
        assert_eq!(proxy.totals().of(reason), 1, "{reason:?}");
    }
}

/// systemd goes on to listen for a worker that has died.
#[test]
fn what_nobody_has_read_at_a_server_that_is_down_goes_to_another_if_it_may_be_done_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    for over_unix in [false, true] {
        let (tcp, unix) = if over_unix {
            (None, Some(UnixListener::bind(&path).unwrap()))
        } else {
            (Some(TcpListener::bind("127.0.0.1:0").unwrap()), None)
        };
        let other = Backend::named("other");
        let proxy = Proxy::with(&[&other, &other], |settings| {
            let address = match &tcp {
                Some(tcp) => Address::Tcp(tcp.local_addr().unwrap()),
                None => Address::Unix(path.clone()),
            };
            settings.upstreams.get_mut("test").unwrap().servers[0].address = address;
        });
        let server = proxy.front.snapshot().upstreams["upstream:test"].servers[0].clone();
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        let mut posted = proxy.send(post);
        eventually("it is in the queue", || server.in_flight() == 1);
        assert_eq!(proxy.send(get("/")).final_response("GET").unwrap().text(), "other");
        let mut got = proxy.send(get("/"));
        eventually("it is in the queue, too", || server.in_flight() == 2);

        proxy.front.set_state(&server, State::Down);
        proxy.threads.look_again();
        assert_eq!(got.final_response("GET").unwrap().text(), "other", "over UNIX: {over_unix}");
        assert_eq!(server.in_flight(), 1, "the other one waits");

        // Whoever listens next finds both, the first one first.
        let stream: Box<dyn ReadWrite> = match (&tcp, &unix) {
            (Some(tcp), _) => Box::new(tcp.accept().unwrap().0),
            (_, unix) => Box::new(unix.as_ref().unwrap().accept().unwrap().0),
        };
        let mut stream = stream;
        let mut read = [0; 4];
        stream.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"POST");
        stream.write_all(&ok("late")).unwrap();
        assert_eq!(posted.final_response("POST").unwrap().text(), "late");
        assert_eq!(other.requests().len(), 2);
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}
