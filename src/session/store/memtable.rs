//! The changes that are not in the database file yet.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::sync::Arc;

use super::key::{self, Space};
use super::value::{Entry, Value};

/// A key that the tables and the expiry buckets share.
pub(super) type SharedKey = Arc<[u8]>;

/// What is newer than the file. One is being filled; another may be on its way into the file, and
/// nobody changes that one any more.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    slots: HashMap<SharedKey, Slot>,
    /// The keys of `slots`, for those who walk over them.
    order: BTreeSet<Ordered>,
    /// Spaces of which nothing older than this table counts.
    cleared: BTreeSet<Space>,
    /// Keys of each space by the second in which they expire, with stale ones among them: whoever
    /// takes one looks whether it is still so.
    buckets: BTreeMap<Space, BTreeMap<u64, Vec<SharedKey>>>,
    bucketed: usize,
    bytes: usize,
}

/// A key with its first bytes at hand: nearly always they tell two keys apart, and the tree need
/// not follow pointers.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ordered {
    first: u64,
    key: SharedKey,
}

/// One key's newest state.
#[derive(Debug)]
pub(super) struct Slot {
    /// What became of it.
    pub state: State,
    /// The number of the log record that made it so.
    pub sequence: u64,
}

/// What became of a key.
#[derive(Debug)]
pub(super) enum State {
    /// It holds this.
    Holds(Entry),
    /// It was removed.
    Gone,
    /// It holds what an older table or the file says, and expires then (0 for never). Most changes
    /// of most sessions are this: so they take little room, here and in the file.
    Expires(u64),
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

/// What a slot costs beside key and value: its place in the map and in the tree, the counts of the
/// shared key, the bucket's entry.
const SLOT_OVERHEAD: usize = 192;

// === impl Memtable ===

impl Memtable {
    /// The table that comes after this one, with room for as many keys: growing under way would
    /// keep everybody waiting for milliseconds.
    pub(super) fn successor(&self) -> Self {
        Self { slots: HashMap::with_capacity(self.slots.len()), ..Self::default() }
    }

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

    /// Sets the newest state of a key; returns the one before, whose memory is to be given back.
    pub(super) fn insert(&mut self, key: &[u8], state: State, sequence: u64) -> Option<State> {
        let expires = state.expires();
        let cost = cost(key, &state);
        if let Some(slot) = self.slots.get_mut(key) {
            let before = slot.state.expires();
            self.bytes = self.bytes + cost - self::cost(key, &slot.state);
            let old = std::mem::replace(slot, Slot { state, sequence });
            if expires != 0
                && expires / 1000 != before / 1000
                && let Some((key, _)) = self.slots.get_key_value(key)
            {
                let key = SharedKey::clone(key);
                self.bucket(key, expires);
            }
            return Some(old.state);
        }
        let key = SharedKey::from(key);
        self.bytes += cost;
        self.order.insert(Ordered::new(SharedKey::clone(&key)));
        self.slots.insert(SharedKey::clone(&key), Slot { state, sequence });
        if expires != 0 {
            self.bucket(key, expires);
        }
        None
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
        let State::Holds(entry) = &mut slot.state else { return 0 };
        let before = entry.value.overhead();
        let grown = change(&mut entry.value);
        self.bytes = (self.bytes + entry.value.overhead() - before).saturating_add_signed(grown);
        grown
    }

    /// Sets the expiry of a key that there is, wherever its value lies.
    pub(super) fn set_expiry(&mut self, key: &[u8], sequence: u64, expires: u64) {
        let Some(slot) = self.slots.get_mut(key) else {
            self.insert(key, State::Expires(expires), sequence);
            return;
        };
        slot.sequence = sequence;
        let before = match &mut slot.state {
            State::Holds(entry) => std::mem::replace(&mut entry.expires, expires),
            State::Expires(before) => std::mem::replace(before, expires),
            State::Gone => return,
        };
        if expires != 0
            && expires / 1000 != before / 1000
            && let Some((key, _)) = self.slots.get_key_value(key)
        {
            let key = SharedKey::clone(key);
            self.bucket(key, expires);
        }
    }

