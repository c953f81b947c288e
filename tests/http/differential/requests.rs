//! Requests of any kind through the front to a server that keeps what it got. There the tests' own strict
//! parser, Node's llhttp and Python's h11 must find the same requests; they must be those that llhttp and
//! h11 find in what the client sent, as far as they find any, and all behind them must have been refused;
//! and each client must get one answer to each of its requests and none to another's.
//!
//! Each client has an address of its own, which the front tells the server and no client can: a request
//! without it was none.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketType};

use super::corpus::{self, METHODS, Sent};
use super::readers::{Meant, Reading, by_h11, by_llhttp, latin1};
use crate::common::random::Random;
use crate::http::support::{Backend, Client, Message, PATIENCE, Program, Reader, program};

/// Clients in a round; so many at a time.
const CLIENTS: usize = 600;
const AT_ONCE: usize = 6;
/// For what is wrong, and not with one client alone.
const NOBODY: usize = usize::MAX;

/// A server that keeps what it was sent, and answers with who asked for what.
struct Recorder {
    backend: Backend,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// The bytes of each connection, up to each answer.
    connections: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The requests that the strict parser found, each with its connection, in the order of time.
    requests: Vec<(usize, Meant)>,
    /// What it found that was none.
    faults: Vec<String>,
}

/// What came back to a client.
#[derive(Debug, Default)]
struct Answers {
    /// What the server was asked for, by its answers.
    passed: Vec<String>,
    /// The status of the front's own answer, the last one.
    refused: Option<u16>,
}

/// What a round found in all, and what is wrong with which client.
#[derive(Default)]
struct Found {
    passed: usize,
    refused: usize,
    wrong: Vec<(usize, String)>,
}

// === impl Recorder ===

impl Recorder {
    fn start() -> Self {
        let kept = Arc::<Mutex<Kept>>::default();
        let log = Arc::clone(&kept);
        let backend = Backend::raw(move |peer| {
            loop {
                let request = read(&mut peer.reader);
                let mut kept = log.lock().unwrap();
                let bytes = std::mem::take(&mut peer.reader.raw);
                kept.connections.entry(peer.number).or_default().push(bytes);
                let (meant, may_switch) = match request {
                    Ok(message) => (Meant::of(&message), message.one("upgrade").is_some()),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        return kept.faults.push(error.to_string());
                    }
                    Err(_) => return,
                };
                let Meant { method, target, origin, .. } = &meant;
                // Node knows few methods, and reads nothing behind another one or an offer to switch.
                let goes_on = METHODS.contains(&method.as_str()) && !may_switch;
                let close = if goes_on { "" } else { "Connection: close\r\n" };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nX-Origin: {origin}\r\nX-Asked: {method} {target}\r\n\
                     {close}Content-Length: 0\r\n\r\n"
                );
                kept.requests.push((peer.number, meant));
                drop(kept);
                if peer.send(answer.as_bytes()).is_err() || !goes_on {
                    return;
                }
            }
        });
        Self { backend, kept }
    }

    fn front(&self) -> Program {
        program(&[&self.backend], "serve-half-closed = true\n[retries]\nattempts = 0\n")
    }

    fn take(&self) -> Kept {
        std::mem::take(&mut self.kept.lock().unwrap())
    }
}

fn read(reader: &mut Client) -> io::Result<Message> {
    let head = reader.head()?;
    if head.one("expect").is_some() {
        reader.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    reader.rest_of_request(head)
}

// === Clients ===

/// The address of one of a round's clients.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number as u32)
}

/// Sends this from an address in pieces, and reads until the front ends the connection.
fn converse(
    front: SocketAddr,
    from: Ipv4Addr,
    bytes: &[u8],
    random: &mut Random,
) -> io::Result<Vec<u8>> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    rustix::net::connect(&socket, &front)?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let whole = random.once_in(2);
        let (piece, more) =
            rest.split_at(if whole { rest.len() } else { 1 + random.below(rest.len()) });
        // The front may have had enough.
        if stream.write_all(piece).is_err() {
            break;
        }
        rest = more;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut came = Vec::new();
    match stream.read_to_end(&mut came) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(came),
    }
}

