//! A server that answers as chance has it: well, or with anything that servers have ever got wrong, in
//! pieces, and at moments of its own. Each request has a mark, and so has all that answers it.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::time::Instant;

use crate::common::http::{Client, Message};
use crate::common::random::Random;
use crate::http::support::PATIENCE;

/// Names of one server: addresses of a round are known to the front for that round alone.
pub(super) const SERVERS: u8 = 30;
/// How long after an answer something more may come: less than a connection rests (`src/proxy/pool/`).
const SOON: Duration = Duration::from_millis(12);

pub(super) struct Hostile {
    port: u16,
    /// What the front sent that is no request, or two in one.
    pub(super) faults: Arc<Mutex<Vec<String>>>,
}

/// An answer as it is sent.
struct Answer {
    bytes: Vec<u8>,
    /// After which the server closes.
    cut: Option<usize>,
    /// Whether that is a reset.
    reset: bool,
}

impl Hostile {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&faults);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (Ok(stream), log) = (stream, Arc::clone(&log)) else { return };
                std::thread::spawn(move || serve(stream, number, &log));
            }
        });
        Self { port, faults }
    }

    /// Its addresses in this round.
    pub(super) fn addresses(&self, round: u64) -> Vec<SocketAddr> {
        let [.., high, low] = round.to_be_bytes();
        (1..=SERVERS)
            .map(|host| SocketAddr::from(([127, 64 | high >> 2, low, host], self.port)))
            .collect()
    }
}

/// The marks in what was sent, those that are whole.
pub(super) fn marks(bytes: &[u8]) -> Vec<u64> {
    let mut parts: Vec<_> = bytes.split(|byte| *byte == b'~').skip(1).collect();
    parts.pop();
    let parts = parts.into_iter().filter(|part| part.iter().all(u8::is_ascii_digit));
    parts.filter_map(|part| std::str::from_utf8(part).ok()?.parse().ok()).collect()
}

/// The one mark of a request that is whole, and no two.
fn mark_of(request: &Message) -> Result<u64, String> {
    let all = [
        request.target().as_bytes(),
        request.one("x-mark").unwrap_or_default().as_bytes(),
        &request.body,
    ];
    let mut all: Vec<_> = all.into_iter().flat_map(marks).collect();
    let expected = if request.body.is_empty() { 2 } else { 3 };
    let count = all.len();
    all.dedup();
    if all.len() == 1 && count == expected {
        Ok(all[0])
    } else {
        Err(format!("mixed: {request:?}"))
    }
}

fn serve(stream: TcpStream, number: usize, faults: &Mutex<Vec<String>>) {
    let Ok(mut reader) = Client::over(stream, PATIENCE) else { return };
    let mut random = Random(number as u64);
    if random.once_in(30) {
        // Before anybody has asked: it has no mark.
        let early = random.pick(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly",
            "HTTP/1.1 4",
            "\r\n",
            "x",
        ]);
        let _ = reader.stream.write_all(early.as_bytes());
    }
    loop {
        let request = match reader.request() {
            Ok(request) => request,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return faults.lock().unwrap().push(error.to_string());
            }
            Err(_) => return,
        };
        let mark = match mark_of(&request) {
            Ok(mark) => mark,
            Err(fault) => return faults.lock().unwrap().push(fault),
        };
        let answer = answer(&mut random, request.method(), mark);
        if !send(&mut reader.stream, &mut random, &answer) {
            return;
        }
    }
}

/// Sends an answer in pieces; false when that was the last one.
fn send(stream: &mut TcpStream, random: &mut Random, answer: &Answer) -> bool {
    let mut rest = &answer.bytes[..answer.cut.unwrap_or(answer.bytes.len())];
    let mut sent = Instant::now();
    while !rest.is_empty() {
        let size = if random.once_in(2) { rest.len() } else { 1 + random.below(rest.len()) };
        let (piece, more) = rest.split_at(size);
        // It may be behind the answer.
        if sent.elapsed() > SOON || stream.write_all(piece).is_err() {
            return false;
        }
        sent = Instant::now();
        rest = more;
        if !rest.is_empty() {
            std::thread::sleep(Duration::from_micros(random.pick(&[0, 0, 100, 1500, 6000])));
        }
    }
    if answer.cut.is_none() {
        return true;
    }
    if answer.reset {
        let _ = set_socket_linger(&*stream, Some(Duration::ZERO));
    } else {
        let _ = stream.shutdown(Shutdown::Write);
    }
    false
}

