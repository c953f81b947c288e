//! Bodies: every framing both ways, responses without one, early answers, and back-pressure.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::support::{Backend, Proxy, Wire, eventually, get, ok, until_reused};

/// Bytes that differ at every place, so that a lost or doubled part is seen.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9E37_79B9) >> 16) as u8).collect()
}

fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[test]
fn large_bodies_arrive_whole_in_every_framing() {
    let body = pattern(3_000_000);
    let sizes = [1, 5, 100, 4096, 32_768, 70_000];
    for request_chunked in [false, true] {
        for response_framing in ["length", "chunked", "close"] {
            let backend = Backend::raw(move |peer| {
                let Some(request) = peer.request() else { return };
                let body = &request.body;
                let head = match response_framing {
                    "length" => format!("Content-Length: {}\r\n", body.len()),
                    "chunked" => "Transfer-Encoding: chunked\r\n".to_owned(),
                    _ => String::new(),
                };
                let mut answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
                if response_framing == "chunked" {
                    answer.extend(chunked(body, &sizes));
                } else {
                    answer.extend_from_slice(body);
                }
                peer.send(&answer).unwrap();
            });
            let proxy = Proxy::over(&[&backend]);
            let mut client = proxy.connect();
            let mut stream = client.stream.try_clone().unwrap();
            let sent = body.clone();
            let writer = std::thread::spawn(move || {
                let (field, sent) = if request_chunked {
                    ("Transfer-Encoding: chunked".to_owned(), chunked(&sent, &sizes))
                } else {
                    (format!("Content-Length: {}", sent.len()), sent)
                };
                let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&sent).unwrap();
            });
            let response = client.final_response("POST").unwrap();
            writer.join().unwrap();
            assert!(response.body == body, "{request_chunked} {response_framing}");
            let framed = response.one("content-length").is_some();
            assert_eq!(framed, response_framing == "length");
            assert!(backend.requests()[0].body == body);
        }
    }
}

