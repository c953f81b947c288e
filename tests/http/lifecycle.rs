//! Threads and their connections from start to shutdown, and what a front answers by itself.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use roundsman::balance::State;
use roundsman::config::settings::{self, HostPattern};
use roundsman::config::{self, Settings, Sources};
use roundsman::front::Reason;
use roundsman::thread::{Listener, Socket};

use super::support::Reader;
use super::support::{Backend, Client, Proxy, Wire, add, eventually, get, ok};

const GRACE: Duration = Duration::from_secs(15);

#[test]
fn connections_are_spread_evenly() {
    let backend = Backend::named("ok");
    let proxy = Proxy::start(super::support::settings(&[backend.address]), 2);
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let mut client = proxy.connect();
            assert_eq!(client.get("/").status(), 200);
            client
        })
        .collect();
    let stats = proxy.threads.stats();
    assert_eq!(stats.iter().map(|s| (s.accepted, s.open)).collect::<Vec<_>>(), [(20, 20); 2]);
    assert_eq!(stats.iter().map(|s| s.requests).sum::<u64>(), 40);
    drop(clients);
    eventually("they are counted out", || proxy.totals().open == 0);
}

#[test]
fn the_least_busy_thread_is_taken_when_that_is_asked_for() {
    let backend = Backend::named("ok");
    let mut settings = super::support::settings(&[backend.address]);
    settings.front.threads.hand_off = settings::HandOff::LeastConnections;
    let proxy = Proxy::start(settings, 2);
    let mut clients = Vec::new();
    for round in 0..20 {
        let mut client = proxy.connect();
        client.get("/");
        if round % 2 == 0 {
            clients.push(client);
        } else {
            let before = proxy.totals().open;
            drop(client);
            eventually("it is counted out", || proxy.totals().open < before);
        }
    }
    let open: Vec<_> = proxy.threads.stats().iter().map(|s| s.open).collect();
    assert_eq!(open, [5, 5]);
}

#[test]
fn a_shutdown_loses_nothing_in_flight() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::new(move |request| {
        if request.target() == "/slow" {
            let _ = wait.lock().unwrap().recv();
        }
        ok("done")
    });
    let proxy = Proxy::over(&[&backend]);
    let mut idle = proxy.connect();
    assert_eq!(idle.get("/").one("connection"), None);
    let mut busy = proxy.connect();
    assert_eq!(busy.get("/").status(), 200);
    let mut slow = proxy.send(get("/slow"));
    eventually("it is at the server", || backend.requests().iter().any(|r| r.target() == "/slow"));

    std::thread::scope(|scope| {
        let cut = scope.spawn(|| proxy.stop(GRACE));
        // Who asks once more right then is still answered, and told that it was the last time.
        let mut last = busy.get("/");
        while last.one("connection") != Some("close") {
            last = busy.get("/");
        }
        assert!(busy.is_closed());
        assert!(idle.is_closed());
        go.send(()).unwrap();
        let response = slow.final_response("GET").unwrap();
        assert_eq!((response.text(), response.one("connection")), ("done", Some("close")));
        assert_eq!(cut.join().unwrap(), 0);
    });
}

/// At a server that does not answer, or takes no connection, in the queue, and in the middle of what they say.
#[test]
fn whoever_waits_when_the_time_of_a_shutdown_is_over_is_answered() {
    let hung = Backend::raw(|peer| {
        peer.request();
        peer.wait_for_end();
    });
    let (full, _queue) = full();
    let proxy = Proxy::with(&[&hung], |settings| {
        for (name, server) in [("full", full.local_addr().unwrap()), ("down", hung.address)] {
            let host = HostPattern::Exact(format!("{name}.example"));
            let servers = super::support::settings(&[server]).upstreams["test"].servers.clone();
            add(settings, name, servers, host, "/");
        }
    });
    let down = proxy.front.snapshot().upstreams["upstream:down"].servers[0].clone();
    proxy.front.set_state(&down, State::Down);
    let mut clients = [
        (get("/"), 504),
        (get("/").replace("a.example", "full.example"), 504),
        (get("/").replace("a.example", "down.example"), 504),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nhalf".to_owned(), 504),
        ("GET / HTTP/1.1\r\nHos".to_owned(), 408),
    ]
    .map(|(sent, status)| (proxy.send(sent), status));
    eventually("they wait", || {
        let waits =
            proxy.front.snapshot().upstreams["upstream:down"].waiting.load(Ordering::Relaxed);
        proxy.in_flight() == 3 && waits == 1
    });
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| proxy.stop(Duration::from_millis(100)));
        for (client, status) in &mut clients {
            let response = client.final_response("GET").expect("an answer");
            assert_eq!((response.status(), response.one("connection")), (*status, Some("close")));
        }
        drop(clients);
        assert_eq!(cut.join().unwrap(), 0);
    });
    assert_eq!(proxy.totals().of(Reason::ShutdownTimeout), 4);
}

/// A listener whose queue is full: who connects now waits.
fn full() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let one = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    (listener, std::iter::from_fn(one).collect())
}

