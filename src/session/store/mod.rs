//! The data: a database file with everything up to a checkpoint, a log with everything after it,
//! in memory what the log holds, and what was read lately.
//!
//! - A read looks into the memtable being filled, the frozen one, the cache of what was read lately,
//!   the file, in this order.
//! - A write changes the memtable and adds a record to the log, which is written before the client
//!   hears of it.
//! - When the log segment or the memtable is full, the table is frozen and a thread brings it into
//!   the file in one durable transaction; the segment is then recycled.
//!
//! So memory and the time of a start depend on these limits and not on the number of sessions. One
//! thread owns all of this; only frozen tables and file handles go to others.

mod apply;
mod cache;
mod checkpoint;
mod disk;
mod eviction;
mod expiry;
mod file_mark;
mod found;
mod frame;
mod freeing;
pub(crate) mod key;
mod log;
mod memtable;
mod op;
mod overlay;
mod recover;
mod replay;
mod segment;
mod settle;
mod spaces;
mod syncer;
mod tracked;
#[cfg(any(test, fuzzing))]
pub(crate) mod untrusted;
pub(crate) mod value;
mod verify;
mod watched;
mod work;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use redb::Database;
use thiserror::Error;

use crate::config::settings::SessionSync;

pub(crate) use disk::SpaceRecord;
pub(crate) use file_mark::FileMark;
pub(crate) use found::Found;
pub(crate) use op::Op;
pub(crate) use recover::{OpenError, Outcome};
pub(crate) use spaces::NOWHERE;
pub(crate) use syncer::Synced;
pub(crate) use tracked::{Stale, Tracker};
pub(crate) use verify::{salvage, verify};
pub(crate) use watched::Touched;
#[cfg(test)]
pub(crate) use work::MOST as MOST_STEPS;
pub(crate) use work::{Task, TooMuch, Work, is_long};

use cache::Cache;
use checkpoint::Checkpointer;
use disk::{Summary, View};
use eviction::Eviction;
use freeing::Freeing;
use key::Space;
use log::Log;
use memtable::{Lookup, Memtable, State};
use settle::Settling;
use spaces::Spaces;
use syncer::Syncer;
use tracked::Tracked;
use value::{Entry, Kind};
use watched::Watched;

/// What the store is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where its files are.
    pub directory: PathBuf,
    /// When writes are brought to the disk.
    pub sync: SessionSync,
    /// Stored bytes of all keys and values beyond which entries are evicted.
    pub max_size: u64,
    /// Bytes that entries may take in memory: those that changed and are not in the file yet, and
    /// in the rest those that were read lately.
    pub memory: usize,
    /// The database file that the process before had open: it is not verified once more.
    pub verified: Option<FileMark>,
}

/// Bytes of values that a scan passes by before it ends early.
const SCANNED: usize = 8 * 1024 * 1024;
/// A start reads so much of the log in a second or less.
const LARGEST_LOG: u64 = 256 * 1024 * 1024;

impl Options {
    /// Bytes of log after which it goes on in another segment, when what is in this one is in the
    /// file: about as much as makes the memory for changes full.
    fn log_size(&self) -> u64 {
        (self.memory as u64 / 2).min(LARGEST_LOG)
    }
}

/// Why the store could not do what it was asked for.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database file could not be read.
    #[error("the session file cannot be read: {0}")]
    Read(#[from] redb::Error),
    /// The database file is being opened again after an error.
    #[error("the session file cannot be read at the moment: an earlier error is being dealt with")]
    Unavailable,
    /// A value in the database file makes no sense.
    #[error("the session file holds a value that makes no sense; run `roundsman session check`")]
    Damaged,
}

/// Counters since the start.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    /// Entries removed because their time was over.
    pub expired: u64,
    /// Entries removed because of `max-size`.
    pub evicted: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Reads that found a key.
    pub hits: Cell<u64>,
    /// Reads that found none.
    pub misses: Cell<u64>,
}

