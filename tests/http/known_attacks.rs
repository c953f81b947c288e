//! What proxies were broken with before: one test for each advisory that concerns HTTP/1.1 and is not
//! among the cases already, through the real binary.
//!
//! The other advisories' tests: request framing, chunks, targets and fields are in `cases.rs`; unasked
//! bytes from a server in `retries.rs`; slow clients in `limits.rs`.

use super::cases::arrived;
use super::support::{Backend, Message, Wire, get, ok, program};

/// A request that would be served if it were taken for one.
const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// The message is refused with this status, the connection ends, and no server sees any of it.
fn refused(advisory: &str, raw: &str, status: u16) {
    let backend = Backend::named("ok");
    let front = program(&[&backend], "");
    let mut client = front.send(raw);
    let response = client.final_response("GET").unwrap_or_else(|e| panic!("{advisory}: {e}"));
    assert_eq!(response.status(), status, "{advisory}: {response:?}");
    assert!(client.is_closed(), "{advisory}: the connection stays open");
    assert!(backend.raw_bytes().concat().is_empty(), "{advisory}: {:?}", arrived(&backend));
}

/// The message arrives as one request, which is returned, and the connection serves another one.
fn one_request(advisory: &str, raw: &str) -> Message {
    let backend = Backend::named("ok");
    let front = program(&[&backend], "");
    let mut client = front.send(raw);
    assert_eq!(client.final_response("GET").unwrap().status(), 200, "{advisory}");
    assert_eq!(client.get("/after").status(), 200, "{advisory}");
    let requests = arrived(&backend);
    let targets: Vec<_> = requests.iter().map(Message::target).collect();
    assert_eq!(targets, ["/p", "/after"], "{advisory}");
    requests.into_iter().next().unwrap()
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n\r\n{body}")
}

#[test]
fn framing_that_two_parsers_read_differently() {
    let chunked = "Transfer-Encoding: chunked";
    refused(
        "CVE-2026-2835 (pingora)",
        &{ format!("POST /p HTTP/1.0\r\n{chunked}\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{EVIL}") },
        400,
    );
    refused("hyper #4123", &post(&format!("{chunked}\r\nContent-Length: 5"), "0\r\n\r\n"), 400);
    refused(
        "CVE-2021-32714 (hyper)",
        &post(chunked, &format!("{}5\r\nhello", "f".repeat(16))),
        400,
    );
    refused(
        "CVE-2023-40225 (HAProxy)",
        &post("Content-Length: \r\nContent-Length: 5", "hello"),
        400,
    );
    refused("chunk extensions, 2025", &post(chunked, "5;a\rb\r\nhello\r\n0\r\n\r\n"), 400);
    // The length of a name wraps in a byte, and the field behind it is not seen.
    for length in [255, 256, 257, 270, 512] {
        let long = "a".repeat(length);
        let fields = format!("Content-Length: 5\r\n{long}: 1\r\nContent-Length: 0");
        refused("CVE-2021-40346 (HAProxy)", &post(&fields, "hello"), 400);
    }
}

#[test]
fn targets_that_two_parsers_read_differently() {
    refused("CVE-2013-4547 (nginx)", "GET /p /x HTTP/1.1\r\nHost: a.example\r\n\r\n", 400);
    refused("CVE-2013-4547 (nginx)", "GET /p\\ HTTP/1.1 HTTP/1.1\r\nHost: a.example\r\n\r\n", 400);
    let backend = Backend::named("ok");
    let front = program(&[&backend], "");
    let response = front.ask(get("/p%0d%0aX-Evil:%201"));
    assert_eq!(response.one("x-evil"), None, "CVE-2017-18587 (hyper)");
    let requests = arrived(&backend);
    assert_eq!(requests[0].target(), "/p%0d%0aX-Evil:%201");
    assert_eq!(requests[0].one("x-evil"), None);
}

#[test]
fn bodies_that_become_requests() {
    let chunk = format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len());
    let chunked = post("Transfer-Encoding: chunked", &chunk).replacen("POST", "GET", 1);
    assert_eq!(one_request("CVE-2020-35863 (hyper)", &chunked).text(), EVIL);

    let length = format!("Content-Length: {}", EVIL.len());
    let upgrade = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{length}");
    let request = one_request("CVE-2026-58055 (nghttpx)", &post(&upgrade, EVIL));
    assert_eq!(request.text(), EVIL);
}

/// CVE-2025-4366 (pingora): what follows an answer of the proxy's own on the same connection.
#[test]
fn the_body_of_a_request_that_no_server_gets_is_no_request() {
    let backend = Backend::named("ok");
    let front = program(&[&backend], "[limits]\nbody = \"100B\"\n");
    let unknown = post(&format!("Content-Length: {}", EVIL.len()), EVIL);
    // Without an upstream the front answers itself.
    let nowhere = program(&[], "");
    let mut client = nowhere.send(format!("{unknown}{}", get("/after")));
    for _ in 0..2 {
        assert_eq!(client.final_response("GET").unwrap().status(), 503);
    }
    assert!(client.buffer.is_empty(), "three answers to two requests");

    let large = format!("{}{}", "x".repeat(100), EVIL);
    let mut client = front.send(post(&format!("Content-Length: {}", large.len()), &large));
    assert_eq!(client.final_response("GET").unwrap().status(), 413);
    assert!(client.is_closed());
    assert!(arrived(&backend).is_empty());
}

#[test]
fn fields_that_only_the_front_may_set() {
    let spoofed = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\
                   \r\nX_Forwarded_For: 6.6.6.6\r\nContent-Length: 0";
    let request = one_request("CVE-2026-30851 (caddy)", &post(spoofed, ""));
    assert_eq!(request.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.one("x-forwarded-proto"), Some("http"));
    assert!(!request.one("forwarded").unwrap().contains("6.6.6.6"), "{request:?}");
    assert_eq!(request.one("x_forwarded_for"), None);

    let nominated = "Connection: X-Forwarded-For, X-Forwarded-Proto, Via\r\nContent-Length: 0";
    let request = one_request("CVE-2024-45410 (traefik)", &post(nominated, ""));
    assert_eq!(request.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.one("x-forwarded-proto"), Some("http"));
    assert!(request.one("via").is_some());
}

/// "HTTP/1.1 must die", 2025: who waits for 100 (Continue), and who does not see that it is asked for.
#[test]
fn expectations_that_two_parsers_read_differently() {
    for expect in ["100-continue, x", "x", "100-continue x", "\"100-continue\"", "100-continue;q=1"]
    {
        let raw = post(&format!("Expect: {expect}\r\nContent-Length: {}", EVIL.len()), EVIL);
        let backend = Backend::named("ok");
        let front = program(&[&backend], "");
        let mut client = front.send(raw);
        let status = client.final_response("POST").unwrap().status();
        assert_eq!(status, 417, "{expect}");
        assert!(backend.raw_bytes().concat().is_empty(), "{expect}: {:?}", arrived(&backend));
    }
}

#[test]
fn response_lengths_that_two_parsers_read_differently() {
    for length in ["+2", "0x2", "2,3", "2 2", "-0", "2_", "18446744073709551618"] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok");
        let backend = Backend::new(move |request| {
            if request.target() == "/p" { answer.clone().into_bytes() } else { ok("after") }
        });
        let front = program(&[&backend], "[retries]\nattempts = 0\n");
        assert_eq!(front.ask(get("/p")).status(), 502, "CVE-2021-32715 (hyper): {length}");
        assert_eq!(front.ask(get("/after")).text(), "after", "{length}");
    }
}
