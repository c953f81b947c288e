//! What the admin API says and takes, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The version of the running front.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it became ready.
    pub uptime_seconds: u64,
    /// Whether the running configuration is the last good one instead of the present files.
    pub last_good: bool,
    /// A number for the files at work; absent where they are not the present ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// Whether the workers' states come from systemd right now.
    pub bus: bool,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// Apps and upstreams.
    pub upstreams: Vec<Upstream>,
}

/// One worker thread of the front.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Thread {
    /// The core it runs on.
    pub core: usize,
    /// Connections it was handed so far.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Requests answered.
    pub requests: u64,
}

/// One listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listener {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
}

/// One app or upstream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upstream {
    /// `app:shop` or `upstream:api`.
    pub name: String,
    /// Requests that wait for a server.
    pub waiting: u64,
    /// Its servers.
    pub servers: Vec<Server>,
}

/// One server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    /// `shop:1` for a worker, the address for others.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `up`, `slow-start`, `suspect`, `ejected`, `starting`, `draining` or `down`.
    pub state: String,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests so far.
    pub requests: u64,
    /// Requests that it failed.
    pub failures: u64,
    /// How often its health became what, by reason: `{"ejected": {"failures": 2}}`.
    #[serde(default)]
    pub transitions: BTreeMap<String, BTreeMap<String, u64>>,
}

/// `POST /v1/reload`; without a body, nothing of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reload {
    /// The app that was changed: files of others that have errors stay as they are at work.
    #[serde(default)]
    pub app: Option<String>,
}

/// `POST /v1/drain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain {
    /// `shop:1`, or `shop` for all its workers.
    pub target: String,
    /// Whether it stays drained until `/v1/undrain`; otherwise the unit's next state ends it.
    #[serde(default)]
    pub hold: bool,
    /// How long to wait for what is in flight; the app's `drain-timeout` when absent.
    pub timeout_ms: Option<u64>,
}

/// The answer to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Drained {
    /// Requests that were still in flight at the end of the wait.
    pub in_flight: u32,
}

/// `POST /v1/undrain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undrain {
    /// `shop:1`, or `shop` for all its workers.
    pub target: String,
}

/// Every answer that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ErrorResponse {
    /// What went wrong and what to do, for people; may have several lines.
    pub error: String,
}
