//! Requests to begin with, and what chance makes of them.

use std::fmt::Write as _;

use crate::common::random::Random;
use crate::http::cases::{cases, raw};

/// What a client sends on one connection.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    /// How many requests it is, if all of them are as they should be.
    pub(super) good: Option<usize>,
}

pub(super) const METHODS: [&str; 9] =
    ["GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "OPTIONS", "PROPFIND"];

const TARGETS: [&str; 9] = [
    "/",
    "/a/b?c=d",
    "/%41;v=1",
    "http://b.example/x",
    "http://b.example?q",
    "HTTP://b.example",
    "/?",
    "/a//b",
    "/a?http://c/",
];

/// Fields that are good anywhere.
const FIELDS: [&str; 14] = [
    "Accept: */*",
    "X-Empty:",
    "X-Tab:\ta\tb ",
    "X-High: \u{e9}\u{ff}",
    "Cookie: a=b; c=\"d\"",
    "Connection: keep-alive",
    "Connection: X-Hop, TE\r\nX-Hop: 1\r\nTE: trailers",
    "Upgrade: websocket",
    "Connection: Upgrade\r\nUpgrade: other/1",
    "X-Forwarded-For: 6.6.6.6",
    "Forwarded: for=6.6.6.6, for=\"[::1]\"",
    "Via: 1.0 x",
    "X_Forwarded_For: 6.6.6.6",
    "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A request that would be served if it were taken for one.
const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";

const BODIES: [&str; 6] = ["x", "hello", "0\r\n\r\n", EVIL, "\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"];

/// Lines with which others were deceived.
const LINES: [&str; 28] = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding:\r\n chunked",
    "Transfer_Encoding: chunked",
    " Transfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: 05",
    "Content-Length: +5",
    "Content-Length: 5, 5",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 0x5",
    "Content-Length: 18446744073709551621",
    "Content_Length: 5",
    "Content-Length:\u{b}5",
    "Host: other",
    "Connection: close",
    "Connection: Content-Length, Host, Transfer-Encoding",
    "Expect: 100-continue",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Max-Forwards: 7",
    "\u{0}X: y",
];

/// Bytes that mean something to one parser or another.
const BYTES: &[u8] = b"\r\n\0\t\x0b\x0c\x7f\x80\x85\xa0\xff ,;:=\"'()/\\?#%.+-_0159afxAF*@[]{}|<>";

/// The requests of `tests/data/http1.json` that are no longer than one can read.
pub(super) fn known() -> Vec<Vec<u8>> {
    let all = cases("request").into_iter().map(|case| raw(case["raw"].as_str().unwrap()));
    all.filter(|bytes| bytes.len() < 2000).collect()
}

/// What one client sends.
pub(super) fn sent(random: &mut Random, known: &[Vec<u8>]) -> Sent {
    let count = 1 + random.below(3);
    let mut bytes = Vec::new();
    let mut is_good = true;
    for _ in 0..count {
        if random.once_in(4) {
            is_good = false;
            bytes.extend_from_slice(&known[random.below(known.len())]);
        } else {
            bytes.extend(good(random));
        }
    }
    if !random.once_in(5) {
        is_good = false;
        for _ in 0..=random.below(3) {
            mutate(random, &mut bytes);
        }
    }
    Sent { bytes, good: is_good.then_some(count) }
}

/// A request that everybody should understand.
fn good(random: &mut Random) -> Vec<u8> {
    let mut method = random.pick(&METHODS);
    let mut target = random.pick(&TARGETS);
    if random.once_in(20) {
        (method, target) = ("OPTIONS", "*");
    }
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    let host = random.below(3);
    let mut fields: Vec<_> = (0..random.below(4)).map(|_| random.pick(&FIELDS)).collect();
    fields.sort_unstable();
    fields.dedup();
    if fields.iter().filter(|field| field.contains("pgrade:")).count() > 1 {
        fields.clear();
    }
    fields.insert(host.min(fields.len()), "Host: a.example");
    for field in fields {
        write!(head, "{field}\r\n").unwrap();
    }
    let body = if method == "HEAD" { "" } else { random.pick(&BODIES) };
    let body = match random.below(4) {
        0 if !body.is_empty() => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        1 if !body.is_empty() => {
            format!("Transfer-Encoding: chunked\r\n\r\n{}", chunks(random, body))
        }
        2 => "Content-Length: 0\r\n\r\n".into(),
        _ => "\r\n".into(),
    };
    let all = head + &body;
    all.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// A body in chunks, with all that the coding allows.
fn chunks(random: &mut Random, body: &str) -> String {
    let mut out = String::new();
    let at = random.below(body.len() + 1);
    for part in [&body[..at], &body[at..]].into_iter().filter(|part| !part.is_empty()) {
        let extension = random.pick(&["", "", ";a", ";a=b", ";a=\"b;c\""]);
        let size = random.pick(&["", "0", "00"]);
        write!(out, "{size}{:X}{extension}\r\n{part}\r\n", part.len()).unwrap();
    }
    out + random.pick(&["0\r\n\r\n", "000\r\n\r\n", "0;a=b\r\n\r\n", "0\r\nX-T: 1\r\n\r\n"])
}

/// Does something to these bytes.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len().max(1));
    let end = |from: usize| bytes.len().min(from);
    match random.below(10) {
        0 | 1 => bytes.insert(end(at), random.pick(BYTES)),
        2 if at < bytes.len() => bytes[at] = random.pick(BYTES),
        3 if at < bytes.len() => drop(bytes.remove(at)),
        4 => drop(bytes.drain(at..end(at + random.below(20)))),
        5 => {
            let copy = bytes[at..end(at + random.below(40))].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        6 | 7 => {
            // A line where lines are.
            let lines: Vec<_> = starts_of_lines(bytes).collect();
            let Some(to) = lines.get(random.below(lines.len().max(1))).copied() else { return };
            let line = random.pick(&LINES).chars().map(|c| u8::try_from(u32::from(c)).unwrap());
            let line: Vec<_> = line.chain(*b"\r\n").collect();
            bytes.splice(to..to, line);
        }
        8 => {
            // Another end of a line.
            let lines: Vec<_> = starts_of_lines(bytes).collect();
            let Some(to) = lines.get(random.below(lines.len().max(1))).copied() else { return };
            let end = random.pick(&["\n", "\r", "\r\r\n", " \r\n", "\r\n ", "\n\r", ""]);
            bytes.splice(to - 2..to, end.bytes());
        }
        _ => {
            // Another number.
            let digits: Vec<_> =
                (0..bytes.len()).filter(|at| bytes[*at].is_ascii_hexdigit()).collect();
            if let Some(at) = digits.get(random.below(digits.len().max(1))) {
                bytes[*at] = random.pick(b"0123456789abcdefABCDEF");
            }
        }
    }
}

fn starts_of_lines(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (2..=bytes.len()).filter(|at| bytes[..*at].ends_with(b"\r\n"))
}

/// Every way to leave a part of these bytes out: a line, a half of what is left, a byte.
pub(super) fn smaller(bytes: &[u8]) -> Vec<Vec<u8>> {
    let without = |from: usize, to: usize| [&bytes[..from], &bytes[to..]].concat();
    let mut borders: Vec<_> = std::iter::once(0).chain(starts_of_lines(bytes)).collect();
    borders.push(bytes.len());
    let mut all: Vec<_> = borders.windows(2).map(|line| without(line[0], line[1])).collect();
    let half = bytes.len().div_ceil(2);
    all.extend([without(0, half), without(half, bytes.len())]);
    if bytes.len() < 400 {
        all.extend((0..bytes.len()).map(|at| without(at, at + 1)));
    }
    all.retain(|smaller| smaller.len() < bytes.len() && !smaller.is_empty());
    all
}
