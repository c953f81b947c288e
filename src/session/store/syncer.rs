//! Brings the log to the disk on a thread of its own, so that the server never waits in `fsync`.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::settings::SessionSync;

/// The longest that an acknowledged write is not on the disk with `everysec`.
const EVERY: Duration = Duration::from_secs(1);

/// What is on the disk.
#[derive(Debug, Clone, Default)]
pub struct Synced {
    /// Every record up to this sequence is.
    pub sequence: u64,
    /// Why the last attempt failed. The kernel forgets what it could not write, so nothing that
    /// was in the log then may be counted on until a checkpoint has succeeded.
    pub failure: Option<Arc<io::Error>>,
}

/// The thread and what it is asked for.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    synced: watch::Receiver<Synced>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Files with records that may not be on the disk, oldest first.
    files: Vec<Arc<File>>,
    sequence: u64,
    /// Somebody waits: do not put it off.
    urgent: bool,
    stop: bool,
}

// === impl Syncer ===

impl Syncer {
    /// Starts the thread.
    pub(super) fn start(sync: SessionSync, sequence: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (publish, synced) = watch::channel(Synced { sequence, failure: None });
        let thread = thread::Builder::new().name("session-sync".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &publish, sync)
        })?;
        Ok(Self { shared, synced, thread: Some(thread) })
    }

    /// Records up to `sequence` are written to `file`.
    pub(super) fn written(&self, file: &Arc<File>, sequence: u64, urgent: bool) {
        let mut wanted = lock(&self.shared);
        // It sleeps when there is nothing to do, and puts off what is not urgent: waking it for
        // every write would cost more than the write.
        let wake = wanted.files.is_empty() || urgent && !wanted.urgent;
        if !wanted.files.last().is_some_and(|last| Arc::ptr_eq(last, file)) {
            wanted.files.push(Arc::clone(file));
        }
        wanted.sequence = wanted.sequence.max(sequence);
        wanted.urgent |= urgent;
        drop(wanted);
        if wake {
            self.shared.changed.notify_one();
        }
    }

    /// Follows what is on the disk.
    pub(super) fn watch(&self) -> watch::Receiver<Synced> {
        self.synced.clone()
    }

    /// Syncs what is left and ends the thread.
    pub(super) fn stop(&mut self) {
        lock(&self.shared).stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, publish: &watch::Sender<Synced>, sync: SessionSync) {
    loop {
        let mut wanted = lock(shared);
        while wanted.files.is_empty() && !wanted.stop {
            wanted = shared.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
        if sync == SessionSync::EverySecond {
            wanted = shared
                .changed
                .wait_timeout_while(wanted, EVERY, |wanted| !wanted.urgent && !wanted.stop)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let (files, sequence) = (std::mem::take(&mut wanted.files), wanted.sequence);
        wanted.urgent = false;
        if files.is_empty() && wanted.stop {
            return;
        }
        drop(wanted);
        let outcome = files.iter().try_for_each(|file| file.sync_data());
        match outcome {
            Ok(()) => {
                publish.send_replace(Synced { sequence, failure: None });
            }
            Err(error) => publish.send_modify(|synced| synced.failure = Some(Arc::new(error))),
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Wanted> {
    shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
}
