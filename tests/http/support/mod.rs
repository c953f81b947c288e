//! The real threads on a port of their own, servers that do as they are told, and a client that
//! takes nothing for granted.

pub(crate) mod pki;

use crate::common::{program, python};

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use roundsman::config::Settings;
use roundsman::config::settings::{
    Address, Balancing, HostPattern, Https, Route, RouteTarget, ServerOptions, Upstream,
    UpstreamServer,
};
use roundsman::front::{Front, Reason, Totals};
use roundsman::thread::{Listener, Socket, Threads};
use roundsman::tls::Tls;

pub(crate) use crate::common::backend::{Backend, ok};
pub(crate) use crate::common::http::{Client, Message, Reader, get};
pub(crate) use crate::common::waiting::{PATIENCE, eventually, eventually_meanwhile};
pub(crate) use program::Program;
pub(crate) use python::{PythonServer, python};

/// A front at work.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) front: Arc<Front>,
    pub(crate) threads: Threads,
}

/// Settings of one upstream with these servers, for every host and path.
pub(crate) fn settings(servers: &[SocketAddr]) -> Settings {
    let servers = servers
        .iter()
        .map(|address| UpstreamServer {
            address: Address::Tcp(*address),
            options: ServerOptions::default(),
        })
        .collect();
    let mut settings = Settings::default();
    add(&mut settings, "test", servers, HostPattern::Any, "/");
    settings
}

/// Adds an upstream with a route.
pub(crate) fn add(
    settings: &mut Settings,
    name: &str,
    servers: Vec<UpstreamServer>,
    host: HostPattern,
    path: &str,
) {
    let upstream =
        Upstream { name: name.into(), servers, names: Vec::new(), balancing: Balancing::default() };
    settings.upstreams.insert(name.into(), upstream);
    let (https, target) = (Https::default(), RouteTarget::Upstream(name.into()));
    settings.routes.push(Route { host, path: path.into(), https, target });
}

impl Proxy {
    /// One thread over these servers.
    pub(crate) fn over(backends: &[&Backend]) -> Self {
        Self::with(backends, |_| {})
    }

    /// The same with changed settings.
    pub(crate) fn with(backends: &[&Backend], change: impl FnOnce(&mut Settings)) -> Self {
        let addresses: Vec<_> = backends.iter().map(|b| b.address).collect();
        let mut settings = settings(&addresses);
        change(&mut settings);
        Self::start(settings, 1)
    }

    pub(crate) fn start(settings: Settings, threads: usize) -> Self {
        let (tls, problems) = Tls::load(&settings.front, None);
        assert!(problems.is_empty(), "{problems:?}");
        let front = Arc::new(Front::with_tls(settings, tls, threads));
        let cores: Vec<_> = (0..threads).collect();
        let threads = Threads::start(Arc::clone(&front), &cores, false).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        threads.accept(vec![Listener { name: "http".into(), socket: Socket::Tcp(socket) }]);
        Self { address, front, threads }
    }

    /// Requests at servers.
    pub(crate) fn in_flight(&self) -> u32 {
        self.front.snapshot().servers().map(|(_, server)| server.in_flight()).sum()
    }

    /// The final response to a GET behind these bytes.
    pub(crate) fn ask_after(&self, start: &[u8], request: &str) -> Message {
        self.send([start, request.as_bytes()].concat()).final_response("GET").unwrap()
    }

    /// Stops it, with so long for what is in flight; how many connections were cut.
    pub(crate) fn stop(&self, grace: Duration) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            self.threads.stop_accepting().await;
            self.threads.finish(grace).await
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.threads.totals()
    }
}

/// What clients can reach: the threads in this process, or the program.
pub(crate) trait Wire {
    /// Where it listens.
    fn at(&self) -> SocketAddr;

    fn connect(&self) -> Client {
        Client::connect(self.at(), PATIENCE).unwrap()
    }

    /// A new connection that has sent this.
    fn send(&self, raw: impl AsRef<[u8]>) -> Client {
        let mut client = self.connect();
        client.send(raw);
        client
    }

    /// The final response to this request on a connection of its own.
    fn ask(&self, raw: impl AsRef<[u8]>) -> Message {
        self.connect().ask(raw).unwrap()
    }
}

impl Wire for Proxy {
    fn at(&self) -> SocketAddr {
        self.address
    }
}

impl Wire for Program {
    fn at(&self) -> SocketAddr {
        self.address
    }
}

/// The real binary over these servers, with this in its `roundsman.toml`.
pub(crate) fn program(backends: &[&Backend], front: &str) -> Program {
    program_over(&backends.iter().map(|b| b.address).collect::<Vec<_>>(), front)
}

/// The same over servers of any kind.
pub(crate) fn program_over(servers: &[SocketAddr], front: &str) -> Program {
    Program::start::<&str>(configured(servers, front), &[])
}

/// The same, and it says what it thinks of its clients: see [`counted`].
pub(crate) fn talking_program(backends: &[&Backend], front: &str) -> Program {
    let servers: Vec<_> = backends.iter().map(|b| b.address).collect();
    Program::start(configured(&servers, front), &[("ROUNDSMAN_LOG", "debug")])
}

/// How often it gave that reason for not answering.
pub(crate) fn counted(program: &Program, reason: Reason) -> usize {
    let log = std::fs::read_to_string(program.path("stderr")).unwrap();
    log.lines().filter(|line| line.contains(reason.name())).count()
}

/// A directory with `etc`.
fn configured(servers: &[SocketAddr], front: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let etc = directory.path().join("etc");
    std::fs::create_dir_all(etc.join("upstreams")).unwrap();
    let servers: Vec<_> =
        servers.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    if !servers.is_empty() {
        let upstream = format!("servers = [{}]\n", servers.join(", "));
        std::fs::write(etc.join("upstreams/test.toml"), upstream).unwrap();
    }
    std::fs::write(etc.join("roundsman.toml"), front).unwrap();
    directory
}

/// Asks until that goes over a connection to the server that was used before.
pub(crate) fn until_reused(backend: &Backend, mut ask: impl FnMut()) {
    eventually("a connection is used again", || {
        let before = backend.connections();
        ask();
        before == backend.connections()
    });
}
