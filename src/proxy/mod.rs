//! The request path: connection, request, route, forward, response.

mod attempt;
mod budget;
pub(crate) mod chunk;
pub(crate) mod connection;
mod crowd;
#[cfg(test)]
mod endless;
mod exchange;
pub(crate) mod field;
pub(crate) mod forwarded;
mod frames;
mod gone;
pub(crate) mod http2;
mod https;
pub(crate) mod identity;
mod incoming;
pub(crate) mod local;
mod pace;
mod poison;
mod pool;
mod reading;
mod relay;
mod reply;
pub(crate) mod request;
pub(crate) mod response;
mod rewrite;
#[cfg(any(test, fuzzing))]
pub(crate) mod sans_io;
mod server;
mod target;
mod tunnel;
mod websocket;
