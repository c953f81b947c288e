//! Every case of `tests/data/http1.json` at the wire, through the real binary: the verdict, what the
//! server got, and what the client got. What the front sent is read by h11, too, a parser that others
//! have written.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::support::Reader;
use super::support::{Backend, Client, Message, Proxy, Wire, get, ok, program, python};

/// Cases where we take another of the verdicts that the RFC permits, each with its reason.
const OTHER_VERDICT: [(&str, &str, &str); 4] = [
    ("ch-bare-semicolon", "400", "the grammar wants a name"),
    ("rs-ch-data-no-crlf", "502", "it is seen before anything is sent"),
    ("rs-ch-size-overflow", "502", "it is seen before anything is sent"),
    ("rs-line-nul", "502", "never relayed"),
];

pub(super) fn cases(side: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../data/http1.json")).unwrap();
    let all = file["cases"].as_array().unwrap();
    assert_eq!(all.len(), 118);
    all.iter().filter(|case| case["side"] == side).cloned().collect()
}

/// Expands `<<text*count>>`, and takes each character for one byte.
pub(super) fn raw(text: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        let (repeated, after) = after.split_once(">>").unwrap();
        let (unit, count) = repeated.rsplit_once('*').unwrap();
        out.push_str(before);
        out.push_str(&unit.repeat(count.parse().unwrap()));
        rest = after;
    }
    out.push_str(rest);
    out.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn expected(case: &Value) -> String {
    let id = case["id"].as_str().unwrap();
    let verdict = OTHER_VERDICT.iter().find(|(other, ..)| *other == id).map(|(_, v, _)| *v);
    let expect = case["expect"].as_str().unwrap();
    if let Some(verdict) = verdict
        && verdict != expect
    {
        let permitted = case["also_ok"].as_array().unwrap().iter().any(|v| v == verdict);
        assert!(permitted, "{id}: {verdict} is not permitted");
    }
    verdict.unwrap_or(expect).to_owned()
}

/// All that a backend got, read once more by the strict parser.
pub(super) fn arrived(backend: &Backend) -> Vec<Message> {
    let mut requests = Vec::new();
    for raw in backend.raw_bytes() {
        let mut reader = Reader::new(&raw[..]);
        while reader.fill().unwrap() {}
        while !reader.buffer.is_empty() {
            requests.push(reader.request().unwrap());
        }
    }
    requests
}

#[test]
fn requests() {
    let mut sent = Vec::new();
    for case in cases("request") {
        let id = case["id"].as_str().unwrap();
        let backend = Backend::named("ok");
        let proxy = program(&[&backend], "");
        let mut client = proxy.send(raw(case["raw"].as_str().unwrap()));
        let method = if id == "gb-head-with-body" { "HEAD" } else { "GET" };
        let first = client.final_response(method).unwrap_or_else(|e| panic!("{id}: {e}"));
        match expected(&case).as_str() {
            "accept" => {
                assert_eq!(first.status(), 200, "{id}: {first:?}");
                accepted(id, &mut client);
            }
            "close" => assert!(client.is_closed(), "{id}: the connection stays open"),
            status => {
                assert_eq!(first.status().to_string(), status, "{id}: {first:?}");
                assert_eq!(first.one("connection"), Some("close"), "{id}");
                assert!(client.is_closed(), "{id}: the connection stays open");
                let raw = backend.raw_bytes().concat();
                assert!(raw.is_empty(), "{id}: the server got {:?}", String::from_utf8_lossy(&raw));
            }
        }
        let requests = arrived(&backend);
        at_the_backend(id, &requests);
        for request in &requests {
            // Nothing gets through without the proxy's own policy.
            assert_eq!(request.one("x-forwarded-for"), Some("127.0.0.1"), "{id}");
            assert_eq!(
                request.one("via").map(|v| &v[1..]),
                Some(".1 roundsman").filter(|_| id != "rl-http10-no-host").or(Some(".0 roundsman")),
                "{id}"
            );
        }
        sent.push(json!({
            "id": id,
            "methods": [method],
            "to_client": latin1(&client.raw),
            "to_servers": backend.raw_bytes().iter().map(|raw| latin1(raw)).collect::<Vec<_>>(),
        }));
    }
    read_by_h11(&sent);
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| *byte as char).collect()
}

/// Whatever the verdict, what we send parses.
fn read_by_h11(sent: &[Value]) {
    let said = python("read_by_h11.py", &serde_json::to_vec(sent).unwrap());
    assert_eq!(said.trim(), format!("{} read", sent.len()));
}

