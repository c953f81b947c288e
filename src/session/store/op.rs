//! The changes that the log records. A command becomes one or more of them; applying them again
//! in order gives the same data, whatever the time is then.

use super::key::{self, Space};
use super::value::{Entry, put_bytes, take_bytes};

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Op<'a> {
    /// The key holds this from now on, whatever it held before.
    Put(&'a [u8], Entry),
    /// The key is gone.
    Remove(&'a [u8]),
    /// The key expires then; 0 for never.
    Expire(&'a [u8], u64),
    /// These fields have these values; the hash is made if there is none.
    SetFields(&'a [u8], Vec<(&'a [u8], &'a [u8])>),
    /// These fields are gone; the hash too with its last one.
    RemoveFields(&'a [u8], Vec<&'a [u8]>),
    /// These are members; the set is made if there is none.
    AddMembers(&'a [u8], Vec<&'a [u8]>),
    /// These are no members; the set is gone too with its last one.
    RemoveMembers(&'a [u8], Vec<&'a [u8]>),
    /// Every key of the space is gone.
    Clear(Space),
    /// The number stands for this database of this namespace.
    Define(Space, u8, &'a str),
}

// === impl Op ===

impl<'a> Op<'a> {
    /// The space that it changes; `None` for the one that it makes.
    pub fn space(&self) -> Option<Space> {
        match self {
            Self::Put(key, _)
            | Self::Remove(key)
            | Self::Expire(key, _)
            | Self::SetFields(key, _)
            | Self::RemoveFields(key, _)
            | Self::AddMembers(key, _)
            | Self::RemoveMembers(key, _) => Some(key::space(key)),
            Self::Clear(space) => Some(*space),
            Self::Define(..) => None,
        }
    }

    /// Appends the recorded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put(key, entry) => {
                start(out, 1, key);
                let length_at = out.len();
                out.extend_from_slice(&[0; 4]);
                entry.encode(out);
                let length = u32::try_from(out.len() - length_at - 4).unwrap_or(u32::MAX);
                out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Self::Remove(key) => start(out, 2, key),
            Self::Expire(key, expires) => {
                start(out, 3, key);
                out.extend_from_slice(&expires.to_le_bytes());
            }
            Self::SetFields(key, fields) => {
                start(out, 4, key);
                put_count(out, fields.len());
                for (field, value) in fields {
                    put_bytes(out, field);
                    put_bytes(out, value);
                }
            }
            Self::RemoveFields(key, items) => put_list(out, 5, key, items),
            Self::AddMembers(key, items) => put_list(out, 6, key, items),
            Self::RemoveMembers(key, items) => put_list(out, 7, key, items),
            Self::Clear(space) => {
                out.push(8);
                out.extend_from_slice(&space.to_le_bytes());
            }
            Self::Define(space, database, namespace) => {
                start(out, 9, namespace.as_bytes());
                out.extend_from_slice(&space.to_le_bytes());
                out.push(*database);
            }
        }
    }

    /// Whether the recorded form of a change begins with this.
    pub fn is_kind(byte: u8) -> bool {
        (1..=9).contains(&byte)
    }

    /// Takes the next recorded change; `None` when there is none that makes sense.
    pub fn decode(input: &mut &'a [u8]) -> Option<Self> {
        let (kind, rest) = input.split_first()?;
        *input = rest;
        Some(match kind {
            1 => {
                let key = take_bytes(input)?;
                Self::Put(key, Entry::decode(take_bytes(input)?)?)
            }
            2 => Self::Remove(take_bytes(input)?),
            3 => {
                let key = take_bytes(input)?;
                let (expires, rest) = input.split_first_chunk()?;
                *input = rest;
                Self::Expire(key, u64::from_le_bytes(*expires))
            }
            4 => {
                let key = take_bytes(input)?;
                let fields = (0..take_count(input)?)
                    .map(|_| Some((take_bytes(input)?, take_bytes(input)?)))
                    .collect::<Option<_>>()?;
                Self::SetFields(key, fields)
            }
            5 => take_list(input).map(|(key, items)| Self::RemoveFields(key, items))?,
            6 => take_list(input).map(|(key, items)| Self::AddMembers(key, items))?,
            7 => take_list(input).map(|(key, items)| Self::RemoveMembers(key, items))?,
            8 => Self::Clear(take_count(input)?),
            9 => {
                let namespace = std::str::from_utf8(take_bytes(input)?).ok()?;
                let space = take_count(input)?;
                let (database, rest) = input.split_first()?;
                *input = rest;
                Self::Define(space, *database, namespace)
            }
            _ => return None,
        })
    }
}

fn start(out: &mut Vec<u8>, kind: u8, key: &[u8]) {
    out.push(kind);
    put_bytes(out, key);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_list(out: &mut Vec<u8>, kind: u8, key: &[u8], items: &[&[u8]]) {
    start(out, kind, key);
    put_count(out, items.len());
    for item in items {
        put_bytes(out, item);
    }
}

fn take_count(input: &mut &[u8]) -> Option<u32> {
    let (count, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(u32::from_le_bytes(*count))
}

fn take_list<'a>(input: &mut &'a [u8]) -> Option<(&'a [u8], Vec<&'a [u8]>)> {
    let key = take_bytes(input)?;
    let items = (0..take_count(input)?).map(|_| take_bytes(input)).collect::<Option<_>>()?;
    Some((key, items))
}

#[cfg(test)]
mod tests {
    use super::super::value::Value;
    use super::*;

    #[test]
    fn changes_are_read_as_they_were_recorded_and_nothing_else_is() {
        let mut key = Vec::new();
        key::build(&mut key, 7, b"name");
        let entry = Entry { expires: 9, value: Value::String((*b"value").into()) };
        let ops = [
            (Op::Put(&key, entry), Some(7)),
            (Op::Remove(&key), Some(7)),
            (Op::Expire(&key, 5), Some(7)),
            (Op::SetFields(&key, vec![(b"a", b"b"), (b"", b"")]), Some(7)),
            (Op::RemoveFields(&key, vec![b"a"]), Some(7)),
            (Op::AddMembers(&key, vec![b"a", b"b"]), Some(7)),
            (Op::RemoveMembers(&key, vec![]), Some(7)),
            (Op::Clear(8), Some(8)),
            (Op::Define(9, 3, "shop"), None),
        ];
        let mut all = Vec::new();
        for (op, space) in &ops {
            assert_eq!(op.space(), *space, "{op:?}");
            let begins = all.len();
            op.encode(&mut all);
            assert!(Op::is_kind(all[begins]));
            for end in begins..all.len() {
                assert_eq!(Op::decode(&mut &all[begins..end]), None, "{op:?} up to {end}");
            }
        }
        let mut input = &all[..];
        for (op, _) in ops {
            assert_eq!(Op::decode(&mut input), Some(op));
        }
        assert!(input.is_empty());
        for other in [0, 10, 255] {
            assert!(!Op::is_kind(other));
            assert_eq!(Op::decode(&mut &[other, 0, 0, 0, 0, 0][..]), None);
        }
    }
}
