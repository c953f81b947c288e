//! Removing entries whose time is over, and evicting when there are too many: both walk the two
//! expiry indexes, the memtable's and the file's, from the nearest expiry on.
//!
//! Namespaces share `max-size` alike: only what has more than its share is evicted. So nobody loses
//! a session because another app has too many.

use super::eviction::Eviction;
use super::key::{self, Space};
use super::memtable::Lookup;
use super::{Op, Store, StoreError};

/// Entries of the file's index that are read at once.
const BATCH: usize = 64;

/// An entry that expires, where its index has it.
enum Nearest {
    /// In this space.
    Memory(Space),
    /// The entry of the file's index, which the cursor has to pass.
    Disk(u64, Vec<u8>),
    /// There is more in the file's index than was looked at.
    Unknown,
}

impl Store {
    /// Removes entries that expired before `now`, looking at no more than `budget` index entries.
    /// True when there may be more.
    pub fn sweep(&mut self, now: u64, budget: usize) -> Result<bool, StoreError> {
        let mut left = budget;
        self.work.begin();
        while left > 0
            && !self.work.is_long()
            && let Some((second, space)) = self.active.earliest(|_| true)
            && second * 1000 <= now
        {
            left -= 1;
            let Some((key, expires)) = self.active.take_earliest(space) else { continue };
            let Some(expires) = expires else { continue };
            if expires <= now {
                self.expire(&key)?;
            } else {
                // It expires later in this same second.
                self.active.bucket(key, expires);
                break;
            }
        }
        while left > 0 && !self.work.is_long() {
            let Some(view) = &self.view else { return Ok(false) };
            let batch = view.expiries(&self.index_cursor, BATCH.min(left))?;
            let Some(last) = batch.last() else { return Ok(false) };
            let all_due = last.0 <= now;
            for (expires, key) in batch {
                if expires > now || self.work.is_long() {
                    break;
                }
                left = left.saturating_sub(1);
                self.index_cursor = super::disk::index_key(expires, &key);
                if self.is_index_entry_current(&key) {
                    self.expire(&key)?;
                }
            }
            if !all_due && !self.work.is_long() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Evicts entries, nearest expiry first, until the data is within `max-size`; looks at no more
    /// than `budget` of them, stops before that when it takes long, and takes them from namespaces alone that have more than their share.
    /// False when it still is not and nothing is left to evict.
    pub fn evict(&mut self, budget: usize) -> Result<bool, StoreError> {
        let mut left = budget;
        while self.bytes > self.options.max_size {
            if left == 0 || self.work.is_long() {
                return Ok(true);
            }
            left -= 1;
            match self.nearest(&mut left)? {
                Some(Nearest::Memory(space)) => {
                    if let Some((key, Some(_))) = self.active.take_earliest(space) {
                        self.evict_key(&key)?;
                    }
                }
                Some(Nearest::Disk(expires, key)) => {
                    let at = super::disk::index_key(expires, &key);
                    if self.spaces.beyond_share(self.options.max_size).is_none() {
                        self.index_cursor = at;
                    } else {
                        self.eviction.cursor = at;
                    }
                    if self.is_index_entry_current(&key) {
                        self.evict_key(&key)?;
                    }
                }
                Some(Nearest::Unknown) => return Ok(true),
                // What the frozen table holds can be evicted once it is in the file.
                None => return Ok(self.frozen.is_some()),
            }
        }
        Ok(true)
    }

    /// Whether there is more than `max-size`.
    pub fn is_beyond_size(&self) -> bool {
        self.bytes > self.options.max_size
    }

    /// Whether a namespace may grow though nothing can be evicted: what never expires, of others,
    /// is no reason to refuse what is within its share.
    pub fn is_within_share(&self, namespace: &str) -> bool {
        self.spaces.is_within_share(namespace, self.options.max_size)
    }

    /// The entry that may be evicted and expires next.
    fn nearest(&mut self, left: &mut usize) -> Result<Option<Nearest>, StoreError> {
        let Some(beyond) = self.spaces.beyond_share(self.options.max_size) else {
            let in_memory = self.active.earliest(|_| true);
            let view = self.view.as_ref().ok_or(StoreError::Unavailable)?;
            let on_disk = view.expiries(&self.index_cursor, 1)?.pop();
            return Ok(nearer(in_memory, on_disk));
        };
        if self.eviction.beyond != beyond || self.eviction.cursor < self.index_cursor {
            self.eviction = Eviction { beyond, cursor: self.index_cursor.clone() };
        }
        let counts = |space| self.eviction.beyond.contains(&space);
        let in_memory = self.active.earliest(counts);
        let view = self.view.as_ref().ok_or(StoreError::Unavailable)?;
        let mut count = 1; // nearly always it is the first one
        loop {
            let batch = view.expiries(&self.eviction.cursor, count)?;
            let Some((expires, key)) = batch.last() else { return Ok(nearer(in_memory, None)) };
            let end = super::disk::index_key(*expires, key);
            if let Some(found) = batch.into_iter().find(|(_, key)| counts(key::space(key))) {
                return Ok(nearer(in_memory, Some(found)));
            }
            self.eviction.cursor = end;
            // What is in memory waits until it is known to be the nearest.
            let Some(rest) = left.checked_sub(count) else { return Ok(Some(Nearest::Unknown)) };
            (*left, count) = (rest, BATCH);
        }
    }

    /// Whether no table is newer than the file for this key.
    fn is_index_entry_current(&self, key: &[u8]) -> bool {
        [Some(&self.active), self.frozen.as_deref()]
            .into_iter()
            .flatten()
            .all(|table| matches!(table.get(key), Lookup::Unknown))
    }

    fn evict_key(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.statistics.evicted += 1;
        self.apply(Op::Remove(key))
    }
}

fn nearer(in_memory: Option<(u64, Space)>, on_disk: Option<(u64, Vec<u8>)>) -> Option<Nearest> {
    match (in_memory, on_disk) {
        (Some((second, space)), Some((expires, _))) if second * 1000 <= expires => {
            Some(Nearest::Memory(space))
        }
        (_, Some((expires, key))) => Some(Nearest::Disk(expires, key)),
        (Some((_, space)), None) => Some(Nearest::Memory(space)),
        (None, None) => None,
    }
}
