//! What the DNS says about servers.

use std::net::SocketAddr;
use std::sync::Arc;

/// One server that a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where it is.
    pub address: SocketAddr,
    /// What an SRV record says about it.
    pub record: Option<Record>,
    /// The host that it is an address of.
    pub host: Arc<str>,
}

/// What an SRV record says about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its share in proportion to the others', at least 1.
    pub weight: u32,
    /// Whether others go before it.
    pub backup: bool,
}