/// A response with a length.
fn with_length(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn connections_are_used_again_after_long_bodies() {
    let backend = Backend::new(|request| with_length(&request.body));
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    let body = pattern(1_000_000);
    let mut turn = 0;
    until_reused(&backend, || {
        let part = &body[turn..];
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", part.len()));
        client.send(part);
        assert!(client.final_response("POST").unwrap().body == part, "{turn}");
        turn += 1;
    });
    let totals = proxy.totals();
    let bytes = (0..turn).map(|turn| (body.len() - turn) as u64).sum();
    assert_eq!((totals.body_in, totals.body_out), (bytes, bytes));
}

#[test]
fn what_follows_a_long_response_is_nobodys_answer() {
    let body = pattern(1_000_000);
    let long = body.clone();
    let backend = Backend::new(move |request| match request.target() {
        "/surplus" => [with_length(&long), ok("evil")].concat(),
        _ => ok("good"),
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert!(client.get("/surplus").body == body);
        assert_eq!(client.get("/").text(), "good");
    }
}

#[test]
fn a_long_upload_that_breaks_off_ends_the_servers_connection() {
    let (seen, sees) = mpsc::channel();
    let backend = Backend::raw(move |peer| seen.send(peer.request().is_none()).unwrap());
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(pattern(600_000));
    drop(client);
    assert!(sees.recv_timeout(Duration::from_secs(30)).unwrap(), "it looked whole");
}

#[test]
fn trailers_pass_both_ways() {
    let backend = Backend::new(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\n\
          X-Sum: 1\r\n\r\n"
            .to_vec()
    });
    let proxy = Proxy::over(&[&backend]);
    let response = proxy.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
         Connection: TE\r\n\r\n1\r\nx\r\n0\r\nX-Client: 2\r\n\r\n",
    );
    assert_eq!(response.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let request = &backend.requests()[0];
    assert_eq!(request.trailers, [("x-client".to_owned(), "2".to_owned())]);
    assert_eq!(request.one("te"), Some("trailers"));
}

#[test]
fn responses_without_a_body_leave_the_connection_usable() {
    let backend = Backend::new(|request| match (request.method(), request.target()) {
        ("HEAD", _) => b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec(),
        (_, "/204") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        (_, "/304") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n".to_vec(),
        _ => ok("body"),
    });
    let proxy = Proxy::with(&[&backend], |settings| {
        settings.front.timeouts.upstream_idle = Duration::from_hours(1);
    });
    let mut client = proxy.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.final_response("HEAD").unwrap();
    assert_eq!(head.one("content-length"), Some("5000"));
    eventually("a body may yet come, so the server's is closed", || backend.open() == 0);
    until_reused(&backend, || assert_eq!(client.get("/204").status(), 204));
    until_reused(&backend, || assert_eq!(client.get("/304").status(), 304));
    assert_eq!(client.get("/").text(), "body");
}

#[test]
fn an_http_1_0_client_gets_what_it_understands() {
    let backend = Backend::new(|request| match request.target() {
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec()
        }
        _ => ok("ok"),
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send("GET /chunked HTTP/1.0\r\n\r\n");
    let response = client.final_response("GET").unwrap();
    assert_eq!(response.one("transfer-encoding"), None);
    assert_eq!((response.one("connection"), response.text()), (Some("close"), "ok"));

    let mut client = proxy.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.final_response("GET").unwrap();
    assert_eq!((response.one("connection"), response.text()), (Some("keep-alive"), "ok"));
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.final_response("GET").unwrap().one("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_expects_100_is_told_by_the_server() {
    let backend = Backend::raw(|peer| {
        let head = peer.head().unwrap();
        assert_eq!(head.one("expect"), Some("100-continue"));
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        while peer.reader.buffer.len() < 5 {
            peer.reader.fill().unwrap();
        }
        assert_eq!(peer.reader.buffer, b"hello");
        peer.send(&ok("done")).unwrap();
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response("POST").unwrap().status(), 100);
    client.send("hello");
    assert_eq!(client.response("POST").unwrap().text(), "done");
}

#[test]
fn a_refused_expectation_ends_the_connection_after_the_answer() {
    let backend = Backend::raw(|peer| {
        peer.head().unwrap();
        peer.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").unwrap();
        peer.wait_for_end();
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let response = client.response("POST").unwrap();
    assert_eq!((response.status(), response.one("connection")), (401, Some("close")));
    assert!(client.is_closed());
    eventually("the server's connection ends", || backend.open() == 0);
}

#[test]
fn events_are_passed_on_as_they_come() {
    let (next, go) = mpsc::channel::<()>();
    let go = std::sync::Mutex::new(go);
    let backend = Backend::raw(move |peer| {
        peer.request().unwrap();
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
        for number in 0..5 {
            go.lock().unwrap().recv().unwrap();
            peer.send(format!("data: {number}\n\n").as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(get("/"));
    assert_eq!(client.head().unwrap().one("transfer-encoding"), Some("chunked"));
    for number in 0..5 {
        next.send(()).unwrap();
        let wanted = format!("9\r\ndata: {number}\n\n\r\n");
        while client.buffer.len() < wanted.len() {
            assert!(client.fill().unwrap());
        }
        assert_eq!(client.buffer.drain(..wanted.len()).collect::<Vec<_>>(), wanted.as_bytes());
    }
}

/// How much a peer can write before the other end's not reading stops it.
fn fill(stream: &mut impl Write, count: &AtomicU64) {
    let part = vec![b'x'; 64 * 1024];
    while let Ok(written) = stream.write(&part) {
        count.fetch_add(written as u64, Ordering::SeqCst);
    }
}

/// What the sockets' own buffers take, at most: our part of it is one buffer.
const BOUND: u64 = 64 * 1024 * 1024;

#[test]
fn a_client_that_does_not_read_stops_the_server() {
    stops_the_server("");
}

#[test]
fn a_client_that_does_not_read_stops_a_server_that_said_how_long() {
    stops_the_server("Content-Length: 1000000000\r\n");
}

fn stops_the_server(framing: &'static str) {
    let count = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&count);
    let (done, is_done) = mpsc::channel();
    let backend = Backend::raw(move |peer| {
        peer.request().unwrap();
        peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n").as_bytes()).unwrap();
        let timeout = Some(Duration::from_millis(500));
        peer.reader.stream.set_write_timeout(timeout).unwrap();
        fill(&mut peer.reader.stream, &counter);
        done.send(()).unwrap();
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send(get("/"));
    is_done.recv().unwrap();
    let stopped_at = count.load(Ordering::SeqCst);
    assert!(stopped_at < BOUND, "{stopped_at}");
    // And it goes on when the client reads: all of it arrives.
    let sent = count.load(Ordering::SeqCst);
    if framing.is_empty() {
        assert_eq!(client.final_response("GET").unwrap().body.len() as u64, sent);
    } else {
        client.head().unwrap(); // what follows is cut short, as the server cut it
        while client.fill().unwrap_or(false) {}
        assert_eq!(client.buffer.len() as u64, sent);
    }
}

#[test]
fn a_server_that_does_not_read_stops_the_client() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::raw(move |peer| {
        let _ = wait.lock().unwrap().recv();
        peer.wait_for_end();
    });
    let proxy = Proxy::over(&[&backend]);
    let mut client = proxy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let count = AtomicU64::new(0);
    fill(&mut client.stream, &count);
    assert!(count.load(Ordering::SeqCst) < BOUND, "{count:?}");
    drop(release);
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    let broken = Backend::raw(move |peer| {
        let request = peer.request().unwrap();
        let long = &with_length(&pattern(1_000_000))[..600_000];
        let answer: &[u8] = match request.target() {
            "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "/long" => long,
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        };
        peer.send(answer).unwrap();
    });
    let proxy = Proxy::over(&[&broken]);
    for path in ["/length", "/long", "/chunked"] {
        let mut client = proxy.send(get(path));
        assert!(client.final_response("GET").is_err(), "{path}");
    }
}
