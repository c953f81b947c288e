//! Freezing the memtable and bringing it into the file, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use redb::Database;
use tokio::sync::mpsc as outcomes;

use super::Store;
use super::disk::{self, Summary, View};
use super::eviction::Eviction;
use super::memtable::Memtable;

/// How a checkpoint went; [`Store::checkpointed`] takes it.
#[derive(Debug)]
pub struct Outcome(Result<(), redb::Error>, u64);

/// The thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    jobs: Option<mpsc::Sender<Task>>,
    outcomes: Option<outcomes::UnboundedReceiver<Outcome>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
enum Task {
    Write(Job),
    /// To give the memory of so many entries back takes milliseconds.
    Free(Memtable),
}

#[derive(Debug)]
struct Job {
    database: Arc<Database>,
    frozen: Arc<Memtable>,
    summary: Summary,
}

// === impl Checkpointer ===

impl Checkpointer {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Task>();
        let (report, outcomes) = outcomes::unbounded_channel();
        let thread = thread::Builder::new().name("session-checkpoint".into()).spawn(move || {
            for task in queue {
                let Job { database, frozen, summary } = match task {
                    Task::Write(job) => job,
                    Task::Free(table) => {
                        drop(table);
                        continue;
                    }
                };
                let result = disk::checkpoint(&database, &frozen, &summary);
                // The store must be the last to hold the file when it opens it again.
                drop(database);
                drop(frozen);
                if report.send(Outcome(result, summary.sequence)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), outcomes: Some(outcomes), thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Store ===

impl Store {
    /// Writes what commands have recorded. Their replies may leave after this (and with
    /// `sync = "always"` when [`Store::synced`] has come as far as `sequence`).
    pub fn write_log(&mut self) -> Result<(), String> {
        if self.log.has_pending() {
            if let Err(error) = self.log.write() {
                let refusal = format!(
                    "MISCONF the session log cannot be written ({error}); writes are refused \
                     until it can. Look at the disk of {}",
                    self.options.directory.display()
                );
                if self.refusal.is_none() {
                    tracing::error!(%error, "the session log cannot be written; writes are refused");
                }
                self.refusal = Some(refusal.clone());
                return Err(refusal);
            }
            let urgent = self.options.sync == super::SessionSync::Always;
            self.syncer.written(&self.log.file(), self.log.written(), urgent);
            if self.unsynced.is_none() && self.refusal.take().is_some() {
                tracing::info!("the session log can be written again");
            }
        }
        if self.is_due() {
            self.freeze();
        }
        Ok(())
    }

    /// Whether no write may begin now, and why: the caller answers with the text.
    pub fn check_writable(&mut self) -> Result<(), String> {
        if self.refusal.is_some() && self.unsynced.is_none() {
            self.write_log()?;
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if self.checkpoint_failed && self.is_full() {
            return Err(format!(
                "MISCONF the session file cannot be written and memory is full; look at the disk \
                 of {}",
                self.options.directory.display()
            ));
        }
        Ok(())
    }

    /// Whether writers must wait for the running checkpoint: memory would not be bounded else.
    pub fn is_stalled(&self) -> bool {
        self.frozen.is_some() && !self.checkpoint_failed && self.is_full()
    }

    /// Whether memory is full of what is not in the file.
    fn is_full(&self) -> bool {
        self.changed() > self.options.memory
    }

    /// Where outcomes of checkpoints arrive. There is one; the first caller gets it.
    pub fn outcomes(&mut self) -> Option<outcomes::UnboundedReceiver<Outcome>> {
        self.checkpointer.outcomes.take()
    }

    /// Takes note of a checkpoint that has ended.
    pub fn checkpointed(&mut self, Outcome(result, sequence): Outcome) {
        self.checkpoint_running = false;
        match result.and_then(|()| self.refresh_view()) {
            Ok(()) => {
                if let Some(table) = self.frozen.take() {
                    self.begin_settling(table);
                }
                self.log.recycle();
                self.index_cursor.clear();
                self.eviction = Eviction::default();
                self.statistics.checkpoints += 1;
                if std::mem::take(&mut self.checkpoint_failed) {
                    tracing::info!("the session file can be written again");
                }
                if self.unsynced.is_some_and(|unsynced| unsynced <= sequence) {
                    self.unsynced = None;
                    self.refusal = None;
                    tracing::info!("every session is on the disk again");
                }
            }
            Err(error) => {
                if !self.checkpoint_failed {
                    tracing::error!(%error, "the session file cannot be written; trying again");
                }
                self.checkpoint_failed = true;
                self.reopen();
            }
        }
    }

    /// Regular work: retries what failed, and freezes when it is time.
    pub fn tick(&mut self) {
        let failure = self.syncer.watch().borrow().failure.clone();
        let handled = |error: &Arc<io::Error>| {
            self.handled_failure.as_ref().is_some_and(|h| Arc::ptr_eq(h, error))
        };
        if let Some(error) = failure.filter(|error| !handled(error)) {
            // What the log held then may not be on the disk, and the kernel will not say so again.
            tracing::error!(%error, "the session log cannot be synced; writes are refused");
            self.refusal = Some(format!(
                "MISCONF the session log cannot be brought to the disk ({error}); writes are \
                 refused until everything is in the session file"
            ));
            self.unsynced = Some(self.log.written());
            self.handled_failure = Some(error);
        }
        if self.refusal.is_some() {
            let _ = self.write_log();
        }
        if self.view.is_none() {
            self.reopen();
        }
        if self.checkpoint_failed && self.frozen.is_some() {
            self.send_checkpoint();
        } else if self.is_due() || self.unsynced.is_some() {
            self.freeze();
        }
        self.watched.sweep();
    }

    fn is_due(&self) -> bool {
        self.frozen.is_none()
            && (self.log.is_full() || self.active.bytes() >= self.options.memory / 2)
    }

    /// Freezes what the start has replayed: its segments need no successor.
    pub(super) fn freeze_replayed(&mut self) {
        if !self.active.is_empty() {
            self.hand_over();
        }
    }

    /// Freezes the memtable and has it brought into the file.
    pub(super) fn freeze(&mut self) {
        if self.frozen.is_some() || self.active.is_empty() || self.log.has_pending() {
            return;
        }
        if let Err(error) = self.log.rotate() {
            // The segment just grows for as long as it can; the next attempt comes with the tick.
            tracing::warn!(%error, "cannot begin a new segment of the session log");
            return;
        }
        self.hand_over();
    }

    fn hand_over(&mut self) {
        let successor = self.active.successor();
        self.frozen = Some(Arc::new(std::mem::replace(&mut self.active, successor)));
        self.frozen_summary = Summary {
            sequence: self.log.written(),
            spaces: self.spaces.records().cloned().collect(),
        };
        self.send_checkpoint();
    }

    fn send_checkpoint(&mut self) {
        let (Some(database), Some(frozen)) = (&self.database, &self.frozen) else { return };
        if self.checkpoint_running {
            return;
        }
        let job = Job {
            database: Arc::clone(database),
            frozen: Arc::clone(frozen),
            summary: self.frozen_summary.clone(),
        };
        if let Some(jobs) = &self.checkpointer.jobs {
            self.checkpoint_running = jobs.send(Task::Write(job)).is_ok();
        }
    }

    /// Has the thread give the memory of a table back, which takes milliseconds.
    pub(super) fn free(&self, table: Memtable) {
        if let Some(jobs) = &self.checkpointer.jobs {
            let _ = jobs.send(Task::Free(table));
        }
    }

    fn refresh_view(&mut self) -> Result<(), redb::Error> {
        if let Some(database) = &self.database {
            self.view = Some(View::new(database)?);
        }
        Ok(())
    }

    /// Opens the file again: after an I/O error the old handle refuses everything.
    fn reopen(&mut self) {
        self.view = None;
        self.database = None;
        self.cache.get_mut().clear();
        self.settling = None;
        let opened = disk::open(&self.options.directory, false).and_then(|database| {
            let database = Arc::new(database);
            Ok((View::new(&database)?, database))
        });
        match opened {
            Ok((view, database)) => {
                self.view = Some(view);
                self.database = Some(database);
            }
            Err(error) => tracing::error!(%error, "the session file cannot be opened again"),
        }
    }

    /// Writes the log and waits for a checkpoint that is due: for tools, which have no event loop.
    pub fn settle(&mut self) {
        self.end_record();
        let _ = self.write_log();
        if self.checkpoint_running
            && let Some(outcomes) = &mut self.checkpointer.outcomes
            && let Some(outcome) = outcomes.blocking_recv()
        {
            self.checkpointed(outcome);
        }
    }

    /// Writes and syncs the log, and ends the threads. The file is left as the last checkpoint
    /// made it: the next start replays the log.
    pub fn close(mut self) {
        let written = self.write_log();
        self.syncer.stop();
        if let Err(refusal) = written {
            tracing::error!("{refusal}: acknowledged writes are safe, refused ones are lost");
        }
    }
}
