//! What all threads of the front share, and how a reload swaps it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::found::Found;
use super::snapshot::Snapshot;
use crate::balance::{Server, State};
use crate::base::paths;
use crate::config::settings::{Address, App, DnsName};
use crate::config::{Settings, addresses};
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
    /// Where it is noted at which address each worker runs, if it is noted at all.
    addresses: Option<PathBuf>,
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
            snapshot: ArcSwap::from_pointee(Snapshot::build(
                settings,
                tls,
                None,
                threads,
                &App::worker_address,
            )),
            changed: watch::Sender::new(0),
            threads,
            runtime: None,
            addresses: None,
        }
    }

    /// Reaches workers where this directory says that they run ([`addresses`]), from the next look on.
    #[must_use]
    pub(crate) fn finding_workers_by(mut self, directory: Option<PathBuf>) -> Self {
        self.addresses = directory;
        self
    }

    /// Where a worker of an app is reached now.
    fn address(&self, app: &App, number: u16) -> Address {
        match &self.addresses {
            Some(directory) => addresses::now(directory, app, number),
            None => app.worker_address(number),
        }
    }

    /// Looks where workers run: this one, or all. One that was started elsewhere than before is a new
    /// server, which begins as down: whoever calls this says next what systemd says of it.
    pub(crate) fn find_workers(&self, worker: Option<&str>) {
        let before = self.snapshot();
        let apps = before.settings.apps.values();
        let has_moved = |app: &App, number: u16| {
            let name = app.instance(number);
            let server = before.server_of(app, &name);
            worker.is_none_or(|worker| worker == name)
                && server.is_some_and(|server| server.address != self.address(app, number))
        };
        let is_concerned = |app: &&App| {
            let theirs = |w: &str| w.strip_prefix(&*app.name).is_some_and(|n| n.starts_with(':'));
            worker.is_none_or(theirs) && (1..=app.workers).any(|number| has_moved(app, number))
        };
        let moved: Vec<&App> = apps.filter(is_concerned).collect();
        if self.addresses.is_none() || moved.is_empty() {
            return;
        }
        let address = |app: &App, number| self.address(app, number);
        self.snapshot.store(Arc::new(before.with_moved(&moved, self.threads, &address)));
        self.notify_changed();
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
        let (before, address) = (self.snapshot(), |app: &App, number| self.address(app, number));
        let earlier = before.earlier_for(&settings);
        let mut snapshot = Snapshot::build(settings, tls, Some(&before), self.threads, &address);
        snapshot.earlier = earlier;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn settings(keys: &str) -> Settings {
        sample::shop(&format!("command = [\"/bin/x\"]\nworkers = 2\n{keys}\n"))
    }

    fn server(front: &Front, number: u16) -> Arc<Server> {
        Arc::clone(front.snapshot().server(&format!("shop:{number}")).unwrap())
    }

    #[test]
    fn the_front_has_no_part_in_an_app_that_serves_no_http() {
        assert!(Front::new(settings("listen = \"none\""), 1).snapshot().upstreams.is_empty());
    }

    /// Where its file says by now that it listens, nobody may, or somebody else.
    #[test]
    fn a_worker_is_reached_where_it_was_started_until_it_is_started_anew() {
        let notes = tempfile::tempdir().unwrap();
        let front = Front::new(settings(""), 1);
        let front = front.finding_workers_by(Some(notes.path().to_owned()));
        let start = |front: &Front, number| {
            addresses::note(notes.path(), &front.snapshot().settings.apps["shop"], number).unwrap();
        };
        (1..=2).for_each(|number| start(&front, number));
        let before = [1, 2].map(|number| server(&front, number));
        front.replace(settings("listen = \"port\"\nport = 5000"));
        front.find_workers(None);
        let now = [1, 2].map(|number| server(&front, number));
        assert!(before.iter().zip(&now).all(|(before, now)| Arc::ptr_eq(before, now)));

        start(&front, 1);
        front.find_workers(Some("shop:2"));
        assert!(Arc::ptr_eq(&before[0], &server(&front, 1)), "nobody has said that it is there");
        front.find_workers(Some("shop:1"));
        let moved = server(&front, 1);
        assert_eq!(moved.address.to_string(), "127.0.0.1:5000");
        assert_eq!(moved.state(), State::Down, "until systemd says that it runs");
        assert!(Arc::ptr_eq(&before[1], &server(&front, 2)), "it has not moved");

        // Nor does one that is handed connections take requests, from the first moment on.
        front.set_state(&server(&front, 2), State::Up);
        front.replace(settings("listen = \"cluster\"\nmode = \"handoff\""));
        assert_eq!(server(&front, 2).address, before[1].address, "it has not moved");
        assert_eq!(server(&front, 2).state(), State::Down);
        front.replace(settings("listen = \"port\"\nport = 5000"));

        // A front that is started anew knows as much.
        let front = Front::new(settings("listen = \"port\"\nport = 5000"), 1);
        let front = front.finding_workers_by(Some(notes.path().to_owned()));
        front.find_workers(None);
        let addresses = [1, 2].map(|number| server(&front, number).address.clone());
        assert_eq!(addresses, [moved.address.clone(), before[1].address.clone()]);
    }
}
