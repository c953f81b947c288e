//! What picking a server needs to know about a request.

use std::net::IpAddr;

use tokio::time::Instant;

/// One request that wants a server.
#[derive(Clone, Copy)]
pub struct PickInput<'a> {
    /// The thread it is on.
    pub thread: usize,
    /// Servers (ids) that it was tried on already.
    pub tried: &'a [u32],
    /// The client, as `trusted-proxies` allow to know it; `None` for a UNIX socket's.
    pub client: Option<IpAddr>,
    /// Where hash keys and the sticky cookie come from.
    pub request: &'a dyn RequestKeys,
    /// The time.
    pub now: Instant,
    /// A number that nobody foresees, for algorithms that draw.
    pub random: u64,
}

/// What can be asked about a request; nothing is looked up unless an algorithm wants it.
pub trait RequestKeys {
    /// The first field of this name (in lower case).
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The cookie of this name.
    fn cookie(&self, name: &str) -> Option<&[u8]>;
    /// Path and query as the client sent them.
    fn path(&self) -> &[u8];
}

/// A request about which nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct NoKeys;

impl RequestKeys for NoKeys {
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn cookie(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn path(&self) -> &[u8] {
        b""
    }
}

impl std::fmt::Debug for PickInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PickInput")
            .field("thread", &self.thread)
            .field("tried", &self.tried)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
