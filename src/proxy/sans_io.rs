//! An exchange without sockets, for the fuzzer: what a client and a server send goes through the same
//! code as on the wire, and what comes out must mean what went in.

use std::sync::Arc;

use super::chunk::{Decoder, Event};
use super::field::MAX_FIELDS;
use super::forwarded::Origin;
use super::incoming::Request;
use super::local::Local;
use super::relay::Relay;
use super::request::{self, Framing};
use super::response;
use super::rewrite::{self, Connection};
use crate::config::Settings;
use crate::front::Front;
use crate::front::counters::Counters;
use crate::io::buf::{Input, Out};

/// What stands between the client's bytes and the server's.
const TURN: &[u8] = b"\n<<<\n";
/// Enough for the trailers of an input.
const MAX_TRAILERS: usize = 4096;

/// A client's bytes, and behind [`TURN`] a server's answer.
pub(crate) fn exchange(input: &[u8]) {
    let at = memchr::memmem::find(input, TURN);
    let (client, server) =
        at.map_or((input, &b""[..]), |at| (&input[..at], &input[at + TURN.len()..]));
    forward(client);
    relay(server);
}

/// Every request of a connection: the server gets each as one message, with our fields and the body
/// that the client sent, and nothing behind it.
fn forward(bytes: &[u8]) {
    let front = Arc::new(Front::new(Settings::default(), 1));
    let local = Local::new(0, front, Arc::<Counters>::default());
    let snapshot = local.snapshot();
    let peer = Some([192, 0, 2, 1].into());
    let origin = Origin { peer, port: Some(80), ..Origin::default() };
    let mut input = Input::new(0);
    input.put(bytes);
    while let Ok(Some((mut request, len))) = Request::parse(input.bytes(), &snapshot, &origin) {
        input.consume(len);
        let sent = input.bytes().to_vec();
        let chunked = request.framing == Framing::Chunked;
        let mut upload = Relay::new(request.framing, chunked, None, MAX_TRAILERS);
        let appended = upload.append_to(&mut input, &mut request.out);
        if appended.is_err() || !upload.is_finished() {
            return;
        }
        let used = sent.len() - input.bytes().len();
        let body = payload(&sent, request.framing);

        let out = &request.out[..];
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let head = request::Head::parse(out, &mut slots, MAX_FIELDS).expect("we wrote it");
        let head = head.expect("it is whole");
        assert_eq!(head.framing, request.framing, "{}", out.escape_ascii());
        assert_eq!(head.len, request.head_len);
        let behind = &out[head.len..];
        assert_eq!(payload(behind, head.framing), body, "{}", out.escape_ascii());
        let expected = if chunked { framed(behind) } else { used };
        assert_eq!(behind.len(), expected, "something follows: {}", out.escape_ascii());
        let ours = b"\r\nX-Forwarded-For: 192.0.2.1\r\n";
        assert!(memchr::memmem::find(out, ours).is_some(), "{}", out.escape_ascii());
        if !request.keeps_alive || input.is_empty() {
            return;
        }
    }
}

/// A response: the client gets one with the same status and body, framed so that it sees the end.
fn relay(bytes: &[u8]) {
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let Ok(Some(head)) = response::Head::parse(bytes, &mut slots, 100, false) else { return };
    if head.is_interim() || head.status == 101 {
        return;
    }
    let chunked = matches!(head.framing, Framing::Chunked | Framing::Close);
    let mut out = Out::new();
    rewrite::response(&mut out, bytes, &head, chunked, Connection::Persistent, None, None);
    let rewritten = out.len();
    let sent = &bytes[head.len..];
    let mut download = Relay::new(head.framing, chunked, None, MAX_TRAILERS);
    let mut input = Input::new(0);
    input.put(sent);
    if download.append_to(&mut input, &mut out).is_err() {
        return;
    }
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let got = response::Head::parse(&out, &mut slots, MAX_FIELDS, false).expect("we wrote it");
    let got = got.expect("it is whole");
    assert_eq!((got.status, got.len), (head.status, rewritten), "{}", out.escape_ascii());
    assert_eq!(got.framing == Framing::Chunked, chunked, "{}", out.escape_ascii());
    if download.is_finished() {
        let behind = &out[rewritten..];
        assert_eq!(
            payload(behind, got.framing),
            payload(sent, head.framing),
            "{}",
            out.escape_ascii()
        );
    }
}

/// The payload at the start of these bytes.
fn payload(bytes: &[u8], framing: Framing) -> Vec<u8> {
    match framing {
        Framing::Length(length) => bytes[..bytes.len().min(length as usize)].to_vec(),
        Framing::Chunked => decoded(bytes).0,
        Framing::Close => bytes.to_vec(),
    }
}

/// Bytes of the chunked body at the start of these.
fn framed(bytes: &[u8]) -> usize {
    decoded(bytes).1
}

/// A chunked body's payload, and how long it is with its framing.
fn decoded(mut bytes: &[u8]) -> (Vec<u8>, usize) {
    let whole = bytes.len();
    let mut decoder = Decoder::new(MAX_TRAILERS);
    let mut payload = Vec::new();
    loop {
        match decoder.next(bytes) {
            Ok(Event::Data { at, len }) => {
                payload.extend_from_slice(&bytes[at..at + len]);
                bytes = &bytes[at + len..];
            }
            Ok(Event::End { used }) => return (payload, whole - bytes.len() + used),
            _ => return (payload, whole),
        }
    }
}
