//! What `make fuzz` holds the parsers to, beyond not panicking. `fuzz/` has one target for each of
//! these functions; the tests here replay the seeds and whatever was found once.

use std::path::Path;

use crate::base::unit::name_fault;
use crate::config::{self, Sources};
use crate::handoff::{Record, receive_connections};
use crate::helper::Request;
use crate::import::nginx;
use crate::io::preface;
use crate::proxy::{chunk, field::MAX_FIELDS, request, response};
use crate::session::protocol::{Limits, Parser};
use crate::session::remote;

/// A stream of a session client: in pieces of any size it means what it means whole, and memory
/// follows the bytes that came, not the lengths that they promise.
pub fn session_protocol(input: &[u8]) {
    let Some((&step, stream)) = input.split_first() else { return };
    let whole = requests(stream, stream.len().max(1));
    let pieces = requests(stream, usize::from(step % 17) + 1);
    assert_eq!(whole, pieces, "the same in pieces of {}", step % 17 + 1);
}

/// Requests that are whole, and the error that ended the stream.
fn requests(stream: &[u8], step: usize) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    // Small ones, so that a short input can pass them.
    let limits = Limits { bulk: 1024, arguments: 64, request: 2048, ..Limits::default() };
    let mut parser = Parser::default();
    let (mut requests, mut buffer) = (Vec::new(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            // As a client before authentication for as long as the first bytes say so.
            let authenticated = stream.first() != Some(&b'\n');
            match parser.parse(&buffer, &limits, authenticated) {
                Ok(None) => break,
                Ok(Some(used)) => {
                    assert!((1..=buffer.len()).contains(&used), "{used} of {}", buffer.len());
                    let arguments = parser.arguments(&buffer);
                    requests.push(arguments.from(0).map(<[u8]>::to_vec).collect());
                    buffer.drain(..used);
                    parser.finish();
                }
                Err(error) => return (requests, Some(error.to_string())),
            }
        }
        let memory = parser.memory();
        assert!(memory <= 32 * (buffer.len() + 1024), "{memory} for {} bytes", buffer.len());
    }
    (requests, None)
}

/// A request head: complete exactly at its end, and the same whatever comes behind it.
pub fn request_head(input: &[u8]) {
    let parse = |bytes: &[u8]| {
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let head = request::Head::parse(bytes, &mut slots, 100);
        head.map(|head| head.map(|head| (head.len, format!("{head:?}"))))
    };
    if let Ok(Some((len, text))) = parse(input) {
        assert_eq!(parse(&input[..len]), Ok(Some((len, text))), "what follows does not count");
        assert_eq!(parse(&input[..len - 1]), Ok(None), "no byte less will do");
    }
}

/// A response head: as a request head.
pub fn response_head(input: &[u8]) {
    let parse = |bytes: &[u8]| {
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let head = response::Head::parse(bytes, &mut slots, 100, false);
        head.map(|head| head.map(|head| (head.len, format!("{head:?}"))))
    };
    if let Ok(Some((len, text))) = parse(input) {
        assert_eq!(parse(&input[..len]), Ok(Some((len, text))), "what follows does not count");
        assert_eq!(parse(&input[..len - 1]), Ok(None), "no byte less will do");
    }
}

/// A PROXY header: as a request head.
pub fn proxy_header(input: &[u8]) {
    if let Ok(Some((said, len))) = preface::parse(input) {
        assert_eq!(
            preface::parse(&input[..len]),
            Ok(Some((said, len))),
            "what follows does not count"
        );
        assert_eq!(preface::parse(&input[..len - 1]), Ok(None), "no byte less will do");
    }
}

/// A chunked body: in pieces of any size it is what it is whole, and its trailers are bounded.
pub fn chunked_body(input: &[u8]) {
    let Some((&step, body)) = input.split_first() else { return };
    assert_eq!(decoded(body, body.len().max(1)), decoded(body, usize::from(step % 17) + 1));
}

/// Data, trailers, and the bytes used or what is wrong.
fn decoded(body: &[u8], step: usize) -> (Vec<u8>, Vec<u8>, Result<Option<usize>, String>) {
    const MAX_TRAILERS: usize = 256;
    let mut decoder = chunk::Decoder::new(MAX_TRAILERS);
    let (mut data, mut used) = (Vec::new(), 0);
    let mut end = Ok(None);
    'body: for mut piece in body.chunks(step) {
        while !piece.is_empty() {
            match decoder.next(piece) {
                Ok(chunk::Event::Data { at, len }) => {
                    data.extend_from_slice(&piece[at..at + len]);
                    used += at + len;
                    piece = &piece[at + len..];
                }
                Ok(chunk::Event::More) => {
                    used += piece.len();
                    break;
                }
                Ok(chunk::Event::End { used: here }) => {
                    end = Ok(Some(used + here));
                    break 'body;
                }
                Err(error) => {
                    end = Err(error.to_string());
                    break 'body;
                }
            }
        }
    }
    assert!(decoder.trailers().len() <= MAX_TRAILERS, "{} bytes", decoder.trailers().len());
    (data, decoder.trailers().to_vec(), end)
}