/// The session store.
#[derive(Debug)]
pub struct Store {
    options: Options,
    active: Memtable,
    frozen: Option<Arc<Memtable>>,
    /// What was read from the file lately.
    cache: RefCell<Cache>,
    /// What the last checkpoint brought into the file, on its way to the cache.
    settling: Option<Settling>,
    /// `None` for as long as the file cannot be opened again after an error, not even for reading.
    view: Option<View>,
    /// `None` for as long as the file cannot be opened for writing after an error.
    database: Option<Arc<Database>>,
    /// What the view is of then.
    fallback: Option<Arc<Database>>,
    /// An error of a read: from then on nothing is read with the file as it is open.
    unreadable: Cell<bool>,
    log: Log,
    syncer: Syncer,
    checkpointer: Checkpointer,
    freeing: Freeing,
    spaces: Spaces,
    watched: Watched,
    /// What the request at hand has cost so far.
    work: Work,
    tracked: Tracked,
    /// Stored bytes of all keys and values.
    bytes: u64,
    /// How far into the expiry index of the file sweeping and eviction have come.
    index_cursor: Vec<u8>,
    eviction: Eviction,
    /// The youngest log record whose effect the current requests have seen.
    observed: Cell<u64>,
    /// The record that last cleared a space.
    last_clear: u64,
    /// Why writes are refused.
    refusal: Option<String>,
    /// A failed sync: writes are refused until a checkpoint holds every record up to this one.
    unsynced: Option<u64>,
    checkpoint_failed: bool,
    checkpoint_running: bool,
    /// What goes into the file with the frozen table.
    frozen_summary: Summary,
    /// Counters since the start.
    pub statistics: Statistics,
}

/// Whether what is found in the file goes into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

// === impl Store ===

impl Store {
    /// The number of this database of this namespace; [`NOWHERE`] when nothing was ever in it.
    pub fn space(&self, namespace: &str, database: u8) -> Space {
        self.spaces.number(namespace, database).unwrap_or(NOWHERE)
    }

