//! Freezing the memtable and bringing it into the file, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use redb::Database;
use tokio::sync::{Notify, mpsc as outcomes};

use super::disk::{self, Summary, View};
use super::eviction::Eviction;
use super::file_mark::FileMark;
use super::memtable::Memtable;
use super::{Store, StoreError};

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
    /// Nobody reads what was there before the last checkpoint any more.
    Reclaim(Arc<Database>),
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
                    Task::Reclaim(database) => {
                        // If it fails, so will the next checkpoint, and that one is spoken of.
                        let _ = disk::reclaim(&database);
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
        if self.has_unwritten() {
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
            let failure = self.syncer.written(&self.log.file(), self.log.written(), urgent);
            if let Some(error) = failure {
                return Err(self.refuse_unsynced(&error));
            }
            if self.unsynced.is_none() && self.refusal.take().is_some() {
                tracing::info!("the session log can be written again");
            }
        }
        if self.is_due() {
            self.freeze();
        }
        Ok(())
    }

    /// A sync of the log has failed: nothing in it counts until all of it is in the file. Returns
    /// what writers are told.
    fn refuse_unsynced(&mut self, error: &io::Error) -> String {
        let refusal = format!(
            "MISCONF the session log cannot be brought to the disk ({error}); writes are refused \
             until everything is in the session file. Look at the disk of {}",
            self.options.directory.display()
        );
        if self.unsynced.is_none() {
            tracing::error!(%error, "the session log cannot be synced; writes are refused");
        }
        // What is written from here on goes to another segment as soon as the table is frozen.
        self.unsynced = Some(self.log.written());
        self.refusal = Some(refusal.clone());
        self.freeze();
        refusal
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
                if let (Some(jobs), Some(database)) = (&self.checkpointer.jobs, &self.database) {
                    let _ = jobs.send(Task::Reclaim(Arc::clone(database)));
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
                    self.syncer.recovered(sequence);
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

    /// When there is regular work again if nothing changes, in milliseconds since 1970.
    pub fn next_work(&self, now: u64) -> Option<u64> {
        let troubled = self.refusal.is_some()
            || self.checkpoint_failed
            || self.database.is_none()
            || self.unreadable.get();
        if troubled {
            return Some(now);
        }
        let in_memory = self.active.earliest(|_| true).map(|(second, _)| second * 1000);
        let in_file = self.view.as_ref().and_then(|view| {
            let nearest = view.expiries(&self.index_cursor, 1).ok()?;
            nearest.first().map(|(expires, _)| *expires)
        });
        [in_memory, in_file].into_iter().flatten().min()
    }

    /// Told when a sync of the log fails, which may be long after the last write.
    pub fn sync_failed(&self) -> Arc<Notify> {
        self.syncer.failed()
    }

    /// Regular work: retries what failed, and freezes when it is time.
    pub fn tick(&mut self) {
        if self.unsynced.is_none()
            && let Some(error) = self.syncer.failure()
        {
            self.refuse_unsynced(&error);
        }
        if self.refusal.is_some() {
            let _ = self.write_log();
        }
        if self.database.is_none() || self.unreadable.get() && !self.checkpoint_running {
            self.reopen();
        }
        if self.checkpoint_failed && self.frozen.is_some() {
            self.send_checkpoint();
        } else if self.is_due() || self.unsynced.is_some() {
            self.freeze();
        }
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
        // What lies behind a failed sync may be a record without any key.
        let nothing = self.active.is_empty() && self.unsynced.is_none();
        if self.frozen.is_some() || nothing || self.has_unwritten() {
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

    fn refresh_view(&mut self) -> Result<(), redb::Error> {
        if let Some(database) = &self.database {
            self.view = Some(View::new(database)?);
        }
        Ok(())
    }

    /// Opens the file again: after an I/O error the old handle refuses everything. Where it cannot be
    /// written to, it is read at least.
    fn reopen(&mut self) {
        self.unreadable.set(false);
        self.cache.get_mut().clear();
        self.settling = None;
        if self.database.take().is_some() {
            self.view = None;
        }
        let view_of = |database: Database| {
            let database = Arc::new(database);
            Ok::<_, redb::Error>((View::new(&database)?, database))
        };
        match disk::open(&self.options.directory, false).and_then(view_of) {
            Ok((view, database)) => {
                (self.view, self.database) = (Some(view), Some(database));
                self.fallback = None;
            }
            Err(error) if self.view.is_none() => {
                tracing::error!(%error, "the session file cannot be opened again; trying again");
                match disk::open_to_read(&self.options.directory).and_then(view_of) {
                    Ok((view, database)) => {
                        (self.view, self.fallback) = (Some(view), Some(database));
                    }
                    Err(error) => {
                        tracing::error!(%error, "the session file cannot be read");
                    }
                }
            }
            Err(_) => {} // it is read meanwhile
        }
    }

    /// Whether a read has failed for an error that a checkpoint met which is just ending: then it is
    /// worth while to ask again.
    pub fn is_worth_another_try(&self, failure: &StoreError) -> bool {
        let of_the_file =
            matches!(failure, StoreError::Unavailable | StoreError::Read(redb::Error::PreviousIo));
        of_the_file && self.checkpoint_running
    }

    /// Whether a checkpoint is under way.
    pub fn is_checkpoint_running(&self) -> bool {
        self.checkpoint_running
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

    /// Writes everything into the file, for a tool whose store nobody else has: its log is of no use then.
    pub fn settle_all(&mut self) {
        self.settle();
        while self.frozen.is_some() || !self.active.is_empty() {
            self.freeze();
            if !self.checkpoint_running || self.checkpoint_failed {
                return;
            }
            self.settle();
        }
    }

    /// Writes and syncs the log, and ends the threads. The file is left as the last checkpoint
    /// made it: the next start replays the log. False when something could not be written.
    pub fn close(mut self) -> bool {
        self.finish(true)
    }

    /// As [`Store::close`], when this process ends and the next one opens the store at once: nothing is waited
    /// for that is not promised. The next one syncs what is in the log, and begins a checkpoint anew
    /// that has not ended.
    pub fn leave(mut self) -> bool {
        let is_safe = self.finish(self.options.sync == super::SessionSync::Always);
        // To end its threads, and give its memory back piece by piece, is what the kernel does faster.
        std::mem::forget(self);
        is_safe
    }

    fn finish(&mut self, sync: bool) -> bool {
        let written = self.write_log();
        if sync {
            self.syncer.stop();
        }
        if let Err(refusal) = &written {
            tracing::error!("{refusal}: acknowledged writes are safe, refused ones are lost");
        }
        written.is_ok() && self.syncer.failure().is_none()
    }

    /// Which file it has open: the next process need not verify it once more.
    pub fn file_mark(&self) -> Option<FileMark> {
        self.database.as_ref()?;
        FileMark::of(&self.options.directory.join(disk::FILE))
    }
}