/// Reads the answers to a client: the server's have no body, the front's own is the last one.
fn answers(came: &[u8], client: Ipv4Addr) -> Result<Answers, String> {
    let mut reader = Reader::new(came);
    let mut answers = Answers::default();
    while !reader.buffer.is_empty() || reader.fill().is_ok_and(|more| more) {
        let head = reader.head().map_err(|error| format!("no answer: {error}"))?;
        match head.status() {
            100..200 => {}
            200 => {
                let of = head.one("x-origin").unwrap_or_default();
                if of != client.to_string() {
                    return Err(format!("the answer to {of}"));
                }
                answers.passed.push(head.one("x-asked").unwrap_or_default().into());
            }
            status => {
                let rest = latin1(&reader.buffer);
                let is_digit = |at: usize| rest[at..].starts_with(|c: char| c.is_ascii_digit());
                let mut starts = rest.match_indices("HTTP/1.1 ");
                if starts.any(|(at, start)| is_digit(at + start.len())) {
                    return Err(format!("an answer behind the last one: {rest}"));
                }
                answers.refused = Some(status);
                return Ok(answers);
            }
        }
    }
    Ok(answers)
}

// === Judging ===

/// Sends all of these, each as a client of its own, and judges what came of it.
fn round(front: &Program, recorder: &Recorder, all: &[Sent], seed: u64) -> Found {
    let next = Mutex::new(0..all.len());
    let came = Mutex::new(vec![Vec::new(); all.len()]);
    let mut found = Found::default();
    let stuck = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(number) = { next.lock().unwrap().next() } {
                    let mut random = Random(seed ^ number as u64);
                    let bytes = &all[number].bytes;
                    match converse(front.address, address(number), bytes, &mut random) {
                        Ok(bytes) => came.lock().unwrap()[number] = bytes,
                        Err(error) => stuck.lock().unwrap().push((number, error.to_string())),
                    }
                }
            });
        }
    });
    found.wrong = stuck.into_inner().unwrap();
    let kept = recorder.take();
    let faults = kept.faults.iter().map(|fault| (NOBODY, format!("the server got {fault}")));
    found.wrong.extend(faults);
    found.wrong.extend(differences(&kept, all.len()));

    let sent: Vec<_> = all.iter().map(|sent| vec![sent.bytes.clone()]).collect();
    let readings = [("llhttp", by_llhttp(&sent)), ("h11", by_h11(&sent))];
    for (number, came) in came.into_inner().unwrap().iter().enumerate() {
        let origin = address(number).to_string();
        let arrived: Vec<_> = kept
            .requests
            .iter()
            .map(|(_, meant)| meant)
            .filter(|meant| meant.origin == origin)
            .collect();
        let answers = match answers(came, address(number)) {
            Ok(answers) => answers,
            Err(wrong) => {
                found.wrong.push((number, wrong));
                continue;
            }
        };
        found.passed += answers.passed.len();
        found.refused += usize::from(answers.refused.is_some());
        let asked: Vec<_> =
            arrived.iter().map(|meant| format!("{} {}", meant.method, meant.target)).collect();
        let mut wrong = Vec::new();
        if asked != answers.passed {
            wrong.push(format!("{asked:?} arrived, {:?} were answered", answers.passed));
        }
        if all[number].good.is_some_and(|good| good != arrived.len()) {
            wrong.push(format!("good requests were refused: {:?}", answers.refused));
        }
        for (name, readings) in &readings {
            let misread = misread(&arrived, &readings[number], &answers);
            wrong.extend(misread.map(|wrong| format!("{name} {wrong}")));
        }
        found.wrong.extend(wrong.into_iter().map(|wrong| (number, wrong)));
    }
    found
}

/// Where the readers of the server's side differ, each with the clients that it may concern.
fn differences(kept: &Kept, clients: usize) -> Vec<(usize, String)> {
    let connections: Vec<_> = kept.connections.values().cloned().collect();
    let (llhttp, h11) = (by_llhttp(&connections), by_h11(&connections));
    let mut wrong = Vec::new();
    for (at, (number, bytes)) in kept.connections.iter().enumerate() {
        let strict =
            kept.requests.iter().filter(|(of, _)| of == number).map(|(_, meant)| meant.clone());
        let strict: Vec<_> = strict.collect();
        for (name, reading) in [("h11", &h11[at]), ("llhttp", &llhttp[at])] {
            // That it does not know the last one's method is no other reading of it.
            let unknown = reading.error == "HPE_INVALID_METHOD"
                && reading.requests.len() + 1 == strict.len()
                && strict.starts_with(&reading.requests);
            if reading.requests != strict && !unknown {
                let both = reading.requests.iter().zip(&strict).take_while(|(a, b)| a == b).count();
                let (theirs, ours) = (&reading.requests[both..], &strict[both..]);
                let origin = ours.first().or(theirs.first()).map(|meant| meant.origin.clone());
                let of = (0..clients).find(|of| Some(address(*of).to_string()) == origin);
                let came = bytes.get(both).map(|bytes| latin1(bytes));
                let what = format!(
                    "{name} finds {theirs:?} ({}), the strict parser {ours:?} in {came:?}",
                    reading.error
                );
                wrong.push((of.unwrap_or(NOBODY), what));
            }
        }
    }
    let known: Vec<_> = (0..clients).map(|number| address(number).to_string()).collect();
    let strange = kept.requests.iter().filter(|(_, meant)| !known.contains(&meant.origin));
    wrong.extend(strange.map(|(_, meant)| (NOBODY, format!("it is nobody's: {meant:?}"))));
    wrong
}

