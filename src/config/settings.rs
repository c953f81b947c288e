//! Validated settings: the only form of the configuration that the runtime sees.
//!
//! Everything here is complete (defaults are filled in), consistent across files, and owned; the
//! way from files to here is `fragment → input → settings` (see the module above).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::base::paths;
use crate::base::unit;

pub use super::balancing::{
    ActiveCheck, Algorithm, Balancing, Failures, Hash, HashKey, HashMethod, HttpProbe, Passive,
    Probe, ServerOptions, ServerProtocol, Share, Split, SplitKey, StartState, Statuses, Sticky,
};
pub use super::dns::{Dns, DnsName, Family, NamedServers};
pub use super::listener::{
    CertificateFiles, ClientCertificate, ForwardedCertificate, ListenProtocol, Listener, Secret,
    SecretSource,
};
pub use super::pattern::Watch;
pub use super::supervision::{Restart, Supervision};

/// Everything the files under `/etc/roundsman` and its siblings say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The front's own part, from `roundsman.toml`.
    pub front: Front,
    /// Applications by name, from `apps/NAME.toml`.
    pub apps: BTreeMap<String, App>,
    /// Upstreams whose servers something else runs, from `upstreams/NAME.toml`.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Every route of every file.
    pub routes: Vec<Route>,
}

/// `roundsman.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Front {
    /// Networks whose `X-Forwarded-*`, `Forwarded` and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
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
    /// Open client connections of one address; `None` for no limit.
    pub connections_per_client: Option<usize>,
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

/// `[retries]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Further servers that one request may be tried on.
    pub attempts: u32,
    /// Retries as a share of all requests, in percent, above a floor of ten a second.
    pub budget_percent: u32,
}

/// What `session = true` stands for: the store on this machine.
pub const SESSION_URL: &str = "unix:///run/roundsman/session.sock";

/// `[session]`: the store that `roundsman session` serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// When an acknowledged write is on the disk.
    pub sync: SessionSync,
    /// Bytes of all keys and values beyond which entries are evicted, nearest expiry first.
    pub max_size: u64,
    /// Bytes that entries may take in memory: what changed lately, and what was read lately.
    pub memory: usize,
    /// Open connections.
    pub connections: usize,
    /// How long the service may be without a connection before it stops; `None` for ever.
    pub idle_stop: Option<Duration>,
    /// An additional listener over TCP, for clients on other machines.
    pub listen: Option<SocketAddr>,
    /// What clients of that listener must know: lines of `NAMESPACE:PASSWORD`. It needs one.
    pub password_file: Option<PathBuf>,
}

/// When an acknowledged write is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SessionSync {
    /// Before it is acknowledged.
    Always,
    /// Within a second. A crash of the program loses nothing, one of the machine that second.
    #[default]
    EverySecond,
}

/// `apps/NAME.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The file's stem: `[a-z0-9_-]+`, not starting with `-`, at most 64 bytes.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub directory: Option<PathBuf>,
    /// As whom it runs; `None` for a dynamic user.
    pub user: Option<String>,
    /// The group, when it is not the user's own.
    pub group: Option<String>,
    /// Number of workers, 1 to 250.
    pub workers: u16,
    /// Variables for the app.
    pub environment: BTreeMap<String, String>,
    /// Files of `NAME=value` lines that are read before each start.
    pub environment_files: Vec<PathBuf>,
    /// How the app takes connections.
    pub listen: Listen,
    /// With `listen = "port"`: the TCP port of worker 1; worker N binds `port + N - 1`.
    pub port: Option<u16>,
    /// How the front reaches the worker.
    pub transport: Transport,
    /// With `mode = "handoff"`: the listener whose connections it gets.
    pub handoff: Option<String>,
    /// What makes a worker ready.
    pub ready: Ready,
    /// The health check, when the app has a path for one.
    pub health: Option<Health>,
    /// How its workers share the requests.
    pub balancing: Balancing,
    /// From the start of the process to `READY=1`.
    pub start_timeout: Duration,
    /// How the app is asked to end.
    pub shutdown: Shutdown,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// From the start of a drain to the stop, whatever is still in flight.
    pub drain_timeout: Duration,
    /// How long the app may not answer before systemd restarts it.
    pub watchdog: Duration,
    /// Whether a deploy that fails goes back to the release before.
    pub rollback: bool,
    /// How its workers are confined.
    pub sandbox: Sandbox,
    /// The memory above which a worker is replaced, in bytes.
    pub max_memory: Option<u64>,
    /// How its workers are looked after.
    pub supervision: Supervision,
    /// Where its sessions are, for `SESSION_URL`; `None` when it is told nothing.
    pub session: Option<String>,
    /// Which loopback network (`127.x.y.0/24`) the workers' TCP listeners are on: 16384 slots.
    pub slot: u16,
}

/// How an app takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Node: by the cluster protocol, whatever port the app asks for.
    Cluster,
    /// The worker's own listener is descriptor 3 (`LISTEN_FDS=1`).
    Fd,
    /// The app binds the TCP port in `PORT` (and address in `HOST`).
    Port,
    /// The app binds the UNIX socket in `SOCKET`.
    Unix,
}

