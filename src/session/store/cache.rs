//! What was read from the file lately: a session that is asked for again and again is looked for
//! in the file once.
//!
//! A key whose value was changed is taken out, so what is here is always the newest. The first entry
//! that was not asked for again makes room for the next ("clock"), so that a walk over everything
//! does not drive out what is in use.

use std::cell::Cell;
use std::hash::RandomState;
use std::rc::Rc;

use indexmap::IndexMap;

use super::key::{self, Space};
use super::memtable::SharedKey;
use super::value::Value;

/// Values by key.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: IndexMap<SharedKey, Cached, RandomState>,
    /// The entry that is looked at next when room is needed.
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    expires: u64,
    value: Rc<Value>,
    /// As it was when it came: to count a large collection takes time.
    cost: usize,
    /// It was asked for since the hand last passed.
    used: Cell<bool>,
}

/// A larger value is not kept: to copy it costs more than to find it.
const LARGEST: usize = 64 * 1024;
/// What an entry costs beside key and value: its place in the map, lengths, counts, and what the
/// allocator adds.
const OVERHEAD: usize = 160;

impl Cache {
    /// The expiry of a key, and its value.
    pub(super) fn get(&self, key: &[u8]) -> Option<(u64, Rc<Value>)> {
        let cached = self.entries.get(key)?;
        cached.used.set(true);
        Some((cached.expires, Rc::clone(&cached.value)))
    }

    /// Keeps what a key holds, as long as all of it takes no more than `limit` bytes.
    pub(super) fn insert(&mut self, key: SharedKey, expires: u64, value: Rc<Value>, limit: usize) {
        let stored = value.stored_bytes();
        let cost = OVERHEAD + key.len() + stored + value.overhead();
        if stored > LARGEST || cost > limit {
            return;
        }
        self.remove(&key);
        self.shrink(limit - cost);
        self.entries.insert(key, Cached { expires, value, cost, used: Cell::new(false) });
        self.bytes += cost;
    }

    /// Whether a value of so many stored bytes may be kept.
    pub(super) fn takes(stored: usize) -> bool {
        stored <= LARGEST
    }

    /// Whether it has the key.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    /// The key has another expiry now.
    pub(super) fn set_expiry(&mut self, key: &[u8], expires: u64) {
        if let Some(cached) = self.entries.get_mut(key) {
            cached.expires = expires;
        }
    }

    /// Has it take no more than this.
    fn shrink(&mut self, limit: usize) {
        while self.bytes > limit {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            match self.entries.get_index(self.hand) {
                Some((_, cached)) if cached.used.replace(false) => self.hand += 1,
                // The last entry comes into its place, and under the hand.
                Some(_) => {
                    if let Some((_, cached)) = self.entries.swap_remove_index(self.hand) {
                        self.bytes -= cached.cost;
                    }
                }
                None => return,
            }
        }
    }

    /// The key has another value now, or none.
    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some(cached) = self.entries.swap_remove(key) {
            self.bytes -= cached.cost;
        }
    }

    /// Forgets a space; returns what it held there.
    pub(super) fn clear_space(&mut self, space: Space) -> Vec<Rc<Value>> {
        let bytes = &mut self.bytes;
        let own = self.entries.extract_if(.., |key, _| key::space(key) == space);
        own.map(|(_, cached)| {
            *bytes -= cached.cost;
            cached.value
        })
        .collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(cache: &mut Cache, key: &[u8], length: usize, limit: usize) {
        let value = Value::String(vec![0; length].into());
        cache.insert(key.into(), 7, Rc::new(value), limit);
    }

    /// What one key of two bytes with a hundred costs.
    fn one() -> usize {
        let mut cache = Cache::default();
        insert(&mut cache, &[0, 0], 100, usize::MAX);
        cache.bytes()
    }

    #[test]
    fn it_never_takes_more_than_it_may_and_keeps_what_is_in_use() {
        let mut cache = Cache::default();
        for number in 0..200 {
            insert(&mut cache, &[0, number], 100, 10 * one());
            assert!(cache.bytes() <= 10 * one());
            let (expires, value) = cache.get(&[0, 0]).expect("it is asked for each time");
            assert_eq!((expires, value.stored_bytes()), (7, 109));
        }
        assert_eq!(cache.entries.len(), 10);
    }

    #[test]
    fn what_is_taken_out_or_replaced_gives_its_room_back() {
        let mut cache = Cache::default();
        insert(&mut cache, &[0, 1], 100, usize::MAX);
        insert(&mut cache, &[0, 1], 100, usize::MAX);
        insert(&mut cache, &[0, 2], 100, usize::MAX);
        assert_eq!(cache.bytes(), 2 * one());
        cache.remove(&[0, 1]);
        cache.remove(&[0, 1]);
        assert_eq!((cache.bytes(), cache.has(&[0, 1]), cache.has(&[0, 2])), (one(), false, true));
        cache.shrink(0);
        assert_eq!((cache.bytes(), cache.has(&[0, 2])), (0, false));
    }

    #[test]
    fn a_value_too_large_for_it_is_not_kept() {
        let mut cache = Cache::default();
        insert(&mut cache, b"k", LARGEST, usize::MAX);
        insert(&mut cache, b"k", 1000, 1000);
        assert!(!cache.has(b"k"));
        assert_eq!(cache.bytes(), 0);
    }
}