/// Over a connection whose event stream has just ended.
#[test]
fn whoever_asks_anew_when_the_time_of_a_shutdown_is_over_is_served() {
    let backend = Backend::raw(|peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/events" {
                peer.send(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                      Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n",
                )
                .unwrap();
                peer.wait_for_end();
            } else {
                peer.send(&ok("served")).unwrap();
            }
        }
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(get("/events"));
    assert_eq!(client.head().unwrap().status(), 200);
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| proxy.stop(Duration::from_millis(100)));
        while !client.buffer.ends_with(b"\r\n0\r\n\r\n") {
            assert!(client.fill().unwrap(), "it was cut");
        }
        client.buffer.clear();
        let response = client.get("/");
        assert_eq!((response.text(), response.one("connection")), ("served", Some("close")));
        drop(client);
        assert_eq!(cut.join().unwrap(), 0);
    });
}

/// An answer that has begun has no other end than that.
#[test]
fn what_is_half_answered_when_the_time_of_a_shutdown_is_over_is_cut() {
    let backend = Backend::raw(|peer| {
        peer.request();
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
        peer.wait_for_end();
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(get("/"));
    while !client.buffer.ends_with(b"half") {
        client.fill().unwrap();
    }
    assert_eq!(proxy.stop(Duration::from_millis(100)), 1);
    client.buffer.clear();
    assert!(client.is_closed());
}

#[test]
fn who_stops_accepting_leaves_the_others_alone() {
    let backend = Backend::named("ok");
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(proxy.threads.stop_accepting());
    assert!(std::net::TcpStream::connect(proxy.address).is_err(), "the listener is gone");
    let response = client.get("/");
    assert_eq!((response.status(), response.one("connection")), (200, None));
}

#[test]
fn an_empty_front_says_how_to_add_an_app() {
    let proxy = Proxy::start(Settings::default(), 1);
    let mut client = proxy.connect();
    let page = client.get("/");
    assert_eq!(page.status(), 503);
    assert!(page.text().contains("/etc/roundsman/apps/"));
    let id = page.one("x-request-id").unwrap().to_owned();
    assert!(page.text().contains(&id));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
    let json = client.final_response("GET").unwrap();
    let body: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(body["reason"], "nothing-configured");
    assert_eq!(body["request-id"], json.one("x-request-id").unwrap());
    // A body that nobody wants is read, and the connection goes on.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.final_response("POST").unwrap().status(), 503);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.final_response("HEAD").unwrap().status(), 503);
    assert_eq!(client.get("/").status(), 503);
}

#[test]
fn requests_go_where_host_and_path_say_and_a_reload_changes_it() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let server = |backend: &Backend| {
        super::support::settings(&[backend.address]).upstreams["test"].servers.clone()
    };
    let mut settings = Settings::default();
    add(&mut settings, "a", server(&a), HostPattern::Exact("a.example".into()), "/");
    add(&mut settings, "b", server(&b), HostPattern::Wildcard("example".into()), "/api");
    let proxy = Proxy::start(settings.clone(), 1);
    let mut client = proxy.connect();
    let mut ask = |host: &str, path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.final_response("GET").unwrap();
        (response.status(), response.text().to_owned())
    };
    assert_eq!(ask("A.example:80", "/api"), (200, "a".into()));
    assert_eq!(ask("b.example", "/api/x"), (200, "b".into()));
    assert_eq!(ask("b.example", "/apix").0, 404);
    assert_eq!(ask("elsewhere", "/").0, 404);
    add(&mut settings, "c", server(&b), HostPattern::Any, "/");
    proxy.front.replace(settings);
    assert_eq!(ask("elsewhere", "/"), (200, "b".into()));
}

/// The app's workers still take requests then: those of who is connected go to them once more, and the
/// next connection is the app's.
#[test]
fn who_is_connected_has_an_answer_when_an_app_is_handed_connections() {
    let backend = Backend::named("ok");
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("apps")).unwrap();
    let app = |keys: &str| {
        let app = format!("command = [\"/bin/x\"]\nworkers = 1\n{keys}\n");
        std::fs::write(directory.path().join("apps/shop.toml"), app).unwrap();
        config::load(&Sources::directory(directory.path())).strict().unwrap()
    };
    let ask = |client: &mut Client| {
        let answer = client.get("/");
        (answer.status(), answer.one("connection").map(str::to_owned))
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, before, after) in [(backend.address, 200, 200), (free, 502, 503)] {
        let port = address.port();
        let proxy = Proxy::start(app(&format!("listen = \"port\"\nport = {port}")), 1);
        let mut client = proxy.connect();
        assert_eq!(ask(&mut client), (before, None));
        proxy.front.replace(app("listen = \"cluster\"\nmode = \"handoff\""));
        assert_eq!(ask(&mut client), (after, Some("close".to_owned())));
    }
}

#[test]
fn a_unix_socket_serves_as_well() {
    let backend = Backend::named("ok");
    let proxy = Proxy::over(&[&backend]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("front.sock");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    proxy.threads.accept(vec![Listener { name: "local".into(), socket: Socket::Unix(socket) }]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(super::support::PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, get("/").as_bytes()).unwrap();
    assert_eq!(Reader::new(stream).final_response("GET").unwrap().text(), "ok");
    assert_eq!(backend.requests()[0].one("x-forwarded-for"), Some("unknown"));
}
