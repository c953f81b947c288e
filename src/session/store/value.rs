//! What a key holds, in memory and as bytes.
//!
//! Stored form: `expiry in ms (8 bytes, 0 for never) · kind (1 byte) · payload`. A string's payload
//! is the string; of the others it is each element with its length before it.

use std::hash::RandomState;
use std::ops::Deref;

use indexmap::{IndexMap, IndexSet};

/// A string of any bytes.
pub(crate) type Bytes = Box<[u8]>;

/// A value with its expiry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Milliseconds since 1970 after which the entry is gone; 0 for never.
    pub expires: u64,
    /// What is stored.
    pub value: Value,
}

/// A value of one of the kinds that the store knows. Nearly all are strings, so the others do not
/// make each of them larger.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any bytes.
    String(Bytes),
    /// Fields with values, in the order in which they were added.
    Hash(Box<Counted<IndexMap<Bytes, Bytes, RandomState>>>),
    /// Members, in the order in which they were added.
    Set(Box<Counted<IndexSet<Bytes, RandomState>>>),
}

/// A collection, with its bytes counted: to do that takes long when it is large.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted<C> {
    elements: C,
    /// Of the stored form, without what comes before the payload.
    bytes: usize,
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::String`].
    String,
    /// [`Value::Hash`].
    Hash,
    /// [`Value::Set`].
    Set,
}

/// Elements of one collection, and bytes of its stored form: all of it may be read, copied or removed by one
/// request. One that has more, of an earlier version, only gets smaller.
pub(crate) const MOST_ELEMENTS: usize = 400_000;
pub(crate) const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Bytes before the payload.
const HEADER_BYTES: usize = 9;
/// What an element costs in memory beside its bytes: two pointers, lengths, and its hash.
const ELEMENT_OVERHEAD: usize = 64;

// === impl Entry ===

impl Entry {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.expires.to_le_bytes());
        match &self.value {
            Value::String(bytes) => {
                out.push(b's');
                out.extend_from_slice(bytes);
            }
            Value::Hash(fields) => {
                out.push(b'h');
                for (field, value) in fields.iter() {
                    put_bytes(out, field);
                    put_bytes(out, value);
                }
            }
            Value::Set(members) => {
                out.push(b't');
                for member in members.iter() {
                    put_bytes(out, member);
                }
            }
        }
    }

    /// Reads the stored form; `None` when it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (expires, kind) = header(bytes)?;
        let mut payload = &bytes[HEADER_BYTES..];
        let value = match kind {
            Kind::String => Value::String(payload.into()),
            Kind::Hash => {
                let mut fields = IndexMap::<Bytes, Bytes, _>::default();
                while !payload.is_empty() {
                    let field = take_bytes(&mut payload)?;
                    fields.insert(field.into(), take_bytes(&mut payload)?.into());
                }
                Value::Hash(Box::new(fields.into()))
            }
            Kind::Set => {
                let mut members = IndexSet::<Bytes, _>::default();
                while !payload.is_empty() {
                    members.insert(take_bytes(&mut payload)?.into());
                }
                Value::Set(Box::new(members.into()))
            }
        };
        Some(Self { expires, value })
    }

    /// Bytes of the stored form, without making it. Counts against `max-size`.
    pub fn stored_bytes(&self) -> usize {
        self.value.stored_bytes()
    }
}

// === impl Counted ===

impl<C> Deref for Counted<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.elements
    }
}

impl From<IndexMap<Bytes, Bytes, RandomState>> for Counted<IndexMap<Bytes, Bytes, RandomState>> {
    fn from(elements: IndexMap<Bytes, Bytes, RandomState>) -> Self {
        let bytes = elements.iter().map(|(field, value)| field_bytes(field, value)).sum();
        Self { elements, bytes }
    }
}

impl From<IndexSet<Bytes, RandomState>> for Counted<IndexSet<Bytes, RandomState>> {
    fn from(elements: IndexSet<Bytes, RandomState>) -> Self {
        let bytes = elements.iter().map(|member| member_bytes(member)).sum();
        Self { elements, bytes }
    }
}

// === impl Value ===

impl Value {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::String(_) => Kind::String,
            Self::Hash(_) => Kind::Hash,
            Self::Set(_) => Kind::Set,
        }
    }

    /// Bytes of the stored form of an entry with this value.
    pub fn stored_bytes(&self) -> usize {
        HEADER_BYTES
            + match self {
                Self::String(bytes) => bytes.len(),
                Self::Hash(fields) => fields.bytes,
                Self::Set(members) => members.bytes,
            }
    }

    /// Whether nothing is left of a collection: it then does not exist.
    pub fn is_empty_collection(&self) -> bool {
        match self {
            Self::String(_) => false,
            Self::Hash(fields) => fields.is_empty(),
            Self::Set(members) => members.is_empty(),
        }
    }

    /// Sets fields of a hash; returns by how many stored bytes it grew.
    pub fn set_fields(&mut self, fields: &[(&[u8], &[u8])]) -> isize {
        let Self::Hash(map) = self else { return 0 };
        let before = map.bytes;
        for (field, value) in fields {
            map.bytes += field_bytes(field, value);
            if let Some(place) = map.elements.get_mut(*field) {
                map.bytes -= field_bytes(field, place);
                *place = (*value).into();
            } else {
                map.elements.insert((*field).into(), (*value).into());
            }
        }
        map.bytes.cast_signed() - before.cast_signed()
    }

    /// Removes fields of a hash or members of a set; returns by how many stored bytes it grew.
    pub fn remove_elements(&mut self, elements: &[&[u8]]) -> isize {
        let before = self.stored_bytes();
        for element in elements {
            match self {
                Self::Hash(map) => {
                    if let Some(value) = map.elements.swap_remove(*element) {
                        map.bytes -= field_bytes(element, &value);
                    }
                }
                Self::Set(set) => {
                    if set.elements.swap_remove(*element) {
                        set.bytes -= member_bytes(element);
                    }
                }
                Self::String(_) => {}
            }
        }
        self.stored_bytes().cast_signed() - before.cast_signed()
    }

    /// Adds members to a set; returns by how many stored bytes it grew.
    pub fn add_members(&mut self, members: &[&[u8]]) -> isize {
        let Self::Set(set) = self else { return 0 };
        let before = set.bytes;
        for member in members {
            if !set.elements.contains(*member) {
                set.elements.insert((*member).into());
                set.bytes += member_bytes(member);
            }
        }
        set.bytes.cast_signed() - before.cast_signed()
    }

    /// Whether a collection is no larger than it may be.
    pub fn is_of_legal_size(&self) -> bool {
        self.elements() <= MOST_ELEMENTS && self.stored_bytes() <= MOST_BYTES
    }

    /// Whether a collection may have so many elements, of so many stored bytes, more.
    pub fn has_room(&self, elements: usize, bytes: isize) -> bool {
        let grows = elements > 0 || bytes > 0;
        let bytes = self.stored_bytes().saturating_add_signed(bytes);
        !grows || self.elements() + elements <= MOST_ELEMENTS && bytes <= MOST_BYTES
    }

    /// Elements of a collection; a string is one.
    pub fn elements(&self) -> usize {
        match self {
            Self::String(_) => 1,
            Self::Hash(fields) => fields.len(),
            Self::Set(members) => members.len(),
        }
    }

    /// Pieces of memory that it is made of.
    pub fn pieces(&self) -> usize {
        match self {
            Self::String(_) => 1,
            Self::Hash(fields) => 2 * fields.len(),
            Self::Set(members) => members.len(),
        }
    }

    /// What the elements cost in memory beside their bytes.
    pub fn overhead(&self) -> usize {
        ELEMENT_OVERHEAD * self.elements()
    }
}

// === impl Kind ===

impl Kind {
    /// The name that `TYPE` gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
            Self::Set => "set",
        }
    }
}

/// Stored bytes of a field of a hash.
pub(crate) fn field_bytes(field: &[u8], value: &[u8]) -> usize {
    8 + field.len() + value.len()
}

/// Stored bytes of a member of a set.
pub(crate) fn member_bytes(member: &[u8]) -> usize {
    4 + member.len()
}

/// Whether an expiry has passed.
pub(crate) fn is_expired(expires: u64, now: u64) -> bool {
    expires != 0 && expires <= now
}

/// Expiry and kind of a stored form.
pub(crate) fn header(bytes: &[u8]) -> Option<(u64, Kind)> {
    let expires = u64::from_le_bytes(*bytes.first_chunk()?);
    let kind = match bytes.get(8)? {
        b's' => Kind::String,
        b'h' => Kind::Hash,
        b't' => Kind::Set,
        _ => return None,
    };
    Some((expires, kind))
}

/// Changes the expiry of a stored form.
pub(crate) fn set_expiry(stored: &mut [u8], expires: u64) {
    if let Some(bytes) = stored.first_chunk_mut() {
        *bytes = expires.to_le_bytes();
    }
}

/// The payload of a stored form: of a string, the string.
pub(crate) fn payload(bytes: &[u8]) -> &[u8] {
    bytes.get(HEADER_BYTES..).unwrap_or_default()
}

/// Appends bytes with their length before them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes bytes that [`put_bytes`] wrote.
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *input = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(fields: &[(&str, &str)]) -> Value {
        let bytes = |text: &str| Bytes::from(text.as_bytes());
        let fields: IndexMap<_, _, RandomState> =
            fields.iter().map(|(f, v)| (bytes(f), bytes(v))).collect();
        Value::Hash(Box::new(fields.into()))
    }

    fn set(members: &[&str]) -> Value {
        let members: IndexSet<_, RandomState> =
            members.iter().map(|m| Bytes::from(m.as_bytes())).collect();
        Value::Set(Box::new(members.into()))
    }

    fn string(text: &str) -> Value {
        Value::String(text.as_bytes().into())
    }

    #[test]
    fn each_kind_is_read_as_it_was_written() {
        for (value, kind, name, elements, bytes) in [
            (string(""), Kind::String, "string", 1, 9),
            (string("abc"), Kind::String, "string", 1, 12),
            (hash(&[]), Kind::Hash, "hash", 0, 9),
            (hash(&[("a", "bc"), ("", "")]), Kind::Hash, "hash", 2, 28),
            (set(&["a", "bc"]), Kind::Set, "set", 2, 20),
        ] {
            let entry = Entry { expires: 7, value: value.clone() };
            let mut stored = Vec::new();
            entry.encode(&mut stored);
            assert_eq!((entry.stored_bytes(), stored.len()), (bytes, bytes));
            assert_eq!(header(&stored), Some((7, kind)));
            assert_eq!((value.kind(), kind.name()), (kind, name));
            assert_eq!((value.elements(), value.overhead()), (elements, 64 * elements));
            assert_eq!(value.is_empty_collection(), elements == 0);
            assert_eq!(payload(&stored), &stored[9..]);
            set_expiry(&mut stored, 8);
            assert_eq!(Entry::decode(&stored), Some(Entry { expires: 8, value }));
        }
        assert_eq!(payload(b"short"), b"");
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let mut stored = Vec::new();
        Entry { expires: 0, value: hash(&[("ab", "cd")]) }.encode(&mut stored);
        for end in (0..9).chain(10..stored.len()) {
            assert_eq!(Entry::decode(&stored[..end]), None, "{end}");
        }
        stored[8] = b'x';
        assert_eq!(Entry::decode(&stored), None);
    }

    #[test]
    fn it_grows_by_what_it_says() {
        type Change = fn(&mut Value) -> isize;
        let changes: [Change; 7] = [
            |value| value.set_fields(&[(b"a", b"longer"), (b"new", b"x"), (b"new", b"")]),
            |value| value.set_fields(&[(b"b", b"")]),
            |value| value.add_members(&[b"a", b"new", b"newer", b"new"]),
            |value| value.remove_elements(&[b"a", b"none"]),
            |value| value.remove_elements(&[b"a", b"b"]),
            |value| value.remove_elements(&[]),
            |value| value.add_members(&[]),
        ];
        for value in [string("a"), hash(&[("a", "b"), ("b", "ccc")]), set(&["a", "b"])] {
            for (number, change) in changes.iter().enumerate() {
                let mut after = value.clone();
                let grown = change(&mut after);
                let bytes = [&value, &after].map(|value| value.stored_bytes().cast_signed());
                assert_eq!(grown, bytes[1] - bytes[0], "change {number} of {value:?}");
            }
        }
        let mut fields = hash(&[("a", "b")]);
        fields.set_fields(&[(b"a", b"c")]);
        assert_eq!(fields, hash(&[("a", "c")]));
        let mut members = set(&["a"]);
        members.add_members(&[b"b"]);
        members.remove_elements(&[b"a"]);
        assert_eq!(members, set(&["b"]));
    }

    #[test]
    fn an_entry_goes_with_its_last_millisecond() {
        for (expires, now, is) in [(0, 5, false), (6, 5, false), (5, 5, true), (4, 5, true)] {
            assert_eq!(is_expired(expires, now), is, "{expires}");
        }
    }
}
