//! Upgrades: the two-way copy, and what must not come through it.

use std::io::Write;

use super::support::{Backend, Client, Proxy, Wire, eventually, get, ok};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

/// A server that switches and then echoes; other requests get an answer.
fn echo() -> Backend {
    Backend::raw(|peer| {
        while let Some(request) = peer.request() {
            if request.one("upgrade") != Some("websocket") {
                peer.send(&ok("plain")).unwrap();
                continue;
            }
            assert_eq!(request.one("connection"), Some("Upgrade"));
            let early = std::mem::take(&mut peer.reader.buffer);
            assert!(early.is_empty(), "bytes before the switch: {early:?}");
            peer.send(&[SWITCH, b"greeting"].concat()).unwrap();
            while let Ok(true) = peer.reader.fill() {
                let bytes = std::mem::take(&mut peer.reader.buffer);
                peer.send(&bytes).unwrap();
            }
            return;
        }
    })
}

fn read(client: &mut Client, count: usize) -> Vec<u8> {
    while client.buffer.len() < count {
        assert!(client.fill().unwrap(), "the tunnel ended at {:?}", client.buffer);
    }
    client.buffer.drain(..count).collect()
}

#[test]
fn bytes_go_both_ways_and_those_before_the_switch_wait_for_it() {
    let backend = echo();
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(format!("{UPGRADE}early"));
    let response = client.head().unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.one("upgrade"), Some("websocket"));
    assert_eq!(response.one("sec-websocket-accept"), Some("x"));
    assert_eq!(read(&mut client, 13), b"greetingearly");
    for number in 0..100_u32 {
        let message = number.to_be_bytes();
        client.send(message);
        assert_eq!(read(&mut client, 4), message);
    }
    assert_eq!(proxy.totals().upgraded, 1);
    // The tunnel is a request in flight for as long as it lasts.
    let server = proxy.front.snapshot().servers().next().map(|(_, s)| s.clone()).unwrap();
    assert_eq!(server.in_flight(), 1);
    drop(client);
    eventually("the tunnel ends", || server.in_flight() == 0 && backend.open() == 0);
    assert_eq!(proxy.totals().upgraded, 0);
}

#[test]
fn each_direction_ends_for_itself() {
    let backend = Backend::raw(|peer| {
        peer.request().unwrap();
        peer.send(SWITCH).unwrap();
        peer.wait_for_end();
        let count = peer.reader.buffer.len();
        peer.send(format!("got {count}").as_bytes()).unwrap();
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(UPGRADE);
    client.head().unwrap();
    client.stream.write_all(&vec![b'x'; 300_000]).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read(&mut client, 10), b"got 300000");
    assert!(client.is_closed());
}

#[test]
fn when_the_server_does_not_switch_what_follows_is_the_next_request() {
    let backend = Backend::named("no");
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(format!("{UPGRADE}{}", get("/next")));
    assert_eq!(client.final_response("GET").unwrap().text(), "no");
    assert_eq!(client.final_response("GET").unwrap().text(), "no");
    assert_eq!(backend.requests()[1].target(), "/next");
}

#[test]
fn an_idle_tunnel_ends() {
    let backend = echo();
    let proxy = Proxy::with(&[&backend], |s| {
        s.front.timeouts.tunnel_idle = std::time::Duration::from_millis(200);
    });
    let mut client = proxy.send(UPGRADE);
    client.head().unwrap();
    assert_eq!(read(&mut client, 8), b"greeting");
    assert!(client.is_closed());
}
