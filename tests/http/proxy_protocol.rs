//! The PROXY protocol, from proxies in front and to servers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use roundsman::config::Settings;
use roundsman::config::settings::Listener;
use roundsman::config::settings::ProxyVersion;
use roundsman::front::Reason;
use roundsman::io::preface::{self, Said};

use super::support::pki::{Authority, https};
use super::support::{Backend, PATIENCE, Proxy, Wire, eventually, get, program, until_reused};

/// A front that believes loopback, and whose listener wants headers.
fn proxied(backend: &Backend, change: impl FnOnce(&mut Settings)) -> Proxy {
    Proxy::with(&[backend], |settings| {
        let listener = Listener { proxy_protocol: true, ..Listener::default() };
        settings.front.listeners.insert("http".into(), listener);
        settings.front.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        change(settings);
    })
}

fn header(version: ProxyVersion, from: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::new();
    preface::write(&mut out, version, Some((from.parse().unwrap(), to.parse().unwrap())));
    out
}

#[test]
fn the_client_is_who_the_header_says() {
    let backend = Backend::named("ok");
    let proxy = proxied(&backend, |_| {});
    for (version, from, to) in [
        (ProxyVersion::V1, "192.0.2.7:1000", "198.51.100.1:443"),
        (ProxyVersion::V2, "192.0.2.7:1000", "198.51.100.1:443"),
        (ProxyVersion::V1, "[2001:db8::7]:1000", "[2001:db8::1]:443"),
        (ProxyVersion::V2, "[2001:db8::7]:1000", "[2001:db8::1]:443"),
    ] {
        let mut bytes = header(version, from, to);
        // What the client itself claims is not believed.
        bytes.extend(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
        // In one piece, and byte by byte.
        let whole = proxy.send(&bytes).final_response("GET").unwrap();
        let mut client = proxy.connect();
        for byte in &bytes {
            client.send([*byte]);
        }
        let pieces = client.final_response("GET").unwrap();
        assert_eq!((whole.text(), pieces.text()), ("ok", "ok"));
        for request in backend.requests().iter().rev().take(2) {
            let from: SocketAddr = from.parse().unwrap();
            assert_eq!(request.one("x-forwarded-for"), Some(from.ip().to_string().as_str()));
            assert_eq!(request.one("x-forwarded-port"), Some("443"));
        }
        // The header is there once, and requests follow as ever.
        assert_eq!(client.get("/again").text(), "ok");
    }
    // A health check of the proxy in front comes from itself.
    for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let answer = proxy.ask_after(unknown, &get("/"));
        assert_eq!(answer.text(), "ok");
        let seen = backend.requests();
        assert_eq!(seen.last().unwrap().one("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[test]
fn without_a_good_header_there_is_no_connection() {
    let backend = Backend::named("ok");
    let proxy = proxied(&backend, |settings| {
        settings.front.timeouts.client_header = Duration::from_millis(200);
    });
    let closes = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(proxy.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        assert!(!matches!(socket.read(&mut [0; 1]), Ok(1)), "{bytes:?}");
    };
    closes(get("/").as_bytes());
    closes(b"PROXY TCP4 nobody nowhere 1 2\r\n");
    closes(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x01x");
    closes(b"PROXY TCP4 192.0.2.1 "); // and never the rest
    eventually("each is counted", || {
        let totals = proxy.totals();
        (totals.of(Reason::ProxyMalformed), totals.of(Reason::ProxyTimeout)) == (3, 1)
    });
    assert_eq!(backend.connections(), 0);
}

#[test]
fn only_trusted_proxies_are_listened_to() {
    let backend = Backend::named("ok");
    let proxy = proxied(&backend, |settings| {
        settings.front.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let mut client = proxy.send(header(ProxyVersion::V2, "10.0.0.1:1", "10.0.0.2:2"));
    let _ = client.stream.write_all(get("/").as_bytes());
    assert!(!matches!(client.stream.read(&mut [0; 1]), Ok(1)));
    eventually("it is counted", || proxy.totals().of(Reason::ProxyUntrusted) == 1);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn tls_follows_the_header_and_curl_sends_both() {
    let authority = Authority::new();
    let identity = authority.sign("a", &["a.example"]);
    let backend = Backend::named("ok");
    let proxy = proxied(&backend, |settings| {
        let listener = Listener { proxy_protocol: true, ..https(&[&identity]) };
        settings.front.listeners.insert("http".into(), listener);
    });
    let port = proxy.address.port();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20"])
        .args(["--haproxy-protocol", "--cacert"])
        .arg(authority.file())
        .args(["--resolve", &format!("a.example:{port}:127.0.0.1")])
        .arg(format!("https://a.example:{port}/"));
    let output = curl.output().unwrap();
    assert!(output.status.success() && output.stdout == b"ok", "{output:?}");
    assert_eq!(backend.requests()[0].one("x-forwarded-proto"), Some("https"));
}

/// A server that wants headers, and says who its client is.
fn told() -> Backend {
    Backend::raw(|peer| {
        let mut bytes = Vec::new();
        let said = loop {
            if let Some((said, _)) = preface::parse(&bytes).unwrap() {
                break said;
            }
            let mut byte = [0];
            peer.reader.stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        };
        let who = match said {
            Said::From(from, _) => from.ip().to_string(),
            Said::Nothing => "nobody".to_owned(),
        };
        while peer.request().is_some() {
            let body = format!("{who} on {}", peer.number);
            if peer.send(&super::support::ok(&body)).is_err() {
                return;
            }
        }
    })
}

#[test]
fn servers_are_told_and_no_two_clients_share_a_connection() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let backend = told();
        let proxy = proxied(&backend, |settings| {
            let upstream = settings.upstreams.get_mut("test").unwrap();
            upstream.balancing.proxy_protocol = Some(version);
            upstream.servers[0].options.proxy_protocol = Some(version);
        });
        let ask = |from: &str| {
            let mut bytes = header(version, &format!("{from}:1"), "192.0.2.99:80");
            bytes.extend(get("/").as_bytes());
            proxy.send(&bytes).final_response("GET").unwrap().text().to_owned()
        };
        // Whose each connection is.
        let mut owners = std::collections::HashMap::new();
        until_reused(&backend, || {
            for client in ["192.0.2.1", "192.0.2.2"] {
                let answer = ask(client);
                let (told, connection) = answer.split_once(" on ").unwrap();
                assert_eq!(told, client);
                let owner = owners.entry(connection.to_owned()).or_insert(client);
                assert_eq!(*owner, client, "a connection is one client's");
            }
        });
    }
}

/// Behind the header there is plain TCP again, and the kernel hands the pages of a long body on.
#[test]
fn long_bodies_are_spliced_behind_a_header() {
    let backend = Backend::raw(|peer| {
        while peer.request().is_some() {
            let _ = peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            let data = vec![b'x'; 100_000];
            for _ in 0..1000 {
                if peer.send(&data).is_err() {
                    return;
                }
            }
        }
    });
    let front = program(
        &[&backend],
        "trusted-proxies = [\"127.0.0.0/8\"]\n[listen.http]\nproxy-protocol = true\n",
    );
    let pipes = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", front.process.id())).unwrap();
        let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
    };
    let before = pipes();
    let header = header(ProxyVersion::V2, "192.0.2.7:1000", "198.51.100.1:443");
    let mut client = front.send([&header[..], get("/").as_bytes()].concat());
    // Nobody reads, so some of it stays where it is.
    eventually("there is a pipe", || pipes() > before);
    let response = client.final_response("GET").unwrap();
    assert!(response.body.len() == 100_000_000 && response.body.iter().all(|b| *b == b'x'));
}
