//! The shared session store: a Redis-protocol server over one file and a log.
//!
//! `protocol` is bytes in, requests out and replies out, without I/O; `command` gives requests
//! their meaning; `store` keeps the data; `server` owns the sockets. `namespace` decides which
//! keys a peer may see. `remote` is a client, for tools that copy sessions between servers.

pub mod command;
pub(crate) mod namespace;
pub(crate) mod protocol;
pub(crate) mod remote;
pub(crate) mod server;
pub(crate) mod store;

/// Milliseconds since 1970: the clock that expiries are told by.
pub fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64)
}
