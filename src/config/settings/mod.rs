//! Validated settings: the only form of the configuration that the runtime sees, a file for each of
//! its parts. What no other part needs is beside its reader.
//!
//! Everything here is complete (defaults are filled in), consistent across files, and owned; the
//! way from files to here is `fragment → input → settings` (see the module above).

mod address;
mod app;
mod balancing;
mod front;
mod route;
mod session;
mod upstream;

use std::collections::BTreeMap;

pub use self::address::Address;
pub use self::app::{
    App, Health, Listen, Ready, Sandbox, Shutdown, StopSignal, Transport, WORKER_PORT,
};
pub use self::balancing::{
    ActiveCheck, Algorithm, Balancing, Failures, Hash, HashKey, HashMethod, HttpProbe, Passive,
    Probe, ProxyVersion, ServerOptions, ServerProtocol, StartState, Statuses, Sticky,
};
pub use self::front::{Front, HandOff, Limits, PerClient, Retries, Threads, Timeouts};
pub use self::route::{HostPattern, Https, Route, RouteTarget, Share, Split, SplitKey};
pub use self::session::{SESSION_URL, Session, SessionStore, SessionSync};
pub use self::upstream::{Upstream, UpstreamServer};
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

// === impl Settings ===

impl Settings {
    /// Whether there is anybody whom requests or connections are for.
    pub fn has_servers(&self) -> bool {
        !self.upstreams.is_empty() || self.apps.values().any(|app| !app.is_background())
    }

    /// The app that gets the connections of this listener, if that is an app's alone.
    pub fn handed(&self, listener: &str) -> Option<&str> {
        let owner = |app: &&App| app.handoff.as_deref() == Some(listener);
        self.apps.values().find(owner).map(|app| app.name.as_str())
    }
}
