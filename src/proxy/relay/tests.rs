//! What goes in comes out, in whatever pieces it comes.

use std::future::poll_fn;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::chunk::Event;
use super::super::endless::{Endless, Woken};
use super::*;
use crate::io::buf::Input;

/// Sends `wire` through a relay in pieces of these sizes, over pipes of this size; what came
/// out, and what was left over.
fn relay(
    wire: &[u8],
    (framing, chunked_out): (Framing, bool),
    pieces: &[usize],
    pipe: usize,
) -> (Result<(), RelayError>, Vec<u8>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut near, mut source) = tokio::io::duplex(pipe);
        let (mut sink, mut far) = tokio::io::duplex(pipe);
        let feed = async {
            let mut rest = wire;
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                if near.write_all(now).await.is_err() {
                    return; // the relay has all it needs
                }
                tokio::task::yield_now().await;
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            drop(near);
        };
        let mut relay = Relay::new(framing, chunked_out, None, 1024);
        let run = async {
            let result = poll_fn(|cx| relay.poll(cx, &mut source, &mut sink)).await;
            drop(source);
            drop(sink);
            result
        };
        let mut out = Vec::new();
        let collect = async { far.read_to_end(&mut out).await };
        let (result, (), _) = tokio::join!(run, feed, collect);
        (result, out, relay.rest().to_vec())
    })
}

fn encode(body: &[u8], chunk: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in body.chunks(chunk) {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn decode(wire: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::new(0);
    let mut data = Vec::new();
    let mut used = 0;
    loop {
        match decoder.next(&wire[used..]).unwrap() {
            Event::Data { at, len } => {
                data.extend_from_slice(&wire[used + at..used + at + len]);
                used += at + len;
            }
            Event::End { used: end } if used + end == wire.len() => return data,
            other => panic!("{other:?} at {used} of {}", wire.len()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bodies_come_out_as_they_went_in(
        body in proptest::collection::vec(any::<u8>(), 0..5000),
        chunk in 1_usize..700,
        pieces in proptest::collection::vec(1_usize..900, 1..5),
        pipe in 1_usize..3000,
        chunked in any::<bool>(),
        chunked_out in any::<bool>(),
    ) {
        let (framing, mut wire) = if chunked {
            (Framing::Chunked, encode(&body, chunk))
        } else {
            (Framing::Length(body.len() as u64), body.clone())
        };
        wire.extend_from_slice(b"next");
        let chunked_out = chunked_out && (chunked || !body.is_empty());
        let (result, out, rest) = relay(&wire, (framing, chunked_out), &pieces, pipe);
        prop_assert!(result.is_ok(), "{:?}", result);
        let out = if chunked_out { decode(&out) } else { out };
        prop_assert!(out == body);
        // A body with a length is read to its end and hardly beyond.
        prop_assert!(b"next".starts_with(&rest) && (chunked || rest.len() <= 1));
    }

    #[test]
    fn what_came_with_the_head_is_framed_the_same(
        body in proptest::collection::vec(any::<u8>(), 1..2000),
        chunk in 1_usize..300,
        cut in 0_usize..3000,
        before in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let wire = encode(&body, chunk);
        let cut = cut.min(wire.len());
        let mut buffer = Buf::bulk();
        buffer[HEADROOM..HEADROOM + cut].copy_from_slice(&wire[..cut]);
        let mut relay = Relay::new(Framing::Chunked, true, None, 1024);
        relay.start((buffer, HEADROOM..HEADROOM + cut), &before).unwrap();
        let first = relay.buffer.as_ref().map_or(Vec::new(), |b| b[relay.out.clone()].to_vec());
        prop_assert!(first.starts_with(&before));

        // The same by way of an input, as requests go.
        let mut relay = Relay::new(Framing::Chunked, true, None, 1024);
        let mut input = Input::new(0);
        input.put(&wire[..cut]);
        let mut out = before.clone();
        relay.append_to(&mut input, &mut out).unwrap();
        prop_assert!(out == first);
        prop_assert!(input.is_empty());
    }
}

#[test]
fn an_early_end_is_no_end() {
    for framing in [Framing::Length(10), Framing::Chunked] {
        let (result, ..) = relay(b"5\r\nhe", (framing, false), &[3], 100);
        assert!(matches!(result, Err(RelayError::Source(_))), "{result:?}");
    }
    let (result, out, _) = relay(b"all of it", (Framing::Close, true), &[3], 100);
    assert!(result.is_ok());
    assert_eq!(decode(&out), b"all of it");
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let mut relay = Relay::new(Framing::Chunked, true, Some(4), 1024);
    let mut input = Input::new(0);
    input.put(b"5\r\nhello\r\n");
    let result = relay.append_to(&mut input, &mut Vec::new());
    assert!(matches!(result, Err(RelayError::TooLarge)));
}

#[test]
fn a_body_that_never_ends_takes_turns() {
    for (framing, unit, most) in [
        (Framing::Length(u64::MAX), &[b'x'; 1000][..], TURN),
        (Framing::Close, &[b'x'; 1000], TURN),
        (Framing::Chunked, b"a\r\n0123456789\r\n", TURN),
        (Framing::Chunked, b"1\r\nx\r\n", 2 * CHUNKED as u64),
    ] {
        let (mut source, mut sink) = (Endless::of(unit), Endless::of(unit));
        let mut relay = Relay::new(framing, framing == Framing::Chunked, None, 1024);
        let woken = std::sync::Arc::new(Woken::default());
        let waker = std::task::Waker::from(std::sync::Arc::clone(&woken));
        for turn in 1..4 {
            let polled = relay.poll(&mut Context::from_waker(&waker), &mut source, &mut sink);
            assert!(polled.is_pending(), "{framing:?}");
            assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), turn, "it goes on");
            assert!(source.read <= turn * most, "{} bytes of {framing:?}", source.read);
            assert_eq!(relay.waits(), Waits::Source, "what was read is written");
        }
    }
}
