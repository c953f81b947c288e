//! `apps/NAME.toml`: an app, and where its workers are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::Address;
use super::balancing::Balancing;
use super::session::SessionStore;
use crate::base::{paths, unit};
use crate::config::supervision::Supervision;

/// The port that every worker's TCP listener has; what tells workers apart is the address.
pub const WORKER_PORT: u16 = 7080;

/// From where on workers of apps that bind for themselves get a port each, and how many there are: below those
/// that the kernel gives to clients. So one that binds its port on every address is in nobody's way.
const OWN_PORTS: (u16, u16) = (20_000, 12_000);

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
    /// With `ready = "running"`: how long it must have stayed up.
    pub ready_after: Duration,
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
    /// How many extra workers a deploy starts first, if the file says it.
    pub surge: Option<u16>,
    /// How its workers are confined.
    pub sandbox: Sandbox,
    /// The memory above which a worker is replaced, in bytes.
    pub max_memory: Option<u64>,
    /// How its workers are looked after.
    pub supervision: Supervision,
    /// Where its sessions are, for `SESSION_URL`; `None` when it is told nothing.
    pub session: Option<SessionStore>,
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
    /// Nobody connects to it: a background app.
    None,
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
    /// It has stayed up for a while.
    Running,
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
    /// Node's cluster workers that have clients by Node's own disconnect and then SIGTERM, all others by SIGTERM.
    #[default]
    Auto,
    /// By Node's own disconnect, and then SIGTERM.
    Disconnect,
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

// === impl App ===

impl App {
    /// Where the front reaches worker `number` (from 1); one without an address of its own
    /// ([`App::has_address`]), only by its control socket.
    pub fn worker_address(&self, number: u16) -> Address {
        if !self.has_address() {
            return self.control_socket(number);
        }
        match (self.listen, self.port) {
            (Listen::Port, Some(first)) => {
                let port = first.saturating_add(number.saturating_sub(1));
                return Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
            }
            (Listen::Port, None) => {
                return Address::Tcp(SocketAddr::from((
                    self.own_ip(number),
                    self.own_port(number),
                )));
            }
            (Listen::Unix, _) => {
                // The unit's own RuntimeDirectory=, where the app may create the socket.
                return Address::Unix(paths::app_socket(&self.name, number));
            }
            _ => {}
        }
        match self.transport {
            Transport::Tcp => Address::Tcp(SocketAddr::from((self.own_ip(number), WORKER_PORT))),
            Transport::Unix => Address::Unix(paths::inherited_socket(&self.name, number)),
        }
    }

    /// The worker's own loopback address: in 127.64.0.0/10, so that nobody's 127.0.x.y is in the way.
    fn own_ip(&self, number: u16) -> [u8; 4] {
        let [high, low] = self.slot.to_be_bytes();
        [127, 64 + high, low, number as u8]
    }

    /// A port that no other worker of the app has, and hardly one of another app.
    fn own_port(&self, number: u16) -> u16 {
        let (first, count) = OWN_PORTS;
        // A prime, so that apps whose networks are neighbours are far from each other.
        let place = (u32::from(self.slot) * 4799 + u32::from(number)) % u32::from(count);
        first + place as u16
    }

    /// Where connections are handed to worker `number`.
    fn control_socket(&self, number: u16) -> Address {
        Address::Unix(paths::control_socket(Path::new(paths::WORKERS), &self.name, number))
    }

    /// Whether a worker that was started to be reached there is of any use with these settings: requests
    /// cannot be sent to one that is handed connections, nor those to one that listens.
    pub(crate) fn is_of_use_at(&self, number: u16, address: &Address) -> bool {
        (*address == self.control_socket(number)) != self.has_address()
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

    /// Whether requests are sent to its workers, each at an address of its own; otherwise they are handed
    /// connections, or serve nobody.
    pub fn has_address(&self) -> bool {
        self.handoff.is_none() && !self.is_background()
    }

    /// Whether it has a Valkey server of its own.
    pub fn has_valkey(&self) -> bool {
        self.session == Some(SessionStore::Valkey)
    }

    /// Whose Valkey server it uses, if any.
    pub fn valkey_of(&self) -> Option<&str> {
        match self.session.as_ref()? {
            SessionStore::Valkey => Some(&self.name),
            SessionStore::ValkeyOf(app) => Some(app),
            SessionStore::Embedded | SessionStore::Url(_) => None,
        }
    }

    /// Whether nobody connects to it.
    pub fn is_background(&self) -> bool {
        self.listen == Listen::None
    }

    /// What its workers do, in a word.
    pub fn does(&self) -> &'static str {
        if self.is_background() { "runs" } else { "serves" }
    }

    /// Whether systemd holds each worker's listener; otherwise the app makes its own, or has none.
    pub fn has_socket(&self) -> bool {
        self.handoff.is_none() && matches!(self.listen, Listen::Cluster | Listen::Fd)
    }
}
