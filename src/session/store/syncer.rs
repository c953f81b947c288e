//! Brings the log to the disk on a thread of its own, so that the server never waits in `fsync`.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::config::settings::SessionSync;

/// The longest that an acknowledged write is not on the disk with `everysec`.
const EVERY: Duration = Duration::from_secs(1);

/// What is on the disk.
#[derive(Debug, Clone, Default)]
pub struct Synced {
    /// Every record up to this sequence is.
    pub sequence: u64,
    /// Why an attempt failed. The kernel forgets what it could not write, and a later attempt
    /// succeeds without it: what was in the log then, and all that comes behind it, is not on the
    /// disk until a checkpoint beyond it is, so this stays until [`Syncer::recovered`].
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
    /// Told of a failure, which may come long after the last write.
    failed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Files with records that may not be on the disk, oldest first.
    files: Vec<Arc<File>>,
    sequence: u64,
    /// A sync has failed: there is nothing to do until this is over.
    failure: Option<Arc<io::Error>>,
    /// It is over: this is on the disk.
    recovered: Option<u64>,
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

    /// Records up to `sequence` are written to `file`. Returns the failure that they lie behind, if
    /// there is one.
    pub(super) fn written(
        &self,
        file: &Arc<File>,
        sequence: u64,
        urgent: bool,
    ) -> Option<Arc<io::Error>> {
        let mut wanted = lock(&self.shared);
        if wanted.failure.is_some() {
            return wanted.failure.clone();
        }
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
        None
    }

    /// Why what is in the log is not on the disk, if a sync has failed.
    pub(super) fn failure(&self) -> Option<Arc<io::Error>> {
        lock(&self.shared).failure.clone()
    }

    /// Told of a failure.
    pub(super) fn failed(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.failed)
    }

    /// After a failure: every record up to `sequence` is on the disk by other means, and none
    /// behind it lies in a file where the failure was.
    pub(super) fn recovered(&self, sequence: u64) {
        let mut wanted = lock(&self.shared);
        wanted.failure = None;
        wanted.recovered = Some(sequence);
        wanted.sequence = sequence;
        drop(wanted);
        self.shared.changed.notify_one();
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
        while wanted.files.is_empty() && wanted.recovered.is_none() && !wanted.stop {
            wanted = shared.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(sequence) = wanted.recovered.take() {
            publish.send_replace(Synced { sequence, failure: None });
            continue;
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
            Err(error) => {
                let error = Arc::new(error);
                let mut wanted = lock(shared);
                wanted.files.clear();
                wanted.failure = Some(Arc::clone(&error));
                publish.send_modify(|synced| synced.failure = Some(error));
                shared.failed.notify_one();
            }
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Wanted> {
    shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose sync fails: the kernel has nothing to sync of a pipe.
    fn failing() -> Arc<File> {
        let (_reader, writer) = io::pipe().expect("a pipe");
        Arc::new(File::from(std::os::fd::OwnedFd::from(writer)))
    }

    async fn settled(syncer: &Syncer, is: impl Fn(&Synced) -> bool) -> Synced {
        let mut synced = syncer.watch();
        let settled = synced.wait_for(|synced| is(synced)).await.expect("it runs");
        settled.clone()
    }

    #[tokio::test]
    async fn a_failure_stays_until_what_it_lost_is_on_the_disk_by_other_means() {
        let sound = Arc::new(tempfile::tempfile().expect("a file"));
        let syncer = Syncer::start(SessionSync::Always, 0).expect("a thread");
        assert!(syncer.written(&sound, 1, true).is_none());
        assert_eq!(settled(&syncer, |synced| synced.sequence == 1).await.sequence, 1);
        assert!(syncer.written(&failing(), 2, true).is_none());
        let synced = settled(&syncer, |synced| synced.failure.is_some()).await;
        assert_eq!(synced.sequence, 1);
        // What comes behind it is not looked at, though its own sync would succeed.
        for sequence in 3..6 {
            assert!(syncer.written(&sound, sequence, true).is_some());
        }
        assert!(syncer.failure().is_some());
        syncer.recovered(5);
        let synced = settled(&syncer, |synced| synced.failure.is_none()).await;
        assert_eq!(synced.sequence, 5);
        assert!(syncer.written(&sound, 6, true).is_none());
        assert_eq!(settled(&syncer, |synced| synced.sequence == 6).await.sequence, 6);
    }
}
