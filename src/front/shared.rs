//! What all threads of the front share, and how a reload swaps it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::found::Found;
use super::snapshot::Snapshot;
use crate::balance::{Server, State};
use crate::base::paths;
use crate::config::Settings;
use crate::config::settings::DnsName;
use crate::tls::Tls;

/// What all threads share. Reading it takes no lock.
#[derive(Debug)]
pub struct Front {
    snapshot: ArcSwap<Snapshot>,
    /// Changes whenever a server's state or the snapshot does; requests that wait for a server
    /// watch it.
    changed: watch::Sender<u64>,
    threads: usize,
    /// Below which the workers' control sockets are, if it is not the usual place.
    runtime: Option<PathBuf>,
}

// === impl Front ===

impl Front {
    /// The front for these settings with this many worker threads.
    pub fn new(settings: Settings, threads: usize) -> Self {
        Self::with_tls(settings, Tls::default(), threads)
    }

    /// The same with what its settings name for TLS.
    pub fn with_tls(settings: Settings, tls: Tls, threads: usize) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::build(settings, tls, None, threads)),
            changed: watch::Sender::new(0),
            threads,
            runtime: None,
        }
    }

    /// Looks for the workers' control sockets below this directory.
    #[must_use]
    pub fn below(mut self, runtime: Option<PathBuf>) -> Self {
        self.runtime = runtime;
        self
    }

    /// Where the control socket is that has this path by the settings.
    pub(crate) fn control_socket(&self, path: &Path) -> PathBuf {
        match (&self.runtime, path.strip_prefix(paths::WORKERS)) {
            (Some(runtime), Ok(below)) => runtime.join(below),
            _ => path.to_owned(),
        }
    }

    /// The configuration at work.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The cell that holds it, for a thread's `arc_swap::Cache`.
    pub fn snapshot_cell(&self) -> &ArcSwap<Snapshot> {
        &self.snapshot
    }

    /// Number of worker threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Puts new settings to work. Servers that stay keep their state and their counts; requests in
    /// flight end under the settings they began with, open connections under their certificates.
    /// New workers of apps begin as down: whoever calls this says next what systemd says of them.
    pub fn replace(&self, settings: Settings) {
        self.replace_with(settings, self.snapshot().tls.clone());
    }

    /// The same with other certificates.
    pub fn replace_with(&self, settings: Settings, tls: Tls) {
        let snapshot = Snapshot::build(settings, tls, Some(&self.snapshot()), self.threads);
        self.snapshot.store(Arc::new(snapshot));
        self.notify_changed();
    }

    /// Puts to work that a name stands for these servers now; what it stood for before, if that was
    /// something else. Upstreams without that name do not notice.
    pub fn resolved(&self, name: &DnsName, found: Vec<Found>) -> Option<Vec<Found>> {
        let before = self.snapshot();
        let known = before.found.get(name);
        if known.is_some_and(|known| *known == found) {
            return None;
        }
        let known = known.cloned().unwrap_or_default();
        self.snapshot.store(Arc::new(before.with_found(name, found, self.threads)));
        self.notify_changed();
        Some(known)
    }

    /// Sets a server's state and wakes whoever waits for one; true when it was another before.
    pub fn set_state(&self, server: &Server, state: State) -> bool {
        let changed = server.set_state(state);
        if changed {
            self.notify_changed();
        }
        changed
    }

    /// Ticks at every change of a server's state or of the snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says that a server's health changed, which a request that waits may have waited for.
    pub(crate) fn health_changed(&self) {
        self.notify_changed();
    }

    fn notify_changed(&self) {
        self.changed.send_modify(|tick| *tick = tick.wrapping_add(1));
    }
}
