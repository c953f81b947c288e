//! Changing the data: the one way in, for commands and for the replay of the log.

use std::rc::Rc;

use super::key;
use super::memtable::{Lookup, Slot, State};
use super::value::{Bytes, Entry, Value};
use super::{Op, Space, Store, StoreError, Task};

impl Store {
    /// Makes a change: in the log, in the memtable, in the counters. Whoever watches the key is told.
    pub fn apply(&mut self, op: Op<'_>) -> Result<(), StoreError> {
        let before = self.prepare(&op)?;
        let changed = match &op {
            Op::Put(key, _) | Op::Remove(key) | Op::SetFields(key, _) | Op::AddMembers(key, _) => {
                Some(*key)
            }
            Op::Expire(key, _) | Op::RemoveFields(key, _) | Op::RemoveMembers(key, _) => {
                before.is_some().then_some(*key)
            }
            // See `clear`.
            Op::Clear(_) | Op::Define(..) => None,
        };
        if let Some(key) = changed {
            self.watched.touch(key);
            self.tracked.touch(key);
        }
        self.record(op, before);
        Ok(())
    }

    /// Removes a key whose time is over. It was gone for everybody before, and who watched it while
    /// it was there sees that it is gone: nobody is told.
    pub(super) fn expire(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.statistics.expired += 1;
        let op = Op::Remove(key);
        let before = self.prepare(&op)?;
        self.tracked.touch(key);
        self.record(op, before);
        Ok(())
    }

    /// Removes everything from a space. Whoever watches a key that is there is told.
    pub fn clear(&mut self, space: Space, now: u64) -> Result<(), StoreError> {
        for key in self.watched.of_space(space) {
            self.work.note(Task::Find, 1);
            // What cannot be read may be there, and what there is no time to look for.
            if self.work.is_spent() || !matches!(self.find(&key, now), Ok(None)) {
                self.watched.touch(&key);
            }
        }
        self.work.note(Task::Read, self.tracked.len() + self.cache.get_mut().len());
        self.tracked.touch_space(space);
        self.apply(Op::Clear(space))
    }

    fn record(&mut self, op: Op<'_>, before: Option<usize>) {
        self.log.add(|out| op.encode(out));
        self.observe(self.log.sequence());
        self.enact(op, before, self.log.sequence());
    }

    /// Makes a change that the log already has.
    pub(super) fn replay(&mut self, op: Op<'_>, sequence: u64) -> Result<(), StoreError> {
        let before = self.prepare(&op)?;
        self.enact(op, before, sequence);
        Ok(())
    }

    /// The space for this database of this namespace, made if there is none.
    pub fn define_space(&mut self, namespace: &str, database: u8) -> Result<Space, StoreError> {
        let known = self.space(namespace, database);
        if known != super::NOWHERE {
            return Ok(known);
        }
        let space = self.spaces.promise(namespace, database);
        self.apply(Op::Define(space, database, namespace))?;
        Ok(space)
    }

    /// The number that this database has or will have: what is watched there before anybody has
    /// written to it is what is written then.
    pub fn promise_space(&mut self, namespace: &str, database: u8) -> Space {
        self.spaces.promise(namespace, database)
    }

    /// Removes the key if its time is over. A command calls it before it changes the key, so that
    /// the replay of the log needs no clock. Returns the expiry of what is left.
    pub fn remove_if_expired(&mut self, key: &[u8], now: u64) -> Result<Option<u64>, StoreError> {
        let expires = self.find_any(key)?.map(|found| found.expires());
        if expires.is_some_and(|expires| super::value::is_expired(expires, now)) {
            self.expire(key)?;
            return Ok(None);
        }
        Ok(expires)
    }

    /// Ends the changes of one command or transaction: they come into force together.
    pub fn end_record(&mut self) {
        self.log.end_record();
    }

    /// Reads what the change needs to know, which may fail, before anything is changed. Returns
    /// the stored bytes of what the key holds.
    fn prepare(&mut self, op: &Op<'_>) -> Result<Option<usize>, StoreError> {
        match op {
            Op::Put(key, _) | Op::Remove(key) | Op::Expire(key, _) => {
                Ok(self.find_any(key)?.map(|found| found.stored_bytes()))
            }
            Op::SetFields(key, _)
            | Op::RemoveFields(key, _)
            | Op::AddMembers(key, _)
            | Op::RemoveMembers(key, _) => self.bring_into_memory(key),
            Op::Clear(_) | Op::Define(..) => Ok(None),
        }
    }

    /// Has the entry in the memtable that is being filled, if there is one at all: whoever is about to change a
    /// collection, and looks at it before, reads it once.
    pub(crate) fn bring_into_memory(&mut self, key: &[u8]) -> Result<Option<usize>, StoreError> {
        if let Lookup::Known(Slot { state: State::Holds(_), .. }) = self.active.get(key) {
            // What it takes is not needed: it changes by what the change itself adds.
            return Ok(Some(0));
        }
        let Some(found) = self.find_any(key)? else { return Ok(None) };
        self.work.note(Task::Copy, found.to_copy());
        let entry = found.entry()?;
        self.cache.get_mut().remove(key);
        // It may stay as it is: whoever reads it then waits for the same record as before.
        let tables = [Some(&self.active), self.frozen.as_deref()].into_iter().flatten();
        let sequence = tables.filter_map(|table| match table.get(key) {
            Lookup::Known(slot) => Some(slot.sequence),
            Lookup::Cleared | Lookup::Unknown => None,
        });
        let sequence = sequence.max().unwrap_or(0);
        self.set(key, State::Holds(entry), sequence);
        Ok(Some(0))
    }

