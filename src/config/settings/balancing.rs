//! Settings of balancing and health: how the servers of an upstream share its requests, and what
//! makes a server lose and win back its share.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How the servers of an upstream share its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Balancing {
    /// `balance =`: the algorithm.
    pub algorithm: Algorithm,
    /// `protocol =`: what its servers speak.
    pub protocol: ServerProtocol,
    /// `proxy-protocol =`: the header that each connection to them begins with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `queue =`: requests that may wait while no server can take one.
    pub queue: usize,
    /// `queue-timeout =`: how long one may wait.
    pub queue_timeout: Duration,
    /// `max-connections =`: requests in flight at one server, unless the server says otherwise.
    pub max_connections: Option<u32>,
    /// `slow-start =`: how long a server that came back takes to reach its full share, unless the
    /// server says otherwise; zero for at once.
    pub slow_start: Duration,
    /// `sticky =`: a cookie that pins a client to its server.
    pub sticky: Option<Sticky>,
    /// `[passive]`: what is learnt from the requests themselves.
    pub passive: Passive,
    /// `[health]`: what is learnt by asking.
    pub active: Option<ActiveCheck>,
}

/// `protocol =`: what servers speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerProtocol {
    /// `http1`: one request at a time on each connection.
    #[default]
    Http1,
    /// `h2c`: HTTP/2 in cleartext without further ado, as gRPC servers do.
    H2c,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// `balance =`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// `round-robin`: in turn.
    #[default]
    RoundRobin,
    /// `weighted-round-robin`: in turn, smoothly, each as often as its weight says.
    WeightedRoundRobin,
    /// `ip-hash`: by the client's network, as nginx does it.
    IpHash,
    /// `hash`: by a key of the request.
    Hash(Hash),
    /// `least-connections`: fewest requests in flight for its weight.
    LeastConnections,
    /// `peak-ewma`: the better of two drawn at random, by latency and requests in flight.
    PeakEwma,
}

/// `hash = { on = …, method = … }`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hash {
    /// What is hashed.
    pub on: HashKey,
    /// How a hash becomes a server.
    pub method: HashMethod,
}

/// What is hashed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HashKey {
    /// `client-address`: the whole address of the client.
    #[default]
    ClientAddress,
    /// `header:NAME`; names are in lower case.
    Header(String),
    /// `cookie:NAME`.
    Cookie(String),
    /// `path`: path and query, as the client sent them.
    Path,
}

/// How a hash becomes a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashMethod {
    /// `maglev`: even, and every front agrees.
    #[default]
    Maglev,
    /// `ketama`: as nginx's `hash … consistent`.
    Ketama,
    /// `modulo`: as nginx's `hash`: even, but a changed list of servers moves almost everybody.
    Modulo,
}

/// What one server is given and asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// `weight =`: its share in proportion to the others'; 0 for none.
    pub weight: u32,
    /// `max-connections =`: requests in flight, over all threads; `None` for no limit.
    pub max_connections: Option<u32>,
    /// `backup =`: gets requests only when no other server can take them.
    pub backup: bool,
    /// `down =`: gets none, but keeps its place in the hashes.
    pub down: bool,
    /// `slow-start =`: see [`Balancing::slow_start`].
    pub slow_start: Duration,
    /// `protocol =`: see [`Balancing::protocol`].
    pub protocol: ServerProtocol,
    /// `proxy-protocol =`: see [`Balancing::proxy_protocol`].
    pub proxy_protocol: Option<ProxyVersion>,
}

/// `sticky = { cookie = … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: String,
    /// `max-age =`: how long browsers keep it; `None` until they are closed.
    pub max_age: Option<Duration>,
    /// `secure =`: whether it is sent over TLS only.
    pub secure: bool,
    /// `drain =`: whether a draining server still gets the clients that are pinned to it.
    pub drain: bool,
    /// `secret =`: what the cookie is signed with; equal on every front that shares clients.
    /// `None` for one derived from the machine's identity.
    pub secret: Option<String>,
}

