//! Hashes: sessions of Spring, and counters by name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::RandomState;

use indexmap::IndexMap;

use super::super::protocol::{Arguments, Reply, Version};
use super::super::store::value::{Bytes, Kind, Value, field_bytes};
use super::super::store::{Op, Task, TooMuch, Work};
use super::number::integer;
use super::sets::Picks;
use super::{CommandError, Context, Outcome, is};

type Fields = IndexMap<Bytes, Bytes, RandomState>;

/// Reads a hash for a command that only reads; an empty one if there is none.
pub(super) fn with_fields<T>(
    cx: &mut Context<'_>,
    name: &[u8],
    read: impl FnOnce(&Fields) -> T,
) -> Result<T, CommandError> {
    cx.read(name, |found| match &found {
        None => Ok(read(&Fields::default())),
        Some(found) if found.kind() == Kind::Hash => match &*found.value()? {
            Value::Hash(fields) => Ok(read(fields)),
            _ => Err(CommandError::WrongType),
        },
        Some(_) => Err(CommandError::WrongType),
    })
}

/// As [`with_fields`], for a command that looks at all of them.
pub(super) fn with_all_fields<T>(
    cx: &mut Context<'_>,
    name: &[u8],
    read: impl FnOnce(&Fields, &Work) -> T,
) -> Result<T, CommandError> {
    let work = cx.store.work().clone();
    with_fields(cx, name, |fields| {
        work.note(Task::Read, fields.len());
        read(fields, &work)
    })
}

/// The key of a hash that is about to change, and one field of it.
fn field_to_change(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
) -> Result<(Vec<u8>, Option<Bytes>), CommandError> {
    let key = cx.key_to_change(args.at(1))?;
    let value = match cx.collection(&key, Kind::Hash)? {
        Some(Value::Hash(fields)) => fields.get(args.at(2)).cloned(),
        _ => None,
    };
    Ok((key, value))
}

/// Sets fields of a hash, if it does not become too large; returns how many of them are new.
fn put_fields(
    cx: &mut Context<'_>,
    key: &[u8],
    fields: Vec<(&[u8], &[u8])>,
) -> Result<usize, CommandError> {
    let empty = Value::Hash(Box::default());
    let hash = cx.collection(key, Kind::Hash)?.unwrap_or(&empty);
    let Value::Hash(known) = hash else { return Err(CommandError::WrongType) };
    let (mut added, mut bytes) = (0, 0);
    let mut seen = HashMap::new();
    for (field, value) in &fields {
        let after = field_bytes(field, value).cast_signed();
        let again = if fields.len() > 1 { seen.insert(*field, after) } else { None };
        let before = again.or_else(|| {
            let value = known.get(*field)?;
            Some(field_bytes(field, value).cast_signed())
        });
        added += usize::from(before.is_none());
        bytes += after - before.unwrap_or(0);
    }
    if !hash.has_room(added, bytes) {
        return Err(CommandError::TooLarge);
    }
    cx.apply(Op::SetFields(key, fields))?;
    Ok(added)
}

fn set_fields(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    name: &str,
) -> Result<usize, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(super::wrong_arity(name));
    }
    let key = cx.key_to_change(args.at(1))?;
    let fields: Vec<_> = args.from(2).step_by(2).zip(args.from(3).step_by(2)).collect();
    let added = put_fields(cx, &key, fields)?;
    cx.done(key);
    Ok(added)
}

pub(super) fn hset(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let added = set_fields(cx, args, "hset")?;
    reply.count(added);
    Ok(())
}

pub(super) fn hmset(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_fields(cx, args, "hmset")?;
    reply.ok();
    Ok(())
}

pub(super) fn hsetnx(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, before) = field_to_change(cx, args)?;
    if before.is_none() {
        put_fields(cx, &key, vec![(args.at(2), args.at(3))])?;
    }
    cx.done(key);
    reply.flag(before.is_none());
    Ok(())
}

pub(super) fn hget(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_fields(cx, args.at(1), |fields| {
        reply.bulk_or_null(fields.get(args.at(2)).map(|value| &**value));
    })
}

pub(super) fn hmget(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_fields(cx, args.at(1), |fields| {
        reply.array(args.len() - 2);
        for field in args.from(2) {
            reply.bulk_or_null(fields.get(field).map(|value| &**value));
        }
    })
}