    /// Sets the newest state of a key, and gives back what the one before took.
    fn set(&mut self, key: &[u8], state: State, sequence: u64) {
        if let Some(State::Holds(entry)) = self.active.insert(key, state, sequence) {
            let pieces = entry.value.pieces();
            self.freeing.free(entry.value, pieces);
        }
    }

    fn enact(&mut self, op: Op<'_>, before: Option<usize>, sequence: u64) {
        match op {
            Op::Put(key, entry) => {
                self.account(key, before, Some(entry.stored_bytes()));
                self.cache.get_mut().remove(key);
                self.set(key, State::Holds(entry), sequence);
            }
            Op::Remove(key) => {
                self.account(key, before, None);
                self.cache.get_mut().remove(key);
                self.set(key, State::Gone, sequence);
            }
            Op::Expire(key, expires) => {
                if before.is_some() {
                    self.cache.get_mut().set_expiry(key, expires);
                    self.active.set_expiry(key, sequence, expires);
                }
            }
            Op::SetFields(key, fields) => {
                self.change(key, before, sequence, Value::Hash(Box::default()), |v| {
                    v.set_fields(&fields)
                });
            }
            Op::AddMembers(key, members) => {
                self.change(key, before, sequence, Value::Set(Box::default()), |v| {
                    v.add_members(&members)
                });
            }
            Op::RemoveFields(key, items) | Op::RemoveMembers(key, items) => {
                self.change(key, before, sequence, Value::String(Bytes::default()), |value| {
                    value.remove_elements(&items)
                });
            }
            Op::Clear(space) => {
                self.bytes = self.bytes.saturating_sub(self.space_bytes(space));
                self.free_space(space);
                self.spaces.clear(space);
                self.last_clear = sequence;
            }
            Op::Define(space, database, namespace) => {
                self.spaces.define(space, namespace, database);
            }
        }
    }

    /// Changes a collection, which is made from `empty` if there is none and which is removed when
    /// nothing is left of it.
    fn change(
        &mut self,
        key: &[u8],
        before: Option<usize>,
        sequence: u64,
        empty: Value,
        change: impl FnOnce(&mut Value) -> isize,
    ) {
        if before.is_none() {
            if matches!(empty, Value::String(_)) {
                return; // nothing to remove elements from
            }
            let entry = Entry { expires: 0, value: empty };
            self.account(key, None, Some(entry.stored_bytes()));
            self.set(key, State::Holds(entry), sequence);
        }
        let mut gone = false;
        let grown = self.active.change(key, sequence, |value| {
            let grown = change(value);
            gone = value.is_empty_collection();
            grown
        });
        self.add_bytes(key::space(key), grown as i64);
        if gone && let Lookup::Known(Slot { state: State::Holds(entry), .. }) = self.active.get(key)
        {
            let left = entry.stored_bytes();
            self.account(key, Some(left), None);
            self.set(key, State::Gone, sequence);
        }
    }

    /// Forgets what the memory has of a space; a thread gives it back.
    fn free_space(&mut self, space: Space) {
        let pieces = |value: &Value| 1 + value.pieces();
        // Where nobody reads it at the moment.
        let cached = self.cache.get_mut().clear_space(space).into_iter();
        let cached: Vec<Value> = cached.filter_map(Rc::into_inner).collect();
        let count = cached.iter().map(pieces).sum();
        self.freeing.free(cached, count);
        // Of all spaces: it is a matter of speed alone.
        if let Some(settling) = self.settling.take() {
            let count = settling.len();
            self.freeing.free(settling, count);
        }
        let slots = self.active.clear(space);
        self.work.note(Task::Copy, slots.len());
        let count = slots.iter().map(|slot| match &slot.state {
            State::Holds(entry) => pieces(&entry.value),
            State::Gone | State::Expires(_) => 1,
        });
        let count = count.sum();
        self.freeing.free(slots, count);
    }

    /// Counts a key that held `before` stored bytes and now holds `after`.
    fn account(&mut self, key: &[u8], before: Option<usize>, after: Option<usize>) {
        let size = |stored: Option<usize>| {
            stored.map_or(0, |bytes| (key.len() + bytes).cast_signed() as i64)
        };
        let space = key::space(key);
        self.add_bytes(space, size(after) - size(before));
        self.spaces.add_keys(space, i64::from(after.is_some()) - i64::from(before.is_some()));
    }

    fn add_bytes(&mut self, space: Space, change: i64) {
        self.bytes = self.bytes.saturating_add_signed(change);
        self.spaces.add_bytes(space, change);
    }

    fn space_bytes(&self, space: Space) -> u64 {
        self.spaces.bytes(space)
    }
}