    /// The live entry of a key.
    pub fn find(&self, key: &[u8], now: u64) -> Result<Option<Found<'_>>, StoreError> {
        Ok(self.find_any(key)?.filter(|found| !value::is_expired(found.expires(), now)))
    }

    /// As [`Store::find`], for a command that only reads: counted as a hit or a miss, and kept for
    /// the next one.
    pub fn look_up(&self, key: &[u8], now: u64) -> Result<Option<Found<'_>>, StoreError> {
        let found = self.find_anywhere(key, Keep::Yes)?;
        let found = found.filter(|found| !value::is_expired(found.expires(), now));
        let counter = if found.is_some() { &self.statistics.hits } else { &self.statistics.misses };
        counter.set(counter.get() + 1);
        Ok(found)
    }

    /// The entry of a key, expired or not.
    fn find_any(&self, key: &[u8]) -> Result<Option<Found<'_>>, StoreError> {
        // For a change: what is in the file now is about to be something else.
        self.find_anywhere(key, Keep::No)
    }

    fn find_anywhere(&self, key: &[u8], keep: Keep) -> Result<Option<Found<'_>>, StoreError> {
        // What a table says of the expiry goes for a value that an older one or the file has.
        let mut expires = None;
        for table in [Some(&self.active), self.frozen.as_deref()].into_iter().flatten() {
            match table.get(key) {
                Lookup::Known(slot) => {
                    self.observe(slot.sequence);
                    match &slot.state {
                        State::Holds(entry) => {
                            let found = Found::in_memory(entry.expires, &entry.value);
                            return Ok(Some(found.expiring(expires)));
                        }
                        State::Gone => return Ok(None),
                        State::Expires(later) => expires = expires.or(Some(*later)),
                    }
                }
                Lookup::Cleared => {
                    self.observe(self.last_clear);
                    return Ok(None);
                }
                Lookup::Unknown => {}
            }
        }
        let cached = self.cache.borrow().get(key);
        if let Some((expires, value)) = cached {
            return Ok(Some(Found::in_cache(expires, value)));
        }
        let view = self.view.as_ref().ok_or(StoreError::Unavailable)?;
        let at_hand = view.has_at_hand(key);
        let found = view.get(key);
        if matches!(&found, Err(error) if !matches!(error, redb::Error::Corrupted(_))) {
            self.unreadable.set(true);
        }
        let Some(stored) = found? else { return Ok(None) };
        if !at_hand {
            self.work.note_bytes(stored.bytes().len());
        }
        let expires = expires.unwrap_or(stored.expires());
        if keep == Keep::Yes && Cache::takes(stored.bytes().len()) {
            let value = Entry::decode(stored.bytes()).ok_or(StoreError::Damaged)?.value;
            self.work.note(Task::Copy, value.elements());
            let value = Rc::new(value);
            let limit = self.cache_limit();
            self.cache.borrow_mut().insert(key.into(), expires, Rc::clone(&value), limit);
            return Ok(Some(Found::in_cache(expires, value)));
        }
        let found = Found::in_file(stored, &self.work).ok_or(StoreError::Damaged)?;
        Ok(Some(found.expiring(Some(expires))))
    }

    /// Keys of a space in the order of their places, live at `now`, beginning at `place`: at least
    /// `count` of them if there are so many, and the place to go on from (0 at the end).
    pub fn scan(
        &self,
        space: Space,
        place: u64,
        count: usize,
        now: u64,
    ) -> Result<(Vec<ScannedKey>, u64), StoreError> {
        let start = key::at_place(space, place);
        let mut merged: std::collections::BTreeMap<Vec<u8>, Option<(u64, Kind)>> =
            std::collections::BTreeMap::new();
        // Newer tables win: they are merged last. Each source gives one key more than asked for,
        // so that the merged front is complete up to the smallest of their ends.
        let limit = count.saturating_add(1);
        let mut complete_to: Option<Vec<u8>> = None;
        let mut bound = |last: Option<&[u8]>| {
            if let Some(last) = last
                && complete_to.as_deref().is_none_or(|to| last < to)
            {
                complete_to = Some(last.to_vec());
            }
        };
        let frozen = self.frozen.as_deref();
        let cleared = |table: Option<&Memtable>| table.is_some_and(|t| t.is_cleared(space));
        if !cleared(Some(&self.active)) && !cleared(frozen) {
            let view = self.view.as_ref().ok_or(StoreError::Unavailable)?;
            let (mut seen, mut read) = (0, 0);
            for item in view.from(&start)? {
                let disk::Item { key, stored, .. } = item?;
                if key::space(&key) != space {
                    break;
                }
                seen += 1;
                read += stored.len();
                // Not at the first place: the next scan would begin, and end, there again.
                let is_last = seen == limit || read > SCANNED && key::place_of(&key) > place;
                if is_last {
                    bound(Some(&key));
                }
                merged.insert(key, value::header(&stored));
                if is_last {
                    break;
                }
            }
            self.work.note_bytes(read);
        }
        let frozen = frozen.filter(|_| !cleared(Some(&self.active)));
        for table in [frozen, Some(&self.active)].into_iter().flatten() {
            let slots = table.slots_from(&start).take_while(|(key, _)| key::space(key) == space);
            for (seen, (key, slot)) in slots.take(limit).enumerate() {
                if seen + 1 == limit {
                    bound(Some(key));
                }
                let state = match &slot.state {
                    State::Holds(entry) => Some((entry.expires, entry.value.kind())),
                    State::Gone => None,
                    State::Expires(expires) => {
                        let kind = match merged.get(&**key) {
                            Some(older) => older.map(|(_, kind)| kind),
                            // Beyond what was read of the others, and of what will be returned.
                            None => self.find_any(key)?.map(|found| found.kind()),
                        };
                        kind.map(|kind| (*expires, kind))
                    }
                };
                merged.insert(key.to_vec(), state);
            }
        }
        self.work.note(Task::Visit, merged.len());
        // The last complete place may go on beyond the limit of its source, so the scan ends
        // before it and the cursor points to it, unless it is the only one: then names that share
        // a place (one in 2^48 pairs) are taken as far as they were read.
        let end = complete_to.map(|to| key::place_of(&to));
        let end = end.filter(|end| *end > place);
        let keys = merged
            .into_iter()
            .take_while(|(key, _)| end.is_none_or(|end| key::place_of(key) < end))
            .filter_map(|(key, state)| {
                let (expires, kind) = state?;
                let live = !value::is_expired(expires, now);
                live.then_some(ScannedKey { key, expires, kind })
            })
            .collect();
        Ok((keys, end.unwrap_or(0)))
    }

    /// Whether it is known whose a space is, also after a restart.
    pub fn is_space(&self, space: Space) -> bool {
        self.spaces.is_defined(space)
    }

    /// Keys of a space, those expired and not yet removed included.
    pub fn keys(&self, space: Space) -> u64 {
        self.spaces.keys(space)
    }

    /// All spaces.
    pub fn all_spaces(&self) -> impl Iterator<Item = &SpaceRecord> {
        self.spaces.records()
    }

    /// Has `touched` set at the next change of the key.
    pub fn watch(&mut self, key: &[u8], touched: &Touched) {
        self.watched.watch(key, touched);
    }

    /// Has the client told at the next change of a key that it has read.
    pub fn track(&mut self, key: &[u8], tracker: &Rc<Tracker>) {
        self.tracked.read(key, tracker);
    }

    /// What the request at hand has cost so far.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    /// Stored bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the file, the room that it has free included.
    pub fn file_bytes(&self) -> u64 {
        let path = self.options.directory.join(disk::FILE);
        std::fs::metadata(path).map_or(0, |metadata| metadata.len())
    }

    /// Bytes in the current segment of the log.
    pub fn log_bytes(&self) -> u64 {
        self.log.segment_bytes()
    }

    /// Bytes that the memtables and the cache take.
    pub fn memory(&self) -> usize {
        self.changed() + self.cache.borrow().bytes()
    }

    /// Bytes that the memtables take.
    fn changed(&self) -> usize {
        self.active.bytes() + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
    }

    /// Bytes that the cache may take: what changes leave of the memory.
    fn cache_limit(&self) -> usize {
        self.options.memory.saturating_sub(self.changed())
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Why writes are refused, if they are.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The number that the next record of the log gets.
    pub fn sequence(&self) -> u64 {
        self.log.sequence()
    }

    /// Whether there are records that [`Store::write_log`] has not written.
    pub fn has_unwritten(&self) -> bool {
        self.log.pending() > 0
    }

    /// Bytes of log that [`Store::write_log`] has not written, those of the record that is being built
    /// among them.
    pub fn unwritten(&self) -> usize {
        self.log.pending()
    }

    /// Follows what is on the disk.
    pub fn synced(&self) -> tokio::sync::watch::Receiver<Synced> {
        self.syncer.watch()
    }

    /// The youngest record that requests since the last call have seen the effect of: their
    /// replies must not leave before it is as safe as `sync` says.
    pub fn take_observed(&self) -> u64 {
        self.observed.replace(0)
    }

    fn observe(&self, sequence: u64) {
        self.observed.set(self.observed.get().max(sequence));
    }
}

/// One key that a scan met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedKey {
    /// Its stored form; [`key::name`] is what the user knows.
    pub key: Vec<u8>,
    /// Its expiry, 0 for never.
    pub expires: u64,
    /// What it holds.
    pub kind: Kind,
}
