//! `[session]`: the shared session store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What `session = true` stands for: the store on this machine.
pub const SESSION_URL: &str = "unix:///run/roundsman/session.sock";

/// Where an app's sessions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionStore {
    /// In the store that all apps of this machine share.
    Embedded,
    /// In a Valkey server of the app's own.
    Valkey,
    /// In that of another app, which runs as the same user: of a web app and its queue consumers.
    ValkeyOf(String),
    /// At this URL, which is none of ours.
    Url(String),
}

// === impl SessionStore ===

impl SessionStore {
    /// What tells it from others: its URL, but for a server that is an app's own.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Embedded => SESSION_URL.to_owned(),
            Self::Valkey => "valkey".to_owned(),
            Self::ValkeyOf(app) => format!("valkey:{app}"),
            Self::Url(url) => url.clone(),
        }
    }
}

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

impl Default for Session {
    fn default() -> Self {
        Self {
            sync: SessionSync::EverySecond,
            max_size: 1024 * 1024 * 1024, // half a million sessions of 2 KB
            memory: 192 * 1024 * 1024,    // a hundred thousand busy sessions of 1 KB
            connections: 10_000,
            idle_stop: None,
            listen: None,
            password_file: None,
        }
    }
}
