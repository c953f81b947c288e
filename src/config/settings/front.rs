//! `roundsman.toml`, and what the front does where that says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use super::session::Session;
use crate::config::dns::Dns;
use crate::config::listener::{ListenProtocol, Listener};

/// `roundsman.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Front {
    /// Networks whose `X-Forwarded-*`, `Forwarded` and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether paths go on that servers disagree about.
    pub pass_ambiguous_paths: bool,
    /// Whether clients are served that have ended their side of the connection.
    pub serve_half_closed: bool,
    /// The worker threads.
    pub threads: Threads,
    /// Listeners by the name that `FileDescriptorName=` gives them.
    pub listeners: BTreeMap<String, Listener>,
    /// How long the front waits for whom.
    pub timeouts: Timeouts,
    /// How much the front takes from whom.
    pub limits: Limits,
    /// To whom failed requests go next.
    pub retries: Retries,
    /// How the names of servers are looked up.
    pub dns: Dns,
    /// The shared session store.
    pub session: Session,
    /// Pages by status, in place of the built-in ones; `{status}`, `{title}`, `{detail}` and
    /// `{request-id}` in them are filled in.
    pub error_pages: BTreeMap<u16, String>,
}

/// `[threads]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threads {
    /// Number of threads; `None` for one per core that the service may use.
    pub count: Option<usize>,
    /// Whether each thread is pinned to its core.
    pub pin: bool,
    /// Which thread a new connection is handed to.
    pub hand_off: HandOff,
}

/// Which thread a new connection is handed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HandOff {
    /// In turn.
    #[default]
    RoundRobin,
    /// The thread with the fewest open connections.
    LeastConnections,
}

/// `[timeouts]`. Each is the longest time without the progress that its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// A client's TLS handshake, from the connection on.
    pub tls_handshake: Duration,
    /// A client's whole request head, from its first byte.
    pub client_header: Duration,
    /// Between two reads of a request body.
    pub client_body: Duration,
    /// Between two writes of a response to a client that does not read.
    pub client_write: Duration,
    /// A kept-alive client connection between two requests.
    pub idle: Duration,
    /// Connecting to a server.
    pub connect: Duration,
    /// Between two writes of a request to a server that does not read.
    pub upstream_write: Duration,
    /// From the last byte of the request to the end of the response head.
    pub response_header: Duration,
    /// Between two reads of a response body.
    pub response_body: Duration,
    /// A kept-alive connection to a server between two requests. Below Node's own 5 s on purpose.
    pub upstream_idle: Duration,
    /// A request as a whole, from its head to the end of its response; `None` for no limit.
    pub request: Option<Duration>,
    /// An upgraded connection (WebSocket) without a byte in either direction.
    pub tunnel_idle: Duration,
    /// Finishing what is in flight when the front stops.
    pub shutdown: Duration,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request or response head.
    pub header_bytes: usize,
    /// Fields of a request or response head.
    pub headers: usize,
    /// Bytes of a request body; `None` for no limit.
    pub body: Option<u64>,
    /// Open client connections in all.
    pub connections: usize,
    /// Open client connections of one address.
    pub connections_per_client: PerClient,
    /// Requests on one client connection.
    pub requests_per_connection: u64,
    /// Requests at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Idle connections that each thread keeps to one server.
    pub upstream_idle_connections: usize,
    /// Bytes a second that a client must send of its body while the front waits for it, give or
    /// take what comes in `timeouts.client-body`; 0 for any rate.
    pub body_rate: u64,
    /// Bytes a second that a client must take of a response that is there for it, give or take what
    /// goes in `timeouts.client-write`; 0 for any rate.
    pub response_rate: u64,
}

/// How many connections one address may have open. The proxies that are trusted may have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerClient {
    /// Half of all, so that nobody keeps the others out; this machine's own addresses any.
    Half,
    /// So many.
    AtMost(usize),
    /// Any number.
    Unlimited,
}

/// `[retries]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Further servers that one request may be tried on.
    pub attempts: u32,
    /// Retries as a share of all requests, in percent, above a floor of ten a second.
    pub budget_percent: u32,
}

// === impl Front ===

impl Front {
    /// What is spoken on the listener of this name.
    pub fn listener(&self, name: &str) -> &Listener {
        static HTTP: Listener = Listener::speaking(ListenProtocol::Http);
        static HTTPS: Listener = Listener::speaking(ListenProtocol::Https);
        let default = match ListenProtocol::default_for(name) {
            ListenProtocol::Http => &HTTP,
            ListenProtocol::Https => &HTTPS,
        };
        self.listeners.get(name).unwrap_or(default)
    }
}

// === the defaults, each with its reason ===

impl Default for Threads {
    fn default() -> Self {
        Self { count: None, pin: true, hand_off: HandOff::RoundRobin }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tls_handshake: seconds(10), // three round trips on the worst line
            client_header: seconds(15), // a phone on a bad line needs a few; slowloris wants many
            client_body: seconds(30),
            client_write: seconds(30),
            idle: seconds(75),   // browsers keep connections for a minute
            connect: seconds(2), // servers are near: a longer wait only hides a dead one
            upstream_write: seconds(30),
            response_header: seconds(60),
            response_body: seconds(60),
            upstream_idle: seconds(4), // Node closes after 5 s; see Keep-Alive: timeout
            request: None,             // downloads and event streams take as long as they take
            tunnel_idle: seconds(3600),
            shutdown: seconds(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024, // twice what Node itself takes by default
            headers: 128,
            body: Some(1024 * 1024 * 1024),
            connections: 100_000,
            connections_per_client: PerClient::Half,
            requests_per_connection: 100_000,
            streams_per_connection: 128, // as nginx; browsers open about a hundred
            upstream_idle_connections: 256, // more than are busy at once, or they would be opened anew
            body_rate: 240, // the worst modem does more; a byte now and then is an attack
            response_rate: 240, // the same the other way; IIS and Kestrel ask for as much
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, budget_percent: 20 }
    }
}