/// What it answers to this. `X-Size` is how long a body is that has its end.
fn answer(random: &mut Random, method: &str, mark: u64) -> Answer {
    let body = format!("~{mark}~ ").repeat(random.pick(&[0, 1, 1, 20, 3000]));
    let owner = format!("X-Owner: ~{mark}~\r\n");
    let size = body.len();
    let sized = format!("{owner}X-Size: {size}\r\n");
    let chunks = || {
        let part = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let parts =
            body.as_bytes().chunks(1000).map(|text| part(std::str::from_utf8(text).unwrap()));
        parts.collect::<String>()
    };
    let length = |n: usize| format!("HTTP/1.1 200 OK\r\n{sized}Content-Length: {n}\r\n\r\n");
    let chunked = format!("HTTP/1.1 200 OK\r\n{sized}Transfer-Encoding: chunked\r\n\r\n");
    let plain = method != "HEAD";
    let good = |text: String| (text, true);
    let (text, may_cut) = match random.below(16) {
        0..3 => good(if plain { length(size) + &body } else { length(size) }),
        3..5 => good(if plain { format!("{chunked}{}0\r\n\r\n", chunks()) } else { chunked }),
        // Also to HEAD.
        5 => good(length(size) + &body),
        6 => good(format!("{chunked}{}0\r\nX-T: ~{mark}~\r\n\r\n", chunks())),
        7 => (format!("HTTP/1.1 204 No Content\r\n{owner}\r\n{body}"), false),
        8 => (format!("HTTP/1.1 304 Not Modified\r\n{owner}\r\n{body}"), false),
        9 => {
            let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <~{mark}~>\r\n\r\n");
            (hint.repeat(1 + random.below(40)) + &length(size) + &body, true)
        }
        10 => (
            format!(
                "HTTP/1.1 101 Switching Protocols\r\n{owner}Connection: Upgrade\r\nUpgrade: other/2\r\n\r\n{body}"
            ),
            false,
        ),
        // The body is longer, or there is a second answer.
        11 => (
            format!(
                "HTTP/1.1 200 OK\r\n{owner}Content-Length: {}\r\n\r\n{body}",
                random.below(size + 1)
            ),
            false,
        ),
        12 => (length(size) + &body + &length(size) + &body, false),
        13 => (
            format!(
                "HTTP/1.1 200 OK\r\n{owner}Transfer-Encoding: chunked\r\n\r\n{}{}\r\n{body}0\r\n\r\n",
                chunks(),
                random.pick(&["-1", "g", "fffffffffffffffff", "5;", ""])
            ),
            false,
        ),
        14 => (
            format!(
                "HTTP/1.1 200 OK\r\n{owner}Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n{body}",
                chunks()
            ),
            false,
        ),
        _ => (format!("HTTP/1.1 200 OK\r\n{owner}\r\n{body}"), false),
    };
    let mut bytes = text.into_bytes();
    let cut = random.once_in(if may_cut { 5 } else { 3 });
    if !may_cut && random.once_in(4) {
        mutate(random, &mut bytes);
    }
    let cut = cut.then(|| random.below(bytes.len() + 1));
    Answer { bytes, cut, reset: random.once_in(2) }
}

/// Changes a byte that is no mark's.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    if bytes[at] == b'~' || bytes[at].is_ascii_digit() {
        return;
    }
    match random.below(3) {
        0 => drop(bytes.remove(at)),
        1 => bytes[at] = random.pick(b"\r\n\0 :;,\xff\t-"),
        _ => bytes.insert(at, random.pick(b"\r\n\0 :;,\xff\t-")),
    }
}

#[test]
fn marks_are_found() {
    assert_eq!(marks(b"GET /~17~/x HTTP/1.1\r\nX-Mark: ~17~\r\n~8"), [17, 17]);
    assert_eq!(marks(b"X-Owner: early\r\n~ ~"), [] as [u64; 0]);
}
