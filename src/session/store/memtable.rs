//! The changes that are not in the database file yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::key::{self, Space};
use super::value::{Entry, Value};

/// A key that the tables and the expiry buckets share.
pub(super) type SharedKey = Arc<[u8]>;

/// What is newer than the file. One is being filled; another may be on its way into the file, and
/// nobody changes that one any more.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    slots: BTreeMap<SharedKey, Slot>,
    /// Spaces of which nothing older than this table counts.
    cleared: BTreeSet<Space>,
    /// Keys by the second in which they expire, with stale ones among them: whoever takes one
    /// looks whether it is still so.
    buckets: BTreeMap<u64, Vec<SharedKey>>,
    bucketed: usize,
    bytes: usize,
}

/// One key's newest state.
#[derive(Debug)]
pub(super) struct Slot {
    /// What it holds; `None` when it was removed.
    pub entry: Option<Entry>,
    /// The number of the log record that made it so.
    pub sequence: u64,
}

/// What a table knows about a key.
#[derive(Debug)]
pub(super) enum Lookup<'a> {
    /// The newest state.
    Known(&'a Slot),
    /// Nothing older counts: the space was cleared.
    Cleared,
    /// An older table or the file knows.
    Unknown,
}

/// What a slot costs beside key and value: the tree's share, the counts of the shared key, the
/// bucket's entry.
const SLOT_OVERHEAD: usize = 128;

// === impl Memtable ===

impl Memtable {
    /// What this table knows about the key.
    pub(super) fn get(&self, key: &[u8]) -> Lookup<'_> {
        match self.slots.get(key) {
            Some(slot) => Lookup::Known(slot),
            None if !self.cleared.is_empty() && self.cleared.contains(&key::space(key)) => {
                Lookup::Cleared
            }
            None => Lookup::Unknown,
        }
    }

    /// Sets the newest state of a key.
    pub(super) fn insert(&mut self, key: &[u8], entry: Option<Entry>, sequence: u64) {
        let expires = entry.as_ref().map_or(0, |e| e.expires);
        let cost = cost(key, entry.as_ref());
        if let Some(slot) = self.slots.get_mut(key) {
            let before = slot.entry.as_ref().map_or(0, |e| e.expires);
            self.bytes = self.bytes + cost - self::cost(key, slot.entry.as_ref());
            *slot = Slot { entry, sequence };
            if expires != 0
                && expires / 1000 != before / 1000
                && let Some((key, _)) = self.slots.get_key_value(key)
            {
                let key = SharedKey::clone(key);
                self.bucket(key, expires);
            }
            return;
        }
        let key = SharedKey::from(key);
        self.bytes += cost;
        self.slots.insert(SharedKey::clone(&key), Slot { entry, sequence });
        if expires != 0 {
            self.bucket(key, expires);
        }
    }

    /// Changes the value of a key that this table holds; `change` says by how many stored bytes it
    /// grew, so that adding to a large collection costs no count of it.
    pub(super) fn change(
        &mut self,
        key: &[u8],
        sequence: u64,
        change: impl FnOnce(&mut Value) -> isize,
    ) -> isize {
        let Some(slot) = self.slots.get_mut(key) else { return 0 };
        slot.sequence = sequence;
        let Some(entry) = &mut slot.entry else { return 0 };
        let before = entry.value.overhead();
        let grown = change(&mut entry.value);
        self.bytes = (self.bytes + entry.value.overhead() - before).saturating_add_signed(grown);
        grown
    }

    /// Sets the expiry of a key that this table holds.
    pub(super) fn set_expiry(&mut self, key: &[u8], sequence: u64, expires: u64) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.sequence = sequence;
        let Some(entry) = &mut slot.entry else { return };
        let before = std::mem::replace(&mut entry.expires, expires);
        if expires != 0
            && expires / 1000 != before / 1000
            && let Some((key, _)) = self.slots.get_key_value(key)
        {
            let key = SharedKey::clone(key);
            self.bucket(key, expires);
        }
    }

    /// Forgets a space, and that there was ever anything in it.
    pub(super) fn clear(&mut self, space: Space) {
        self.cleared.insert(space);
        let bytes = &mut self.bytes;
        self.slots.retain(|key, slot| {
            let keep = key::space(key) != space;
            if !keep {
                *bytes -= cost(key, slot.entry.as_ref());
            }
            keep
        });
        self.rebuild_buckets();
    }

    /// Spaces of which nothing older counts.
    pub(super) fn cleared(&self) -> impl Iterator<Item = Space> {
        self.cleared.iter().copied()
    }

    /// Whether nothing older than this table counts in this space.
    pub(super) fn is_cleared(&self, space: Space) -> bool {
        self.cleared.contains(&space)
    }

    /// All slots, in the order of keys.
    pub(super) fn slots(&self) -> impl Iterator<Item = (&SharedKey, &Slot)> {
        self.slots.iter()
    }

    /// Slots from a key on.
    pub(super) fn slots_from(&self, key: &[u8]) -> impl Iterator<Item = (&SharedKey, &Slot)> {
        use std::ops::Bound::{Included, Unbounded};
        self.slots.range::<[u8], _>((Included(key), Unbounded))
    }

    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.cleared.is_empty()
    }

    /// Bytes it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The earliest second in which a key may expire.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.buckets.first_key_value().map(|(second, _)| *second)
    }

    /// Takes a key that may expire in the earliest second, with its expiry if it still has one in
    /// that second.
    pub(super) fn take_earliest(&mut self) -> Option<(SharedKey, Option<u64>)> {
        let mut first = self.buckets.first_entry()?;
        let second = *first.key();
        let key = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        self.bucketed -= usize::from(key.is_some());
        let key = key?;
        let expires = self
            .slots
            .get(&key)
            .and_then(|slot| slot.entry.as_ref())
            .map(|entry| entry.expires)
            .filter(|expires| *expires != 0 && expires / 1000 == second);
        Some((key, expires))
    }

    /// Puts a key back that was taken too early.
    pub(super) fn bucket(&mut self, key: SharedKey, expires: u64) {
        self.buckets.entry(expires / 1000).or_default().push(key);
        self.bucketed += 1;
        // Rolling sessions leave a stale entry at every touch: rebuilding at twice the number of
        // keys costs each touch a constant share.
        if self.bucketed > 2 * self.slots.len() + 1024 {
            self.rebuild_buckets();
        }
    }

    fn rebuild_buckets(&mut self) {
        self.buckets.clear();
        self.bucketed = 0;
        for (key, slot) in &self.slots {
            if let Some(entry) = slot.entry.as_ref().filter(|entry| entry.expires != 0) {
                let bucket = self.buckets.entry(entry.expires / 1000).or_default();
                bucket.push(SharedKey::clone(key));
                self.bucketed += 1;
            }
        }
    }
}

fn cost(key: &[u8], entry: Option<&Entry>) -> usize {
    SLOT_OVERHEAD + key.len() + entry.map_or(0, |e| e.stored_bytes() + e.value.overhead())
}
