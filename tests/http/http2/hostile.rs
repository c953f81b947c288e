//! Clients that send frames to do harm, against the real program: each is told to calm down, costs
//! little, and leaves the others alone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use roundsman::front::Reason;

use crate::http::support::{
    Backend, PATIENCE, Program, Wire as _, counted, eventually, get, ok, talking_program,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET / HTTP/2` for `a`, by the static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
const ENHANCE_YOUR_CALM: u32 = 11;

/// Its `roundsman.toml`.
const FRONT: &str = "[listen.http]\nhttp2 = true\n[threads]\ncount = 1\n";
/// Frames that a hostile client sends in all, unless it is stopped.
const MANY: usize = 300_000;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn stream(round: usize) -> u32 {
    round as u32 * 2 + 1
}

/// What became of an attack.
#[derive(Debug)]
struct End {
    /// The code of the last GOAWAY, if there was one.
    goaway: Option<u32>,
    /// Bytes that were taken before the connection ended.
    taken: usize,
    /// Bytes that came back.
    came: usize,
}

/// Sends `begin`, and then a frame for each round, until that is enough or the front ends it.
fn attack(program: &Program, begin: &[u8], round: impl Fn(usize) -> Vec<u8>) -> End {
    let mut socket = TcpStream::connect(program.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut reader = socket.try_clone().unwrap();
    let read = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut part = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut part) {
            all.extend_from_slice(&part[..count]);
        }
        all
    });
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(begin);
    let mut taken = 0;
    let mut next = 0;
    loop {
        while bytes.len() < 32 * 1024 && next < MANY {
            bytes.extend(round(next));
            next += 1;
        }
        match socket.write(&bytes) {
            Ok(count @ 1..) => {
                taken += count;
                bytes.drain(..count);
            }
            // The connection is gone, which is what is wanted; a front that only stops reading is not.
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            stuck => panic!("the front neither reads nor ends it: {stuck:?}"),
        }
        if bytes.is_empty() && next == MANY {
            break;
        }
    }
    let ended = !bytes.is_empty();
    if !ended {
        let _ = socket.shutdown(std::net::Shutdown::Write);
    }
    let came = read.join().unwrap();
    assert!(ended || last_goaway(&came).is_some(), "{MANY} rounds were taken without a word");
    End { goaway: last_goaway(&came), taken, came: came.len() }
}

fn last_goaway(mut bytes: &[u8]) -> Option<u32> {
    let mut code = None;
    while bytes.len() >= 9 {
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let payload = bytes.get(9..9 + len)?;
        if bytes[3] == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        bytes = &bytes[9 + len..];
    }
    code
}

/// Kilobytes of memory and milliseconds of processor time that the program has used.
pub(crate) fn used(program: &Program) -> (i64, i64) {
    let id = program.process.id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let memory = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    let memory = memory.trim().trim_end_matches(" kB").parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: i64 = fields[11].parse::<i64>().unwrap() + fields[12].parse::<i64>().unwrap();
    (memory, ticks * 10)
}

/// The real program over a server with something to send.
fn start() -> (Backend, Program) {
    let backend = Backend::new(|_| ok(&"x".repeat(100_000)));
    let program = talking_program(&[&backend], FRONT);
    assert_eq!(program.ask(get("/")).status(), 200);
    (backend, program)
}

/// Attacks, and has another client ask all the while. The front must stay small, use little of
/// the processor, and answer the other one.
fn harmless(name: &str, begin: &[u8], round: impl Fn(usize) -> Vec<u8> + Sync) -> (Program, End) {
    let (_backend, program) = start();
    let (memory, time) = used(&program);
    let end = std::thread::scope(|scope| {
        let attack = scope.spawn(|| attack(&program, begin, &round));
        let mut other = program.connect();
        loop {
            assert_eq!(other.get("/").status(), 200, "{name}");
            if attack.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        attack.join().unwrap()
    });
    let (memory_after, time_after) = used(&program);
    println!("{name}: {end:?}, {} KB and {} ms more", memory_after - memory, time_after - time);
    assert!(memory_after - memory < 32 * 1024, "{name}: {} KB more", memory_after - memory);
    assert!(time_after - time < 3000, "{name}: {} ms", time_after - time);
    assert_eq!(program.ask(get("/")).status(), 200, "{name}");
    (program, end)
}

/// The same, for what must end with ENHANCE_YOUR_CALM: that has arrived, or was overtaken by the
/// reset behind it; that the front ended it for its frames is counted in any case.
fn calmed(name: &str, begin: &[u8], round: impl Fn(usize) -> Vec<u8> + Sync) -> End {
    let (program, end) = harmless(name, begin, round);
    assert_eq!(end.goaway.unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM, "{name}: {end:?}");
    eventually(name, || counted(&program, Reason::TooManyFrames) == 1);
    end
}

pub(crate) fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (key, value) in list {
        payload.extend_from_slice(&key.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn ask(round: usize) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream(round), GET)
}

#[test]
fn rapid_reset() {
    // CVE-2023-44487
    let end = calmed("rapid reset", &settings(&[]), |round| {
        let cancel = frame(RST_STREAM, 0, stream(round), &8_u32.to_be_bytes());
        [ask(round), cancel].concat()
    });
    assert!(end.taken < 1_000_000, "{end:?}");
}

#[test]
fn made_you_reset() {
    // CVE-2025-8671: each request is made to be reset by the server.
    let update = |round, by: u32| frame(WINDOW_UPDATE, 0, stream(round), &by.to_be_bytes());
    for (name, by) in [("window updates of zero", 0), ("windows that overflow", 0x7fff_ffff)] {
        harmless(name, &settings(&[]), |round| [ask(round), update(round, by)].concat());
    }
    harmless("data after the end", &settings(&[]), |round| {
        [ask(round), frame(DATA, END_STREAM, stream(round), b"more")].concat()
    });
    harmless("heads that are none", &settings(&[]), |round| {
        // `connection: x`, which HTTP/2 has not.
        let field = [GET, &[0x00, 10], b"connection", &[1, b'x']].concat();
        frame(HEADERS, END_STREAM | END_HEADERS, stream(round), &field)
    });
}

#[test]
fn what_a_server_breaks_off_is_not_charged_to_its_clients() {
    let backend = Backend::raw(|peer| {
        while let Some(request) = peer.request() {
            let whole = request.target() == "/whole";
            let broken = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno".to_vec();
            if peer.send(&if whole { ok("whole") } else { broken }).is_err() || !whole {
                return;
            }
        }
    });
    let proxy = super::support::proxy(&[&backend]);
    super::support::run(async {
        let client = super::support::Client::connect(&proxy).await;
        for _ in 0..30 {
            let mut asked = Vec::new();
            for _ in 0..50 {
                asked.push(client.begin(super::support::get("/broken"), true).await.0);
            }
            for response in asked {
                let error = super::support::whole(response).await.err().unwrap();
                assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
            }
        }
        assert_eq!(client.get("/whole").await.unwrap().body, b"whole");
    });
}

#[test]
fn continuation_flood() {
    // RUSTSEC-2024-0332: a head that never ends.
    let field = [&[0x00, 3][..], b"x-a", &[100], &[b'y'; 100]].concat();
    let begin = [settings(&[]), frame(HEADERS, END_STREAM, 1, GET)].concat();
    let (_, end) = harmless("CONTINUATION", &begin, |_| frame(CONTINUATION, 0, 1, &field));
    assert!(end.taken < 8_000_000, "{end:?}");
    let (_, end) = harmless("empty CONTINUATION", &begin, |_| frame(CONTINUATION, 0, 1, &[]));
    assert!(end.taken < 8_000_000, "{end:?}");
}

#[test]
fn floods_of_small_frames() {
    let begin = settings(&[]);
    let open = [&begin[..], &frame(HEADERS, END_HEADERS, 1, GET)].concat();
    let attacks: [(&str, &[u8], Vec<u8>); 7] = [
        ("SETTINGS", &begin, settings(&[(4, 65_535)])),
        ("PING", &begin, frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY", &begin, frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])),
        ("unknown frames", &begin, frame(0xbe, 0, 0, b"what?")),
        ("WINDOW_UPDATE", &begin, frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        // RUSTSEC-2026-0258
        ("empty DATA", &open, frame(DATA, 0, 1, &[])),
        ("padding", &open, frame(DATA, 8, 1, &[3, 0, 0, 0])),
    ];
    for (name, begin, round) in attacks {
        calmed(name, begin, |_| round.clone());
    }
}

#[test]
fn large_responses_that_nobody_reads() {
    const CONNECTIONS: usize = 8;
    const STREAMS: usize = 100;
    let large = vec![b'x'; 1_000_000];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", large.len());
    let backend = Backend::new(move |_| [head.as_bytes(), &large].concat());
    let program = talking_program(&[&backend], FRONT);
    assert_eq!(program.ask(get("/")).body.len(), 1_000_000);
    let (before, _) = used(&program);
    let widest = 0x7fff_ffff_u32;
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut socket = TcpStream::connect(program.address).unwrap();
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(settings(&[(4, widest)]));
            let more = (widest - 65_535).to_be_bytes();
            bytes.extend(frame(WINDOW_UPDATE, 0, 0, &more));
            (0..STREAMS).for_each(|round| bytes.extend(ask(round)));
            socket.write_all(&bytes).unwrap();
            socket
        })
        .collect();
    eventually("all have been asked for", || backend.requests().len() > CONNECTIONS * STREAMS);
    // Now everything that waits anywhere comes, and there is no end to wait for.
    let mut most = 0;
    for _ in 0..30 {
        most = most.max(used(&program).0 - before);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(most < 64 * 1024, "{most} KB");
    assert_eq!(program.ask(get("/")).body.len(), 1_000_000, "others are served");
    drop(connections);
}

#[test]
fn windows_of_one_byte() {
    // CVE-2019-9511: each byte of the response is asked for by itself.
    let begin = [settings(&[(4, 1)]), ask(0)].concat();
    let end =
        calmed("windows of one byte", &begin, |_| frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()));
    assert!(end.came < 300_000, "{end:?}");
}

/// Slow read: a time-out between two writes never notices a byte now and then.
#[test]
fn a_window_that_is_opened_byte_by_byte() {
    let backend = Backend::new(|_| ok(&"x".repeat(100_000)));
    let front = format!("{FRONT}[timeouts]\nclient-write = \"3s\"\n");
    let program = talking_program(&[&backend], &front);
    let mut socket = TcpStream::connect(program.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = socket.try_clone().unwrap();
    let reset = std::thread::spawn(move || {
        let mut got = 0;
        loop {
            let mut head = [0; 9];
            reader.read_exact(&mut head).unwrap();
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; len];
            reader.read_exact(&mut payload).unwrap();
            match head[3] {
                DATA => got += len,
                RST_STREAM => return got,
                _ => {}
            }
        }
    });
    let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings(&[(4, 0)]), &ask(0)].concat();
    socket.write_all(&begin).unwrap();
    while !reset.is_finished() {
        socket.write_all(&frame(WINDOW_UPDATE, 0, stream(0), &1_u32.to_be_bytes())).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let got = reset.join().unwrap();
    assert!((10..10_000).contains(&got), "{got} bytes");
    eventually("it is said", || counted(&program, Reason::SlowReader) == 1);
    assert_eq!(counted(&program, Reason::WriteTimeout), 0);
}

#[test]
fn too_many_requests_at_once_and_heads_that_are_too_large() {
    let (backend, program) = start();
    let limit = 128;
    // None of them is answered, since none of them reads anything.
    let mut socket = TcpStream::connect(program.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(settings(&[(4, 0)]));
    for number in 0..limit + 10 {
        bytes.extend(ask(number));
    }
    socket.write_all(&bytes).unwrap();
    let mut refused = 0;
    let mut came = Vec::new();
    while refused < 10 {
        let mut head = [0; 9];
        socket.read_exact(&mut head).unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        socket.read_exact(&mut payload).unwrap();
        if head[3] == RST_STREAM {
            assert_eq!(payload, [0, 0, 0, 7], "REFUSED_STREAM: it may be tried again");
            refused += 1;
        }
        came.push(head[3]);
    }
    assert!(backend.requests().len() <= limit + 1);
    drop(socket);

    // A head over the limit is answered, or its stream refused; the connection goes on.
    let mut socket = TcpStream::connect(program.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(settings(&[]));
    let large = [GET, &[0x00, 3], b"x-a", &[0x7f, 0x81, 0x7f], &[b'y'; 127 + 16257]].concat();
    let field = &large[GET.len()..];
    bytes.extend(frame(HEADERS, END_STREAM, 1, GET));
    for part in 0..3 {
        let last = if part == 2 { END_HEADERS } else { 0 };
        for piece in [&field[..16_000], &field[16_000..]] {
            let flags = if std::ptr::eq(piece, &raw const field[16_000..]) { last } else { 0 };
            bytes.extend(frame(CONTINUATION, flags, 1, piece));
        }
    }
    bytes.extend(ask(1));
    socket.write_all(&bytes).unwrap();
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < 2 {
        let mut head = [0; 9];
        socket.read_exact(&mut head).unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        socket.read_exact(&mut payload).unwrap();
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        if matches!(head[3], HEADERS | RST_STREAM) && stream > 0 {
            answers.insert(stream, (head[3], payload));
        }
    }
    // `:status 200` is one byte of the static table; 431 is not in it.
    assert_eq!(answers[&3].1[0], 0x88);
    assert_ne!(answers[&1].1[0], 0x88);
}
