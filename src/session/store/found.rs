//! An entry where it lies: in a memtable, in the cache, or in the file.

use std::borrow::Cow;
use std::rc::Rc;

use super::disk::Stored;
use super::value::{self, Entry, Kind, Value};
use super::{StoreError, Task, Work};

/// An entry that was found.
#[derive(Debug)]
pub struct Found<'a> {
    expires: u64,
    place: Place<'a>,
}

#[derive(Debug)]
enum Place<'a> {
    Memory(&'a Value),
    Cached(Rc<Value>),
    /// In its stored form, of this kind. To read it costs so much.
    Disk(Rc<Stored>, Kind, &'a Work),
}

// === impl Found ===

impl<'a> Found<'a> {
    /// In a memtable.
    pub(super) fn in_memory(expires: u64, value: &'a Value) -> Self {
        Self { expires, place: Place::Memory(value) }
    }

    /// In the cache.
    pub(super) fn in_cache(expires: u64, value: Rc<Value>) -> Self {
        Self { expires, place: Place::Cached(value) }
    }

    /// In the file; `None` when the stored form makes no sense.
    pub(super) fn in_file(stored: Rc<Stored>, work: &'a Work) -> Option<Self> {
        let (expires, kind) = value::header(stored.bytes())?;
        Some(Self { expires, place: Place::Disk(stored, kind, work) })
    }

    /// With the expiry that a newer table says.
    pub(super) fn expiring(self, expires: Option<u64>) -> Self {
        Self { expires: expires.unwrap_or(self.expires), ..self }
    }

    /// When it expires; 0 for never.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        match &self.place {
            Place::Memory(value) => value.kind(),
            Place::Cached(value) => value.kind(),
            Place::Disk(_, kind, _) => *kind,
        }
    }

    /// The bytes of a string; `None` when it is of another kind.
    pub fn string(&self) -> Option<&[u8]> {
        match &self.place {
            Place::Memory(Value::String(bytes)) => Some(bytes),
            Place::Cached(value) => match &**value {
                Value::String(bytes) => Some(bytes),
                _ => None,
            },
            Place::Disk(stored, Kind::String, _) => Some(value::payload(stored.bytes())),
            _ => None,
        }
    }

    /// The value, read from its stored form if it has one.
    pub fn value(&self) -> Result<Cow<'_, Value>, StoreError> {
        match &self.place {
            Place::Memory(value) => Ok(Cow::Borrowed(value)),
            Place::Cached(value) => Ok(Cow::Borrowed(value)),
            Place::Disk(stored, _, work) => {
                let value = Entry::decode(stored.bytes()).ok_or(StoreError::Damaged)?.value;
                work.note(Task::Copy, value.elements());
                Ok(Cow::Owned(value))
            }
        }
    }

    /// The value, if it is in a memtable.
    pub fn into_memory(self) -> Option<&'a Value> {
        match self.place {
            Place::Memory(value) => Some(value),
            Place::Cached(_) | Place::Disk(..) => None,
        }
    }

    /// The whole entry.
    pub fn entry(&self) -> Result<Entry, StoreError> {
        Ok(Entry { expires: self.expires(), value: self.value()?.into_owned() })
    }

    /// Elements that a copy takes beyond reading it.
    pub fn to_copy(&self) -> usize {
        match &self.place {
            Place::Memory(value) => value.elements(),
            Place::Cached(value) => value.elements(),
            Place::Disk(..) => 0,
        }
    }

    /// Bytes of its stored form.
    pub fn stored_bytes(&self) -> usize {
        match &self.place {
            Place::Memory(value) => value.stored_bytes(),
            Place::Cached(value) => value.stored_bytes(),
            Place::Disk(stored, ..) => stored.bytes().len(),
        }
    }
}