/// What follows an accepted message on the same connection.
fn accepted(id: &str, client: &mut Client) {
    match id {
        "pl-valid-then-garbage" => {
            assert_eq!(client.final_response("GET").unwrap().status(), 400, "{id}");
            assert!(client.is_closed(), "{id}");
        }
        "ch-then-pipelined" | "up-premature" => {
            assert_eq!(client.final_response("GET").unwrap().status(), 200, "{id}");
            assert_eq!(client.get("/after").status(), 200, "{id}");
        }
        // They say `close` themselves, or are too old to stay.
        "cn-nominates-framing" | "cn-nominates-host" | "rl-http10-no-host" => {
            assert!(client.is_closed(), "{id}");
        }
        _ => assert_eq!(client.get("/after").status(), 200, "{id}"),
    }
}

/// The `backend` conditions.
fn at_the_backend(id: &str, requests: &[Message]) {
    // In no order: connections to servers rest, and which request comes on which one is not said.
    let mut targets: Vec<_> = requests.iter().map(Message::target).collect();
    targets.sort_unstable();
    let Some(first) = requests.first() else {
        assert!(!id.starts_with("gb-"), "{id}");
        return;
    };
    match id {
        "ch-ok-ext-trailer" => {
            assert_eq!(first.text(), "hello");
            assert_eq!(first.trailers, [("x-t".to_owned(), "1".to_owned())]);
        }
        "ch-size-upper-hex" => assert_eq!(first.text(), "helloworld"),
        "ch-trailer-framing" => {
            assert_eq!(first.text(), "hello");
            assert!(first.trailers.is_empty(), "{first:?}");
            assert_eq!(first.one("host"), Some("a.example"));
        }
        "ch-then-pipelined" => assert_eq!(targets, ["/after", "/p", "/second"]),
        "ch-trailer-looks-like-request" => assert_eq!(targets, ["/after", "/p"]),
        "te-mixed-case" | "cn-nominates-framing" => assert_eq!(first.text(), "hello"),
        "cn-nominates-host" => assert_eq!(first.one("host"), Some("a.example")),
        "f-alias-xff" => {
            assert!(!first.fields.iter().any(|(n, _)| n.starts_with("x_")), "{first:?}");
            assert_eq!(first.one("x-forwarded-proto"), Some("http"));
        }
        "gb-get-with-body" | "gb-head-with-body" => {
            assert_eq!(targets, ["/after", "/g"], "{id}");
            assert_eq!(first.body.len(), 40);
        }
        "rl-absolute-host-differs" => {
            assert_eq!(first.one("host"), Some("b.example"));
            assert_eq!(first.start, "GET /g HTTP/1.1");
        }
        // The parser wants exactly one Host.
        "cn-close-then-pipelined" | "pl-valid-then-garbage" | "rl-http10-no-host" => {
            assert_eq!(targets, ["/g"], "{id}");
        }
        "rl-leading-crlf" => assert_eq!(targets, ["/after", "/g"]),
        "rl-method-lowercase" => assert_eq!(first.method(), "get"),
        "rl-asterisk-options" => assert_eq!(first.start, "OPTIONS * HTTP/1.1"),
        "up-h2c" | "up-without-connection" => {
            assert_eq!(first.one("upgrade"), None, "{id}");
            assert_eq!(first.one("http2-settings"), None, "{id}");
            assert_eq!(first.one("connection"), None, "{id}");
        }
        "up-premature" => assert_eq!(targets, ["/after", "/g", "/smuggled"]),
        "cl-double-zero" => assert_eq!(first.one("content-length").unwrap_or("0"), "0"),
        "ex-no-body" => assert_eq!(first.one("expect"), None),
        _ => assert!(!targets.contains(&"/evil"), "{id}: {targets:?}"),
    }
}

#[test]
fn responses() {
    let mut sent = Vec::new();
    for case in cases("response") {
        let id = case["id"].as_str().unwrap().to_owned();
        let bytes = raw(case["raw"].as_str().unwrap());
        let (on_head, close) = (case["reply"] == "on-head", case["end"] == "close");
        let asked = AtomicUsize::new(0);
        let backend = Backend::raw(move |peer| {
            loop {
                let request = if on_head { peer.head() } else { peer.request() };
                if request.is_none() {
                    return;
                }
                let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
                let answer = if first { bytes.clone() } else { ok("after") };
                if peer.send(&answer).is_err() || (first && close) {
                    return;
                }
            }
        });
        let proxy = program(&[&backend], "[retries]\nattempts = 0\n");
        let request = case["request"].as_str().map_or_else(|| get("/g").into_bytes(), raw);
        let mut client = proxy.send(request);
        let first = client.final_response("GET");
        match expected(&case).as_str() {
            "accept" => at_the_client(&id, &first.unwrap(), &client),
            "close" => assert!(first.is_err(), "{id}: a clean end: {first:?}"),
            status => assert_eq!(first.unwrap().status().to_string(), status, "{id}"),
        }
        let raw = latin1(&client.raw);
        assert!(!raw.contains("HTTP/1.1 101"), "{id}: {raw}");
        assert!(!raw.contains("evil"), "{id}: {raw}");
        // And nothing of it is left for whoever asks next.
        let after = proxy.ask(get("/after"));
        assert_eq!((after.status(), after.text()), (200, "after"), "{id}");
        let after = proxy.ask(get("/again"));
        assert_eq!((after.status(), after.text()), (200, "after"), "{id}");
        // A response that broke off is not to look whole.
        let to_client = if expected(&case) == "close" { String::new() } else { raw };
        // The server answered before it had the body, and never got the rest of it.
        let cut = usize::from(id == "rs-early-final");
        let to_servers: Vec<_> =
            backend.raw_bytes().iter().skip(cut).map(|raw| latin1(raw)).collect();
        sent.push(json!({
            "id": id,
            "methods": ["GET"],
            "to_client": to_client,
            "to_servers": to_servers,
        }));
    }
    read_by_h11(&sent);
}

