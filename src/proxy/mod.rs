//! The request path: connection, request, route, forward, response.

mod attempt;
mod budget;
pub(crate) mod buf;
pub(crate) mod chunk;
pub(crate) mod connection;
pub(crate) mod counters;
pub(crate) mod deadline;
mod exchange;
pub(crate) mod field;
pub(crate) mod forwarded;
mod frames;
mod front;
pub(crate) mod http2;
mod https;
pub(crate) mod identity;
mod incoming;
pub(crate) mod local;
mod pace;
pub mod preface;
mod reading;
mod reason;
mod relay;
mod reply;
pub(crate) mod request;
pub(crate) mod response;
mod rewrite;
mod router;
#[cfg(any(test, fuzzing))]
pub(crate) mod sans_io;
mod server;
mod splice;
mod target;
mod tunnel;
mod write;

pub use counters::{ByReason, Totals};
pub use front::{Front, Snapshot};
pub use reason::{REASONS, Reason};
pub use router::Router;

/// Gives back what this thread has not needed since the last call.
pub(crate) fn trim() {
    buf::trim();
    splice::trim();
}
