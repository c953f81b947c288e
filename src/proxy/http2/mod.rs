//! HTTP/2: each stream takes the way of an HTTP/1.1 request.
//!
//! A client's stream is presented to the rest of the proxy as an HTTP/1.1 connection that carries
//! one request, and a stream to a server as a connection to one ([`stream`], [`exchange`]). So
//! there is one set of rules, one way of picking, retrying, limiting and logging, whatever is
//! spoken on either side. Frames, flow control and header compression are the h2 crate's.

mod backlog;
mod body;
mod connect;
mod connection;
mod exchange;
mod head;
mod job;
mod links;
mod meter;
#[cfg(any(test, fuzzing))]
pub(crate) mod sans_io;
mod share;
mod stream;
mod tasks;
mod workers;

pub(crate) use connect::connect;
pub(crate) use connection::{serve, serve_either};
pub(crate) use exchange::Exchange;
pub(crate) use head::can_carry;
pub(crate) use links::Links;
pub(crate) use workers::Workers;

use std::io;

/// What of one body may be on its way to us. What a client may fill is what it can make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all bodies of one connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What of one body waits in memory for the other side to take it.
const SEND_BUFFER: usize = 128 * 1024;

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