/// The `client` conditions of what is relayed.
fn at_the_client(id: &str, response: &Message, client: &Client) {
    match id {
        "rs-100-unasked" | "rs-103" => {
            assert_eq!((response.status(), response.text()), (200, "ok"), "{id}");
            let hints = client.raw.starts_with(b"HTTP/1.1 103 Early Hints\r\nLink: ");
            assert_eq!(hints, id == "rs-103");
        }
        "rs-204-with-body" => {
            assert_eq!(response.status(), 204);
            assert!(client.buffer.is_empty(), "{:?}", client.buffer);
        }
        "rs-ch-trailer-split" => {
            assert_eq!(response.text(), "ok");
            assert_eq!((response.one("set-cookie"), response.one("content-length")), (None, None));
            assert_eq!(response.trailers, [("set-cookie".to_owned(), "a=b".to_owned())]);
        }
        "rs-cl-dup-same" => {
            assert_eq!(response.one("content-length"), Some("5"));
            assert_eq!(response.text(), "hello");
        }
        "rs-connection-listed" => {
            assert_eq!(response.one("x-internal"), None);
            assert_eq!(response.one("keep-alive"), None);
            assert_eq!(response.text(), "ok");
        }
        "rs-early-final" => assert_eq!(response.status(), 413),
        "rs-line-no-reason" => assert_eq!(response.start, "HTTP/1.1 200 "),
        other => panic!("{other} has no conditions"),
    }
}

/// Every byte that is no visible ASCII, at every place of the two framing fields: what is not
/// plainly right is refused, and no server sees any of it.
#[test]
fn mutated_framing_fields() {
    let backend = Backend::named("ok");
    let proxy = Proxy::over(&[&backend]);
    let strange: Vec<u8> = (0..0x20).chain(0x7f..=0xff).collect();
    let places = [
        "@NAME: VALUE",
        "NA@ME: VALUE",
        "NAME@: VALUE",
        "NAME:@VALUE",
        "NAME: VA@LUE",
        "NAME: VALUE@",
    ];
    let fields = [
        (["Transfer", "-Encoding"], ["chun", "ked"], "5\r\nhello\r\n0\r\n\r\n"),
        (["Content", "-Length"], ["1", "5"], "hello, hello, h"),
    ];
    let mut accepted = 0;
    for ([name, name_end], [value, value_end], body) in fields {
        for place in places {
            for byte in &strange {
                for other in ["", "Content-Length: 15\r\n"] {
                    let line = place
                        .replace("NAME", &format!("{name}{name_end}"))
                        .replace("VALUE", &format!("{value}{value_end}"))
                        .replace("NA@ME", &format!("{name}@{name_end}"))
                        .replace("VA@LUE", &format!("{value}@{value_end}"));
                    let mut request = b"POST /p HTTP/1.1\r\nHost: a.example\r\n".to_vec();
                    request.extend(line.bytes().map(|b| if b == b'@' { *byte } else { b }));
                    request.extend_from_slice(format!("\r\n{other}\r\n{body}").as_bytes());
                    let status = proxy.ask(&request).status();
                    // White space around a value is no part of it.
                    let plain = *byte == b'\t'
                        && other.is_empty()
                        && place.contains(": ")
                        && (place.ends_with("VALUE@"))
                        || *byte == b'\t' && other.is_empty() && place == "NAME:@VALUE";
                    if plain {
                        accepted += 1;
                        assert_eq!(status, 200, "{:?}", String::from_utf8_lossy(&request));
                    } else {
                        assert!(
                            matches!(status, 400 | 501),
                            "{status}: {:?}",
                            String::from_utf8_lossy(&request)
                        );
                    }
                }
            }
        }
    }
    assert_eq!(accepted, 4);
    assert_eq!(backend.requests().len(), accepted);
    assert!(arrived(&backend).iter().all(|request| request.body.starts_with(b"hello")));
}
