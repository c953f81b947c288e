//! Removing entries whose time is over, and evicting when there are too many: both walk the two
//! expiry indexes, the memtable's and the file's, from the nearest expiry on.

use super::memtable::Lookup;
use super::{Op, Store, StoreError};

/// Entries of the file's index that are read at once.
const BATCH: usize = 64;

/// An entry that expires, where its index has it.
enum Nearest {
    Memory,
    /// The entry of the file's index, which the cursor has to pass.
    Disk(u64, Vec<u8>),
}

impl Store {
    /// Removes entries that expired before `now`, looking at no more than `budget` index entries.
    /// True when there may be more.
    pub fn sweep(&mut self, now: u64, budget: usize) -> Result<bool, StoreError> {
        let mut left = budget;
        while left > 0 && self.active.earliest().is_some_and(|second| second * 1000 <= now) {
            left -= 1;
            let Some((key, expires)) = self.active.take_earliest() else { continue };
            let Some(expires) = expires else { continue };
            if expires <= now {
                self.expire(&key)?;
            } else {
                // It expires later in this same second.
                self.active.bucket(key, expires);
                break;
            }
        }
        while left > 0 {
            let Some(view) = &self.view else { return Ok(false) };
            let batch = view.expiries(&self.index_cursor, BATCH.min(left))?;
            let Some(last) = batch.last() else { return Ok(false) };
            let all_due = last.0 <= now;
            for (expires, key) in batch {
                if expires > now {
                    break;
                }
                left = left.saturating_sub(1);
                self.index_cursor = super::disk::index_key(expires, &key);
                if self.is_index_entry_current(&key) {
                    self.expire(&key)?;
                }
            }
            if !all_due {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Evicts entries, nearest expiry first, until the data is within `max-size`; looks at no more
    /// than `budget` of them. False when it still is not and nothing is left to evict.
    pub fn evict(&mut self, budget: usize) -> Result<bool, StoreError> {
        let mut left = budget;
        while self.bytes > self.options.max_size {
            if left == 0 {
                return Ok(true);
            }
            left -= 1;
            match self.nearest()? {
                Some(Nearest::Memory) => {
                    if let Some((key, Some(_))) = self.active.take_earliest() {
                        self.evict_key(&key)?;
                    }
                }
                Some(Nearest::Disk(expires, key)) => {
                    self.index_cursor = super::disk::index_key(expires, &key);
                    if self.is_index_entry_current(&key) {
                        self.evict_key(&key)?;
                    }
                }
                // What the frozen table holds can be evicted once it is in the file.
                None => return Ok(self.frozen.is_some()),
            }
        }
        Ok(true)
    }

    fn nearest(&self) -> Result<Option<Nearest>, StoreError> {
        let view = self.view.as_ref().ok_or(StoreError::Unavailable)?;
        let on_disk = view.expiries(&self.index_cursor, 1)?.pop();
        Ok(match (self.active.earliest(), on_disk) {
            (Some(second), Some((expires, _))) if second * 1000 <= expires => Some(Nearest::Memory),
            (_, Some((expires, key))) => Some(Nearest::Disk(expires, key)),
            (Some(_), None) => Some(Nearest::Memory),
            (None, None) => None,
        })
    }

    /// Whether no table is newer than the file for this key.
    fn is_index_entry_current(&self, key: &[u8]) -> bool {
        [Some(&self.active), self.frozen.as_deref()]
            .into_iter()
            .flatten()
            .all(|table| matches!(table.get(key), Lookup::Unknown))
    }

    fn expire(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.statistics.expired += 1;
        self.apply(Op::Remove(key))
    }

    fn evict_key(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.statistics.evicted += 1;
        self.apply(Op::Remove(key))
    }
}