/// What a client and a server send, through the front: see `proxy::sans_io`.
pub fn exchange(input: &[u8]) {
    crate::proxy::sans_io::exchange(input);
}

/// What a member asks the helper for: it is one of the commands that members may have done, of an
/// app, and the line that a client would send for it asks for the same.
pub fn helper_request(input: &[u8]) {
    const VERBS: [&str; 6] = ["start", "stop", "restart", "reload", "rollback", "scale"];
    let Ok(request) = Request::parse(input) else { return };
    let again = Request::parse(request.line().trim_ascii_end());
    assert_eq!(again.ok().as_ref(), Some(&request), "it is said again in other words");
    let words = request.arguments();
    assert!(VERBS.contains(&&*words[0]), "{words:?}");
    let mut names = words[1..].iter().filter(|word| !word.starts_with("--"));
    let of_app = names.next().is_some_and(|name| name.split(':').next() == Some(&*request.app));
    assert!(of_app && name_fault(&request.app).is_none(), "{words:?}");
    let number = names.next().is_none_or(|number| number.parse::<i32>().is_ok());
    assert!(number && names.next().is_none(), "{words:?}");
}

/// A directory that is there, in which nobody can put a configuration.
const EMPTY: &str = "/proc/self";

/// Configuration files: there is an answer, it can be shown, and what has no error has settings.
/// The first byte says which file it is.
pub fn configuration(input: &[u8]) {
    const FILES: [&str; 4] = ["roundsman.toml", "apps/a.toml", "upstreams/u.toml", "routes/r.toml"];
    let Some((&which, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let directory = Path::new(EMPTY);
    let file = directory.join(FILES[usize::from(which) % FILES.len()]);
    let sources = Sources::directory(directory).with_cores(2).with_file(file, Some(text.into()));
    let loaded = config::load(&sources);
    assert!(loaded.problems.is_empty() || !loaded.problems.render(false).is_empty());
    let errors = loaded.problems.errors();
    assert_eq!(loaded.strict().is_ok(), errors == 0);
}

/// A head of HTTP/2: see `proxy::http2::sans_io`.
pub fn http2_head(input: &[u8]) {
    crate::proxy::http2::sans_io::head(input);
}

/// Records of the session store's log, and entries: see `session::store::untrusted`.
pub fn stored_records(input: &[u8]) {
    crate::session::store::untrusted::bytes(input);
}

/// What a server answers that calls itself Redis: in pieces of any size it is what it is whole, it
/// takes no more memory than it is long, and what is read of it is the same in a file.
pub fn remote_reply(input: &[u8]) {
    let Some((&step, answer)) = input.split_first() else { return };
    let step = usize::from(step % 17) + 1;
    let replies = |step| {
        let mut client = remote::Client::of_answer(answer, step);
        let mut replies = Vec::new();
        while let Ok(reply) = client.call(&["PING"]) {
            replies.push(reply);
        }
        replies
    };
    let whole = replies(answer.len().max(1));
    assert!(whole.iter().map(bytes_of).sum::<usize>() <= answer.len());
    assert_eq!(whole, replies(step), "the same in pieces of {step}");
    let keys = [b"a".to_vec(), b"b".to_vec()];
    let read = remote::read(&mut remote::Client::of_answer(answer, step), &keys);
    for item in read.map(|(items, _)| items).unwrap_or_default() {
        let line = serde_json::to_string(&item).expect("it has no key that is no text");
        assert_eq!(serde_json::from_str::<remote::Item>(&line).ok(), Some(item), "{line}");
    }
}

fn bytes_of(reply: &remote::Value) -> usize {
    match reply {
        remote::Value::Null | remote::Value::Integer(_) => 1,
        remote::Value::Simple(text) | remote::Value::Error(text) => text.len(),
        remote::Value::Bulk(bytes) => bytes.len(),
        remote::Value::Array(replies) => 1 + replies.iter().map(bytes_of).sum::<usize>(),
    }
}

/// A configuration of nginx: what is made of it is TOML, whatever was in its names and quotes, and it
/// can be told what is wrong with it.
pub fn nginx_file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(import) = nginx::import_text(text) else { return };
    let directory = Path::new(EMPTY);
    let sources = Sources::directory(directory).with_cores(2);
    let sources = import.files.iter().fold(sources, |sources, file| {
        let table = file.text.parse::<toml::Table>();
        table.unwrap_or_else(|error| panic!("{error}\n{}", file.text));
        sources.with_file(directory.join(&file.path), Some(file.text.clone()))
    });
    let problems = config::load(&sources).problems;
    assert_eq!(problems.is_empty(), problems.render(false).is_empty());
}

/// What a worker and the front say to each other in hand-off mode.
pub fn handoff_wire(input: &[u8]) {
    for bytes in input.as_chunks().0 {
        if let Some(record) = Record::read(*bytes) {
            assert_eq!(Record::read(record.bytes()), Some(record));
        }
    }
    let sent = &input[..input.len().min(128)];
    if sent.is_empty() {
        return;
    }
    let (mut front, worker) = std::os::unix::net::UnixStream::pair().expect("descriptors are left");
    std::io::Write::write_all(&mut front, sent).expect("there is room for it");
    let received = receive_connections(std::os::fd::AsFd::as_fd(&worker));
    assert_eq!(received.is_ok(), sent.len().is_multiple_of(4), "{}", sent.len());
    for (bytes, (number, connection)) in sent.chunks(4).zip(received.unwrap_or_default()) {
        assert_eq!(bytes, number.to_be_bytes());
        assert!(connection.is_none(), "none was sent");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 13] = [
        ("session_protocol", session_protocol),
        ("request_head", request_head),
        ("response_head", response_head),
        ("proxy_header", proxy_header),
        ("chunked_body", chunked_body),
        ("exchange", exchange),
        ("helper_request", helper_request),
        ("configuration", configuration),
        ("http2_head", http2_head),
        ("stored_records", stored_records),
        ("remote_reply", remote_reply),
        ("nginx_file", nginx_file),
        ("handoff_wire", handoff_wire),
    ];

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        std::fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a file"))
            .collect()
    }

    #[test]
    fn every_seed_passes() {
        for (target, run) in TARGETS {
            let seeds = seeds(target);
            assert!(seeds.len() >= 3, "{target} has {} seeds", seeds.len());
            for seed in seeds {
                run(&seed);
            }
        }
    }

    #[test]
    fn every_target_is_built_by_make_fuzz() {
        let manifest = include_str!("../fuzz/Cargo.toml");
        for (target, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len(), "each is tested here");
    }

    /// What is fuzzed is the program with the dependencies that it has.
    #[test]
    fn the_lock_file_of_the_targets_is_up_to_date() {
        let packages = |lock: &str| -> BTreeSet<(String, String)> {
            let value = |line: Option<&str>| Some(line?.split('"').nth(1)?.to_owned());
            let packages = lock.split("[[package]]").skip(1).filter_map(|package| {
                let mut lines = package.lines().skip(1);
                Some((value(lines.next())?, value(lines.next())?))
            });
            packages.collect()
        };
        let ours = packages(include_str!("../Cargo.lock"));
        let theirs = packages(include_str!("../fuzz/Cargo.lock"));
        let known: BTreeSet<_> = ours.iter().map(|(name, _)| name).collect();
        let stale: Vec<_> =
            theirs.difference(&ours).filter(|(name, _)| known.contains(name)).collect();
        let own = |lock: &str| -> BTreeSet<String> {
            let (_, own) = lock.split_once("name = \"roundsman\"\n").expect("the program");
            let own = own.split("\n]").next().unwrap_or_default();
            let names = own.lines().filter_map(|line| line.strip_prefix(" \""));
            names.filter_map(|line| line.split(['"', ' ']).next()).map(str::to_owned).collect()
        };
        let theirs = own(include_str!("../fuzz/Cargo.lock"));
        let (_, direct) = include_str!("../Cargo.toml").split_once("\n[dependencies]\n").unwrap();
        let direct = direct.lines().take_while(|line| !line.starts_with('['));
        let direct = direct.filter_map(|line| line.split_once(" = "));
        let missing: Vec<_> =
            direct.map(|(name, _)| name).filter(|name| !theirs.contains(*name)).collect();
        assert!(
            stale.is_empty() && missing.is_empty(),
            "run `cp Cargo.lock fuzz/ && cargo update --workspace --manifest-path fuzz/Cargo.toml`: \
             {stale:?} are other versions than the program's, {missing:?} are missing"
        );
    }

    proptest! {
        /// Seeds with pieces cut out, doubled and overwritten: what a fuzzer does, without its eyes.
        #[test]
        fn no_variation_of_a_seed_fails(
            target in 0..TARGETS.len(),
            seed in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..12),
        ) {
            let (name, run) = TARGETS[target];
            let seeds = seeds(name);
            let mut input = seeds[seed.index(seeds.len())].clone();
            for (place, byte, change) in changes {
                let at = place.index(input.len() + 1);
                match change {
                    0 => input.insert(at, byte),
                    1 if at < input.len() => input[at] = byte,
                    2 => input.truncate(at),
                    _ => {
                        let copy = input[..at].to_vec();
                        input.extend_from_slice(&copy);
                        input.truncate(4096);
                    }
                }
            }
            run(&input);
        }
    }
}
