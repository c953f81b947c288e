//! Who is blamed for a request that failed: a server only for what another one did better, or for what
//! no request can bring about.

use std::sync::atomic::{AtomicBool, Ordering};

use super::support::{Client, Front, settings};
use super::{eventually, origins};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";

/// Requests that fail at every server, each with its fields, its body and the status that it gets.
const HARMFUL: [(&str, &str, &str, u16); 6] = [
    ("GET /destroyed", UPGRADE, "", 502),
    ("GET /destroyed", "", "", 502),
    ("POST /destroyed", "Content-Length: 1\r\n", "x", 502),
    ("GET /large-head", "", "", 502),
    ("GET /unavailable", "", "", 503),
    ("POST /unavailable", "Content-Length: 1\r\n", "x", 503),
];

#[test]
fn one_client_takes_no_server_out() {
    let mut origins = origins(4);
    let front = Front::start(2, &origins, &[1; 4], "");
    let harm = || {
        let mut client = Client::new(&front);
        for (line, fields, body, status) in HARMFUL {
            let fields = format!("X-Forwarded-For: 192.0.2.66\r\n{fields}");
            for _ in 0..24 {
                let line = format!("{line} HTTP/1.1");
                let got = client.ask(&line, &fields, body).expect("an answer");
                assert_eq!(got.status(), status, "{line}: {got:?}");
            }
        }
    };
    let unharmed = |when: &str| {
        let all: Vec<_> = (0..4).map(|server| front.transitions(server).to_string()).collect();
        assert!(!all.concat().contains("ejected"), "{when}: {all:?}");
        assert!(front.servers().iter().all(|(state, _)| state == "up"), "{when}");
    };
    harm();
    unharmed("alone");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = Client::new(&front);
            while !over.load(Ordering::SeqCst) {
                let got = other.get("X-Forwarded-For: 192.0.2.1\r\n").expect("an answer");
                assert_eq!(got.status(), 200);
            }
        });
        harm();
        over.store(true, Ordering::SeqCst);
    });
    unharmed("beside another one");
    // What is its own doing is seen, so all that was before has been looked at.
    origins[3].kill();
    let mut client = Client::new(&front);
    eventually("who is gone is taken out", || {
        assert_eq!(client.get("").expect("another one answers").status(), 200);
        front.transitions(3).to_string().contains("ejected")
    });
    let others: Vec<_> = (0..3).map(|server| front.transitions(server).to_string()).collect();
    assert!(!others.concat().contains("ejected"), "{others:?}");
    assert!(front.failures()[..3].iter().all(|count| *count > 0), "they are counted all the same");
}

#[test]
fn want_of_descriptors_is_our_own() {
    let origins = origins(2);
    let servers = origins.iter().map(|o| format!("{{ address = \"{}\" }}", o.address));
    let servers = servers.collect::<Vec<_>>().join(", ");
    let settings = settings(1) + "[limits]\nupstream-idle-connections = 0\n";
    let check = "[health]\ntcp = true\nfails = 1\ninterval = \"100ms\"\n";
    let upstream = format!("servers = [{servers}]\n{check}");
    let front = Front::with(&settings, &[("upstreams/api.toml", &upstream)]);
    let mut clients: Vec<_> = (0..4).map(|_| Client::new(&front)).collect();
    for client in &mut clients {
        assert_eq!(client.get("").expect("an answer").status(), 200);
    }
    front.limit_descriptors(3);
    for client in &mut clients {
        assert_eq!(client.get("").expect("an answer").status(), 503);
    }
    eventually("nobody is checked", || {
        let log = front.log();
        (origins.iter()).all(|o| log.contains(&format!("{} is not checked for now", o.address)))
    });
    front.limit_descriptors(1000);
    for client in &mut clients {
        assert_eq!(client.get("").expect("an answer").status(), 200);
    }
    assert_eq!(front.failures(), [0, 0]);
    assert!(front.servers().iter().all(|(state, _)| state == "up"));
    let log = front.log();
    assert_eq!(log.matches("no room for another connection").count(), 1, "{log}");
}
