//! What a checkpoint has brought into the file goes on to the cache: those are the sessions that
//! are in use.

use std::collections::hash_map;
use std::rc::Rc;
use std::sync::Arc;

use super::Store;
use super::cache::Cache;
use super::memtable::{Lookup, Memtable, SharedKey, Slot, State};

/// The entries of a table that are still to be moved.
pub(super) type Settling = hash_map::IntoIter<SharedKey, Slot>;

impl Store {
    /// Has the entries of a table that is in the file now moved by [`Store::settle_some`].
    pub(super) fn begin_settling(&mut self, table: Arc<Memtable>) {
        // The checkpoint is over, so nobody else holds it.
        let Ok(table) = Arc::try_unwrap(table) else { return };
        let (slots, rest) = table.into_slots();
        self.freeing.free(rest, slots.len());
        self.settling = Some(slots);
    }

    /// Moves the next `count` entries to the cache; false when there are no more.
    pub fn settle_some(&mut self, count: usize) -> bool {
        let Some(mut settling) = self.settling.take() else { return false };
        for (key, slot) in settling.by_ref().take(count) {
            let State::Holds(entry) = slot.state else { continue };
            // The cache must hold nothing but the newest.
            let mut expires = Some(entry.expires);
            for table in [self.frozen.as_deref(), Some(&self.active)].into_iter().flatten() {
                match table.get(&key) {
                    Lookup::Known(Slot { state: State::Expires(later), .. }) => {
                        expires = expires.map(|_| *later);
                    }
                    Lookup::Known(_) | Lookup::Cleared => expires = None,
                    Lookup::Unknown => {}
                }
            }
            let limit = self.cache_limit();
            let cache = self.cache.get_mut();
            if let Some(expires) = expires
                && !cache.has(&key)
                && Cache::takes(entry.value.stored_bytes())
            {
                cache.insert(key, expires, Rc::new(entry.value), limit);
            } else {
                let pieces = entry.value.pieces();
                self.freeing.free(entry.value, pieces);
            }
        }
        let more = settling.len() > 0;
        self.settling = more.then_some(settling);
        more
    }
}
