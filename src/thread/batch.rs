//! Accepted connections on their way to a thread.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a thread must know about the listener a connection came from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) port: Option<u16>,
    pub(super) unix: bool,
}

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) peer: Option<SocketAddr>,
}

/// Connections of one listener.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) connections: Vec<Accepted>,
    pub(super) source: Arc<Source>,
}