pub(super) fn hgetall(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_all_fields(cx, args.at(1), |fields, _| {
        reply.map(fields.len());
        for (field, value) in fields {
            reply.bulk(field);
            reply.bulk(value);
        }
    })
}

pub(super) fn hkeys(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_all_fields(cx, args.at(1), |fields, _| {
        reply.array(fields.len());
        for field in fields.keys() {
            reply.bulk(field);
        }
    })
}

pub(super) fn hvals(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_all_fields(cx, args.at(1), |fields, _| {
        reply.array(fields.len());
        for value in fields.values() {
            reply.bulk(value);
        }
    })
}

pub(super) fn hlen(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_fields(cx, args.at(1), |fields| reply.count(fields.len()))
}

pub(super) fn hexists(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_fields(cx, args.at(1), |fields| reply.flag(fields.contains_key(args.at(2))))
}

pub(super) fn hstrlen(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_fields(cx, args.at(1), |fields| {
        reply.count(fields.get(args.at(2)).map_or(0, |value| value.len()));
    })
}

pub(super) fn hdel(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = cx.key_to_change(args.at(1))?;
    let mut present: Vec<&[u8]> = Vec::new();
    if let Some(Value::Hash(fields)) = cx.collection(&key, Kind::Hash)? {
        let mut seen = indexmap::IndexSet::<&[u8], RandomState>::default();
        present.extend(
            args.from(2).filter(|field| fields.contains_key(*field) && seen.insert(*field)),
        );
    }
    let removed = present.len();
    if removed > 0 {
        cx.apply(Op::RemoveFields(&key, present))?;
    }
    cx.done(key);
    reply.count(removed);
    Ok(())
}

pub(super) fn hincrby(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let amount = integer(args.at(3))?;
    let (key, before) = field_to_change(cx, args)?;
    let before = before
        .map_or(Ok(0), |value| integer(&value))
        .map_err(|_| CommandError::other("ERR hash value is not an integer"))?;
    let sum = before
        .checked_add(amount)
        .ok_or_else(|| CommandError::other("ERR increment or decrement would overflow"))?;
    let text = sum.to_string();
    put_fields(cx, &key, vec![(args.at(2), text.as_bytes())])?;
    cx.done(key);
    reply.integer(sum);
    Ok(())
}

pub(super) fn hincrbyfloat(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let mut key = Vec::new();
    let sum = super::counters::field_float_sum(args.at(3), || {
        let (found, before) = field_to_change(cx, args)?;
        key = found;
        Ok(before.map_or(Cow::Borrowed(&b"0"[..]), |before| Cow::Owned(before.into_vec())))
    })?;
    put_fields(cx, &key, vec![(args.at(2), sum.as_bytes())])?;
    cx.done(key);
    reply.bulk(sum.as_bytes());
    Ok(())
}

pub(super) fn hrandfield(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let Some(count) = args.get(2) else {
        let random = cx.client.random();
        return with_fields(cx, args.at(1), |fields| {
            let picked = (!fields.is_empty()).then(|| (random % fields.len() as u64) as usize);
            reply.bulk_or_null(
                picked.and_then(|index| fields.get_index(index)).map(|(field, _)| &**field),
            );
        });
    };
    let count = super::sets::count_to_pick(count)?;
    let with_values = match args.get(3) {
        None => false,
        Some(word) if is(word, "WITHVALUES") && args.len() == 4 => true,
        Some(_) => return Err(CommandError::Syntax),
    };
    // Twice as many must be a number too.
    if with_values && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        return Err(CommandError::other("ERR value is out of range"));
    }
    let mut random = cx.client.random();
    let work = cx.store.work().clone();
    with_fields(cx, args.at(1), |fields| {
        let mut picks = Picks::new(fields.len(), count, &mut random, &work)?;
        let nested = with_values && reply.version() == Version::Three;
        reply.array(picks.remaining() * if with_values && !nested { 2 } else { 1 });
        while !reply.is_too_large()
            && let Some((field, value)) = picks.next().and_then(|index| fields.get_index(index))
        {
            if nested {
                reply.array(2);
            }
            reply.bulk(field);
            if with_values {
                reply.bulk(value);
            }
        }
        Ok::<_, TooMuch>(())
    })??;
    Ok(())
}
