//! What goes on for ever at a server whose time to drain is up.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use roundsman::balance::Server;
use roundsman::config::settings::{Address, HostPattern, ServerOptions, UpstreamServer};
use roundsman::front::Reason;

use super::support::{Backend, Client, Proxy, Wire, add, eventually, get};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// A server's close frame with code 1012: service restart.
const CLOSE: &[u8] = &[0x88, 2, 0x03, 0xf4];

fn server(proxy: &Proxy) -> Arc<Server> {
    proxy.front.snapshot().servers().next().map(|(_, server)| server.clone()).unwrap()
}

fn rest(client: &mut Client) -> Vec<u8> {
    while client.fill().expect("the end is an orderly one") {}
    std::mem::take(&mut client.buffer)
}

/// A server that says this and then waits.
fn saying(text: Vec<u8>) -> Backend {
    Backend::raw(move |peer| {
        peer.request().unwrap();
        peer.send(&text).unwrap();
        peer.wait_for_end();
    })
}

#[test]
fn a_websocket_is_closed_with_a_frame() {
    let frame = [&[0x81, 5][..], b"hello"].concat();
    let backend = saying([SWITCH.as_bytes(), &frame].concat());
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(UPGRADE);
    assert_eq!(client.head().unwrap().status(), 101);
    while client.buffer.len() < frame.len() {
        client.fill().unwrap();
    }
    let server = server(&proxy);
    assert_eq!(server.in_flight(), 1);
    proxy.threads.end_conversations(&server);
    assert_eq!(rest(&mut client), [&frame, CLOSE].concat());
    drop(client);
    super::support::eventually("it is over for the server, too", || {
        server.in_flight() == 0 && backend.open() == 0
    });
}

#[test]
fn the_end_of_the_fronts_time_is_theirs_too() {
    let backend = saying(SWITCH.into());
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(UPGRADE);
    assert_eq!(client.head().unwrap().status(), 101);
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| proxy.stop(Duration::from_millis(100)));
        assert_eq!(rest(&mut client), CLOSE);
        drop(client);
        assert_eq!(cut.join().unwrap(), 0);
    });
}

/// One app's conversations have taken every place. It has a right to half of them.
#[test]
fn in_a_full_front_the_oldest_beyond_an_even_share_make_place() {
    const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    for (ask, answer, end) in
        [(UPGRADE.to_owned(), SWITCH, CLOSE), (get("/events"), EVENTS, b"0\r\n\r\n")]
    {
        let (greedy, other) = (saying(answer.into()), Backend::named("served"));
        let proxy = Proxy::with(&[&greedy], |settings| {
            settings.front.limits.connections = 8;
            let address = Address::Tcp(other.address);
            let server = UpstreamServer { address, options: ServerOptions::default() };
            let host = HostPattern::Exact("other.example".into());
            add(settings, "other", vec![server], host, "/");
        });
        let mut clients: Vec<_> = (0..8)
            .map(|_| {
                let mut client = proxy.send(&ask);
                client.head().unwrap();
                client
            })
            .collect();
        assert_eq!(proxy.in_flight(), 8);
        let served = proxy.ask("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
        assert_eq!(served.text(), "served");
        assert_eq!(rest(&mut clients[0]), end, "its end is a proper one");
        assert!(proxy.in_flight() >= 4, "an even share stays");
    }
}

/// Nobody answers them, or their bodies never come: whoever has few conversations is not the one who pays.
#[test]
fn in_a_full_front_requests_in_flight_count_as_conversations_do() {
    let half = "POST / HTTP/1.1\r\nHost: greedy.example\r\nContent-Length: 100000\r\n\r\nabc";
    for ask in ["GET / HTTP/1.1\r\nHost: greedy.example\r\n\r\n", half] {
        let silent = Backend::raw(|peer| {
            peer.request();
            peer.wait_for_end();
        });
        let (chat, other) = (saying(SWITCH.into()), Backend::named("served"));
        let proxy = Proxy::with(&[&chat], |settings| {
            settings.front.limits.connections = 12;
            for (name, backend) in [("greedy", &silent), ("other", &other)] {
                let address = Address::Tcp(backend.address);
                let server = UpstreamServer { address, options: ServerOptions::default() };
                let host = HostPattern::Exact(format!("{name}.example"));
                add(settings, name, vec![server], host, "/");
            }
        });
        let mut few: Vec<_> = (0..2)
            .map(|_| {
                let mut client = proxy.send(UPGRADE);
                client.head().unwrap();
                client
            })
            .collect();
        let mut many: Vec<_> = (0..10).map(|_| proxy.send(ask)).collect();
        eventually("all are in flight", || proxy.in_flight() == 12);
        let mut stay = Vec::new();
        for _ in 0..4 {
            let mut client = proxy.send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
            assert_eq!(client.final_response("GET").unwrap().text(), "served");
            stay.push(client);
        }
        for client in &mut few {
            client.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let error = client.stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it is open: {error}");
        }
        let told = rest(&mut many[0]);
        assert!(told.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&told));
        assert!((1..=6).contains(&proxy.totals().of(Reason::Crowded)), "{:?}", proxy.totals());
    }
}

#[test]
fn half_a_frame_is_never_followed_by_another() {
    for (sent, whole) in [(&[0x81][..], false), (&[0x81, 3, b'a', b'b'], false), (&[0x82, 0], true)]
    {
        let backend = saying([SWITCH.as_bytes(), sent].concat());
        let proxy = Proxy::over(&[&backend]);
        let mut client = proxy.send(UPGRADE);
        assert_eq!(client.head().unwrap().status(), 101);
        while client.buffer.len() < sent.len() {
            client.fill().unwrap();
        }
        proxy.threads.end_conversations(&server(&proxy));
        let expected = if whole { [sent, CLOSE].concat() } else { sent.to_vec() };
        assert_eq!(rest(&mut client), expected);
    }
}

#[test]
fn another_protocol_just_ends() {
    let switch = SWITCH.replace("websocket", "other/1");
    let backend = saying([switch.as_bytes(), b"bytes"].concat());
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(UPGRADE.replace("websocket", "other/1"));
    assert_eq!(client.head().unwrap().status(), 101);
    while client.buffer.len() < 5 {
        client.fill().unwrap();
    }
    proxy.threads.end_conversations(&server(&proxy));
    assert_eq!(rest(&mut client), b"bytes");
}

#[test]
fn server_sent_events_end_as_a_whole_response_and_other_bodies_do_not() {
    for (kind, whole) in [("text/event-stream; charset=utf-8", true), ("application/x-tar", false)]
    {
        for (framing, event) in
            [("Transfer-Encoding: chunked\r\n", "9\r\ndata: a\n\n\r\n"), ("", "data: a\n\n")]
        {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n{event}");
            let backend = saying(head.into_bytes());
            let proxy = Proxy::over(&[&backend]);
            let mut client = proxy.send(get("/events"));
            assert_eq!(client.head().unwrap().status(), 200);
            while !client.buffer.ends_with(b"data: a\n\n\r\n") {
                client.fill().unwrap();
            }
            proxy.threads.end_conversations(&server(&proxy));
            if whole {
                while !client.buffer.ends_with(b"\r\n0\r\n\r\n") {
                    assert!(client.fill().unwrap(), "it was cut: {:?}", client.buffer);
                }
                // The connection is as good as before.
                client.buffer.clear();
                client.send(get("/again"));
                assert_eq!(client.head().unwrap().status(), 200);
            } else {
                let in_flight = server(&proxy).in_flight();
                assert_eq!(in_flight, 1, "a download is not passed off as whole: {kind}");
            }
        }
    }
}