/// `[passive]`: what is learnt from the requests themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Passive {
    /// `max-fails =`: failures within `fail-window` that eject a server; 0 for never.
    pub max_fails: u32,
    /// `fail-window =`.
    pub fail_window: Duration,
    /// `fail-timeout =`: how long an ejected server is left alone before one request tries it.
    pub fail_timeout: Duration,
    /// `failures =`: what counts as a failure, besides `statuses`.
    pub failures: Failures,
    /// `statuses =`: responses that count as a failure.
    pub statuses: Statuses,
    /// `error-rate =`: percent of failures and 5xx responses within `fail-window` that eject a
    /// server when the others do better; 0 for never.
    pub error_rate: u32,
    /// `min-requests =`: with fewer within `fail-window`, `error-rate` means nothing.
    pub min_requests: u32,
    /// `max-ejected =`: percent of the servers that may be ejected by what is learnt here.
    pub max_ejected: u32,
    /// `panic-threshold =`: when less than this percent of the servers look healthy, health is
    /// not believed and all are used; 0 for never.
    pub panic_threshold: u32,
}

/// Which ways to fail count as a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// `connect`: no connection could be made.
    pub connect: bool,
    /// `timeout`: no response in time.
    pub timeout: bool,
    /// `invalid-response`: what came was not HTTP, or broke off.
    pub invalid_response: bool,
}

/// A set of HTTP statuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

/// `[health]` as the front uses it: each server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveCheck {
    /// What is asked.
    pub probe: Probe,
    /// `interval =`: between the starts of two checks.
    pub interval: Duration,
    /// `jitter =`: percent of `interval` by which each check is early or late.
    pub jitter: u32,
    /// `timeout =`: for the whole answer.
    pub timeout: Duration,
    /// `fails =`: failed checks in a row that remove a server.
    pub fails: u32,
    /// `passes =`: passed checks in a row that bring it back.
    pub passes: u32,
    /// `start =`: what a server is before its first check.
    pub start: StartState,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `path =`: a GET.
    Http(HttpProbe),
    /// `tcp = true`: whether it accepts a connection.
    Tcp,
}

/// A GET and the answer that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Path and query.
    pub path: String,
    /// `host =`; `None` for the server's own address.
    pub host: Option<String>,
    /// `status =`: what passes.
    pub statuses: Statuses,
    /// `body =`: what the body must contain, within its first 64 KiB.
    pub body: Option<String>,
}

/// What a server is before its first check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StartState {
    /// `up`.
    #[default]
    Up,
    /// `down`: until it passed.
    Down,
}

// === the defaults, each with its reason ===

impl Default for Balancing {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::RoundRobin,
            protocol: ServerProtocol::Http1,
            proxy_protocol: None,
            queue: 1000,
            queue_timeout: Duration::from_secs(30), // a worker restarts in less
            max_connections: None,
            slow_start: Duration::ZERO, // most servers are as fast in their first second
            sticky: None,
            passive: Passive::default(),
            active: None,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            weight: 1,
            max_connections: None,
            backup: false,
            down: false,
            slow_start: Duration::ZERO,
            protocol: ServerProtocol::Http1,
            proxy_protocol: None,
        }
    }
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            max_fails: 3, // one failure is an accident: with 1, as in nginx, it costs a server
            fail_window: Duration::from_secs(10),
            fail_timeout: Duration::from_secs(10),
            failures: Failures { connect: true, timeout: true, invalid_response: true },
            statuses: Statuses(vec![502..=504]), // what a proxy or a starting app says; 500 is a bug
            error_rate: 50,
            min_requests: 50, // fewer say little about a rate
            max_ejected: 50,
            panic_threshold: 50, // the fewer are left, the likelier it is us who err
        }
    }
}

impl Default for ActiveCheck {
    fn default() -> Self {
        Self {
            probe: Probe::Tcp,
            interval: Duration::from_secs(2),
            jitter: 10, // fronts that start together do not ask together for long
            timeout: Duration::from_secs(2),
            fails: 3,
            passes: 2, // one may be luck
            start: StartState::Up,
        }
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self { path: "/".into(), host: None, statuses: Statuses(vec![200..=399]), body: None }
    }
}

// === impl Statuses ===

impl Statuses {
    /// Whether this status is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

// === impl Algorithm ===

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::IpHash => "ip-hash",
            Self::Hash(hash) => return write!(f, "hash on {} by {}", hash.on, hash.method),
            Self::LeastConnections => "least-connections",
            Self::PeakEwma => "peak-ewma",
        })
    }
}

// === impl HashKey ===

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientAddress => f.write_str("client-address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Path => f.write_str("path"),
        }
    }
}

// === impl HashMethod ===

impl fmt::Display for HashMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maglev => "maglev",
            Self::Ketama => "ketama",
            Self::Modulo => "modulo",
        })
    }
}