    /// Forgets a space, and that there was ever anything in it, in time with what is in it. Returns what was
    /// there.
    pub(super) fn clear(&mut self, space: Space) -> Vec<Slot> {
        self.cleared.insert(space);
        let start = Ordered::new(SharedKey::from(&key::at_place(space, 0)[..]));
        let own = self.order.range(start..).map(|ordered| &ordered.key);
        let own: Vec<_> = own.take_while(|key| key::space(key) == space).cloned().collect();
        let mut removed = Vec::with_capacity(own.len());
        for key in own {
            if let Some(slot) = self.slots.remove(&key) {
                self.bytes -= cost(&key, &slot.state);
                removed.push(slot);
            }
            self.order.remove(&Ordered::new(key));
        }
        let bucketed = self.buckets.remove(&space).unwrap_or_default();
        self.bucketed -= bucketed.values().map(Vec::len).sum::<usize>();
        removed
    }

    /// Takes the table apart: what it says of each key, in no order, and what is left of it.
    pub(super) fn into_slots(mut self) -> (hash_map::IntoIter<SharedKey, Slot>, Self) {
        (std::mem::take(&mut self.slots).into_iter(), self)
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
        self.order.iter().filter_map(|ordered| self.slots.get_key_value(&ordered.key))
    }

    /// Slots from a key on.
    pub(super) fn slots_from(&self, key: &[u8]) -> impl Iterator<Item = (&SharedKey, &Slot)> {
        self.order
            .range(Ordered::new(SharedKey::from(key))..)
            .filter_map(|ordered| self.slots.get_key_value(&ordered.key))
    }

    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.cleared.is_empty()
    }

    /// Bytes it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The earliest second in which a key of these spaces may expire, and the space.
    pub(super) fn earliest(&self, counts: impl Fn(Space) -> bool) -> Option<(u64, Space)> {
        self.buckets
            .iter()
            .filter(|(space, _)| counts(**space))
            .filter_map(|(space, seconds)| Some((*seconds.first_key_value()?.0, *space)))
            .min()
    }

    /// Takes a key of a space that may expire in its earliest second, with its expiry if it still
    /// has one in that second.
    pub(super) fn take_earliest(&mut self, space: Space) -> Option<(SharedKey, Option<u64>)> {
        let seconds = self.buckets.get_mut(&space)?;
        let mut first = seconds.first_entry()?;
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
            .map(|slot| slot.state.expires())
            .filter(|expires| *expires != 0 && expires / 1000 == second);
        Some((key, expires))
    }

    /// Puts a key back that was taken too early.
    pub(super) fn bucket(&mut self, key: SharedKey, expires: u64) {
        let seconds = self.buckets.entry(key::space(&key)).or_default();
        seconds.entry(expires / 1000).or_default().push(key);
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
            let expires = slot.state.expires();
            if expires != 0 {
                let seconds = self.buckets.entry(key::space(key)).or_default();
                seconds.entry(expires / 1000).or_default().push(SharedKey::clone(key));
                self.bucketed += 1;
            }
        }
    }
}

impl Ordered {
    fn new(key: SharedKey) -> Self {
        let mut first = [0; 8];
        let length = key.len().min(first.len());
        first[..length].copy_from_slice(&key[..length]);
        Self { first: u64::from_be_bytes(first), key }
    }
}

impl State {
    /// When the key expires; 0 for never, and for a key that is gone.
    pub(super) fn expires(&self) -> u64 {
        match self {
            Self::Holds(entry) => entry.expires,
            Self::Gone => 0,
            Self::Expires(expires) => *expires,
        }
    }
}

fn cost(key: &[u8], state: &State) -> usize {
    SLOT_OVERHEAD
        + key.len()
        + match state {
            State::Holds(entry) => entry.stored_bytes() + entry.value.overhead(),
            State::Gone | State::Expires(_) => 0,
        }
}
