//! HTTP/2 frames of any kind on one connection, with requests among them, beside clients that are served: what
//! comes on a stream is its own request's answer, and the others notice nothing.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use super::neighbours::Neighbourhood;
use crate::common::random::Random;
use crate::http::http2::hostile::{frame, settings};
use crate::http::http2::support::run;
use crate::http::support::PATIENCE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END: u8 = 1 | 4;
const CONNECTIONS: usize = 100;

/// A request with this mark, by the static table.
fn ask(stream: u32, mark: u64) -> Vec<u8> {
    let text = format!("~{mark}~");
    let path = format!("/{text}");
    let mut head = vec![0x82, 0x86, 0x41, 1, b'a', 0x04, path.len() as u8];
    head.extend_from_slice(path.as_bytes());
    head.extend_from_slice(&[0x00, 6]);
    head.extend_from_slice(b"x-mark");
    head.push(text.len() as u8);
    head.extend_from_slice(text.as_bytes());
    frame(HEADERS, END, stream, &head)
}

/// A frame of any kind, with anything in it.
fn any(random: &mut Random, last: u32) -> Vec<u8> {
    let length = random.pick(&[0, 1, 4, 5, 6, 8, 9, 40]);
    let payload: Vec<_> = (0..length)
        .map(|_| {
            if random.once_in(2) {
                random.pick(&[0, 0, 1, 3, 0x82, 0xff])
            } else {
                random.next() as u8
            }
        })
        .collect();
    let stream = random.pick(&[0, 1, last, last, last + 2, last + 1, 0x7fff_ffff]);
    frame(random.below(12) as u8, random.pick(&[0, 1, 4, 5, 8, 0x20, 0xff]), stream, &payload)
}

/// One connection: requests that are good, and sooner or later what is not.
fn converse(all: &Neighbourhood, random: &mut Random) {
    let mut stream = TcpStream::connect(all.front.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(settings(&[]));
    let mut marks = BTreeMap::new();
    let mut last = 1;
    for _ in 0..=random.below(20) {
        if random.once_in(2) {
            let mark = all.mark();
            marks.insert(last, mark);
            let mut good = ask(last, mark);
            if random.once_in(8) {
                let at = random.below(good.len());
                good[at] = random.next() as u8;
                // It may be anything now.
                marks.remove(&last);
            }
            bytes.extend(good);
            last += 2;
        } else {
            bytes.extend(any(random, last));
        }
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(1 + random.below(rest.len()));
        if stream.write_all(piece).is_err() {
            break;
        }
        rest = more;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut came = Vec::new();
    if let Err(error) = stream.read_to_end(&mut came)
        && error.kind() == std::io::ErrorKind::WouldBlock
    {
        all.say("a connection does not end".into());
    }
    for (of, data) in data(&came) {
        if let Some(mark) = marks.get(&of) {
            all.look("frames", *mark, &data);
        }
    }
}

/// The bytes of bodies, by stream.
fn data(mut came: &[u8]) -> BTreeMap<u32, Vec<u8>> {
    let mut all = BTreeMap::<u32, Vec<u8>>::new();
    while let Some((head, rest)) = came.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if head[3] == DATA {
            all.entry(stream).or_default().extend_from_slice(payload);
        }
        came = rest;
    }
    all
}

#[test]
fn frames_of_any_kind_are_in_nobodys_way() {
    let mut all = Neighbourhood::start();
    for seed in super::rounds("frames") {
        all.next();
        std::thread::scope(|scope| {
            for client in 0..2 {
                let all = &all;
                scope.spawn(move || {
                    let mut random = Random(seed ^ client << 32);
                    (0..CONNECTIONS).for_each(|_| converse(all, &mut random));
                });
            }
            scope.spawn(|| all.ask(&mut Random(seed), 80));
            scope.spawn(|| run(all.ask_http2(&mut Random(seed ^ 7 << 32), 80)));
            scope.spawn(|| all.ask_the_good_one(200));
        });
        all.assert_nothing_was_wrong(seed);
    }
}