/// What differs between what arrived and what one reader found in what the client sent.
fn misread(arrived: &[&Meant], reading: &Reading, answers: &Answers) -> Option<String> {
    let arrived: Vec<_> = arrived.iter().map(|meant| meant.end_to_end()).collect();
    let read: Vec<_> = reading.requests.iter().map(Meant::end_to_end).collect();
    let both = arrived.len().min(read.len());
    if arrived[..both] != read[..both] {
        let (read, arrived) = (&read[..both], &arrived[..both]);
        return Some(format!("reads {read:?}, and there arrived {arrived:?}"));
    }
    if reading.error.is_empty() && arrived.len() > both {
        return Some(format!("reads no more, and there arrived also {:?}", &arrived[both..]));
    }
    if read.len() > both && answers.refused.is_none() {
        return Some(format!("reads also {:?}, and they were not refused", &read[both..]));
    }
    None
}

// === Tests ===

#[test]
fn everybody_reads_the_same_requests() {
    let recorder = Recorder::start();
    let front = recorder.front();
    let known = corpus::known();
    let mut memory = super::Memory::default();
    for seed in super::rounds("requests") {
        let mut random = Random(seed);
        let all: Vec<_> = (0..CLIENTS).map(|_| corpus::sent(&mut random, &known)).collect();
        let found = round(&front, &recorder, &all, seed);
        println!("{} requests passed, {} clients were refused", found.passed, found.refused);
        if !found.wrong.is_empty() {
            fail(&recorder, seed, &all, &found);
        }
        assert!(found.passed > CLIENTS / 3, "nearly nothing is passed");
        assert!(found.refused > CLIENTS / 3, "nearly nothing is refused");
        memory.look(&front);
    }
}

/// Says what is wrong, with as little as shows it.
fn fail(recorder: &Recorder, seed: u64, all: &[Sent], found: &Found) -> ! {
    let front = recorder.front();
    let wrong: BTreeSet<_> = found.wrong.iter().map(|(_, what)| what).collect();
    for what in wrong.iter().take(20) {
        println!("{}", what.chars().take(500).collect::<String>());
    }
    let first = found.wrong.iter().find(|(number, _)| *number < all.len());
    let Some((number, _)) = first else { panic!("DIFF_SEED={seed}: see above") };
    let mut least = all[*number].bytes.clone();
    let mut what = String::from("it needs others beside it");
    let mut candidates = vec![least.clone()];
    while !candidates.is_empty() {
        let tried: Vec<_> = candidates.drain(..).map(|bytes| Sent { bytes, good: None }).collect();
        let found = round(&front, recorder, &tried, seed);
        let Some((number, still)) = found.wrong.iter().find(|(number, _)| *number < tried.len())
        else {
            break;
        };
        least.clone_from(&tried[*number].bytes);
        what.clone_from(still);
        candidates = corpus::smaller(&least);
    }
    panic!(
        "DIFF_SEED={seed}: {} findings; one of them:\n{what}\n{:?}",
        wrong.len(),
        latin1(&least)
    );
}

/// The judge is one: of bytes that servers read differently it says so.
#[test]
fn what_readers_disagree_about_is_noticed() {
    let origin = address(0).to_string();
    let smuggled = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {origin}\r\nContent-Length: 40\r\n\r\n\
         GET /evil HTTP/1.1\r\nHost: evil\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    let meant = Meant {
        method: "POST".into(),
        target: "/".into(),
        chunked: false,
        body: String::new(),
        trailers: Vec::new(),
        origin,
    };
    let kept = Kept {
        connections: [(0, vec![smuggled.into_bytes()])].into(),
        requests: vec![(0, meant)],
        faults: Vec::new(),
    };
    let wrong = differences(&kept, 1);
    assert!(wrong.iter().any(|(_, what)| what.starts_with("llhttp")), "{wrong:#?}");
    assert!(wrong.iter().any(|(_, what)| what.starts_with("h11")), "{wrong:#?}");
    assert!(wrong.iter().any(|(number, _)| *number == 0), "{wrong:#?}");
}