/// How the front reaches a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP on a loopback address of the worker's own.
    Tcp,
    /// A UNIX socket that only the front may open.
    Unix,
}

/// What makes a worker ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ready {
    /// It listens (and its health path answers, if there is one).
    #[default]
    Listening,
    /// It sends the message `"ready"` over Node's channel.
    Message,
    /// It sends `READY=1` itself.
    Notify,
}

/// How an app's workers are confined: docs/sandbox.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// What hardly any app minds.
    #[default]
    Default,
    /// All that an app can do without that needs only its own directory and the network.
    Strict,
    /// Nothing.
    Off,
}

/// How an app is asked to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shutdown {
    /// Node's cluster workers by Node's own disconnect and then SIGTERM, all others by SIGTERM.
    #[default]
    Auto,
    /// By the message `"shutdown"` over Node's channel, as PM2's `shutdown_with_message` does it.
    Message,
    /// By this signal.
    Signal(StopSignal),
}

/// A signal that apps take for the wish that they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, without a disconnect before.
    Term,
    /// SIGINT, which PM2 sends.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGWINCH.
    Winch,
}

/// `[health]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked for with GET.
    pub path: String,
    /// The `Host` it is asked with.
    pub host: Option<String>,
    /// Between two checks.
    pub interval: Duration,
    /// For one answer.
    pub timeout: Duration,
}

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

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A UNIX stream socket.
    Unix(PathBuf),
}

/// What a request must match, and who answers it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which hosts.
    pub host: HostPattern,
    /// Path prefix, on segment borders: `/api` matches `/api` and `/api/x`, not `/apix`.
    pub path: String,
    /// What it demands of the way there.
    pub https: Https,
    /// Who answers.
    pub target: RouteTarget,
}

/// Whether clients are to come over TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Https {
    /// Whether those that do not are sent there.
    pub redirect: bool,
    /// For how long browsers are told to come over TLS only (`Strict-Transport-Security`).
    pub hsts: Option<Duration>,
    /// Whether that goes for every name below the host, too.
    pub hsts_subdomains: bool,
}

/// Which hosts a route is for; lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// Every name below this one (`*.example.com` is stored as `example.com`).
    Wildcard(String),
    /// Every host.
    Any,
}

/// Who answers a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// The workers of this app.
    App(String),
    /// The servers of this upstream.
    Upstream(String),
    /// One of several, by a share each.
    Split(Split),
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

// === impl Settings ===

impl Settings {
    /// The app that gets the connections of this listener, if that is an app's alone.
    pub fn handed(&self, listener: &str) -> Option<&str> {
        let owner = |app: &&App| app.handoff.as_deref() == Some(listener);
        self.apps.values().find(owner).map(|app| app.name.as_str())
    }
}

// === impl App ===

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The port that every worker's TCP listener has; what tells workers apart is the address.
pub const WORKER_PORT: u16 = 7080;

impl App {
    /// Where the front reaches worker `number` (from 1).
    pub fn worker_address(&self, number: u16) -> Address {
        if self.handoff.is_some() {
            let path = paths::control_socket(Path::new(paths::WORKERS), &self.name, number);
            return Address::Unix(path);
        }
        match (self.listen, self.port) {
            (Listen::Port, Some(first)) => {
                let port = first.saturating_add(number.saturating_sub(1));
                return Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
            }
            (Listen::Unix, _) => {
                // The unit's own RuntimeDirectory=, where the app may create the socket.
                return Address::Unix(paths::app_socket(&self.name, number));
            }
            _ => {}
        }
        match self.transport {
            Transport::Tcp => {
                let [high, low] = self.slot.to_be_bytes();
                // 127.64.0.0/10, so that nobody's 127.0.x.y is in the way.
                Address::Tcp(SocketAddr::from(([127, 64 + high, low, number as u8], WORKER_PORT)))
            }
            Transport::Unix => Address::Unix(paths::inherited_socket(&self.name, number)),
        }
    }

    /// The systemd instance name of worker `number`: `shop:1`.
    pub fn instance(&self, number: u16) -> String {
        format!("{}:{number}", self.name)
    }

    /// Whether somebody has to look after the workers.
    pub fn is_watched(&self) -> bool {
        let supervision = &self.supervision;
        supervision.watch.is_some() || self.max_memory.is_some() || supervision.max_age.is_some()
    }

    /// What must be stopped so that worker `number` runs no more and no connection starts it again.
    pub fn units_of(&self, number: u16) -> Vec<String> {
        let mut units = vec![unit::service(&self.name, number)];
        if self.has_socket() {
            units.push(unit::socket(&self.name, number));
        }
        units
    }

    /// Whether systemd holds each worker's listener; otherwise the app makes its own, or is handed
    /// connections.
    pub fn has_socket(&self) -> bool {
        self.handoff.is_none() && matches!(self.listen, Listen::Cluster | Listen::Fd)
    }
}

// === impl Address ===

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// === impl RouteTarget ===

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(name) => write!(f, "app:{name}"),
            Self::Upstream(name) => write!(f, "upstream:{name}"),
            Self::Split(split) => {
                f.write_str("split:")?;
                for (i, share) in split.shares.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{}={}", share.to, share.share)?;
                }
                Ok(())
            }
        }
    }
}
