//! `upstreams/NAME.toml`: servers that something else runs.

use super::address::Address;
use super::balancing::{Balancing, ServerOptions};
use crate::config::dns::NamedServers;

/// `upstreams/NAME.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// The file's stem, as for an app.
    pub name: String,
    /// The servers whose addresses are given, in the file's order.
    pub servers: Vec<UpstreamServer>,
    /// Those that are looked up.
    pub names: Vec<NamedServers>,
    /// How they share the requests.
    pub balancing: Balancing,
}

/// One entry of `servers`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamServer {
    /// Where it is.
    pub address: Address,
    /// What it is given and asked for.
    pub options: ServerOptions,
}
