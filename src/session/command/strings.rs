//! Strings: what nearly every session is stored as.

use super::super::protocol::{Arguments, Reply};
use super::super::store::value::{Entry, Kind, Value};
use super::super::store::{Op, Task};
use super::keys::{Unit, expiry};
use super::number::integer;
use super::{CommandError, Context, LONGEST_STRING, Outcome, is};

pub(super) fn get(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    cx.read(args.at(1), |found| {
        match found {
            None => reply.null(),
            Some(found) => reply.bulk(found.string().ok_or(CommandError::WrongType)?),
        }
        Ok(())
    })
}

/// The options of `SET`, as far as they do not exclude each other.
#[derive(Default)]
struct SetOptions {
    only_new: bool,
    only_existing: bool,
    get: bool,
    keep_ttl: bool,
    expires: Option<u64>,
}

pub(super) fn set(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = set_options(args, cx.now)?;
    let (key, there) = cx.key_with_expiry(args.at(1))?;
    let exists = there.is_some();
    let old = if options.get { string(cx, &key)? } else { None };
    let refused = options.only_new && exists || options.only_existing && !exists;
    if !refused {
        let kept = there.filter(|_| options.keep_ttl).unwrap_or(0);
        let expires = options.expires.unwrap_or(kept);
        put(cx, &key, expires, args.at(2))?;
    }
    cx.done(key);
    match (options.get, refused) {
        (true, _) => reply.bulk_or_null(old.as_deref()),
        (false, true) => reply.null(),
        (false, false) => reply.ok(),
    }
    Ok(())
}

fn set_options(args: Arguments<'_>, now: u64) -> Result<SetOptions, CommandError> {
    let mut options = SetOptions::default();
    let mut time = None;
    let mut rest = args.from(3);
    while let Some(word) = rest.next() {
        if is(word, "NX") && !options.only_existing {
            options.only_new = true;
        } else if is(word, "XX") && !options.only_new {
            options.only_existing = true;
        } else if is(word, "GET") {
            options.get = true;
        } else if is(word, "KEEPTTL") && time.is_none() {
            options.keep_ttl = true;
        } else if let Some(unit) = Unit::of_option(word)
            && time.is_none()
            && !options.keep_ttl
        {
            time = Some((unit, rest.next().ok_or(CommandError::Syntax)?));
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if let Some((unit, text)) = time {
        options.expires = Some(expiry(text, unit, now, "set")?);
    }
    Ok(options)
}

fn put(cx: &mut Context<'_>, key: &[u8], expires: u64, bytes: &[u8]) -> Outcome {
    // An expiry that has passed already, as in EXAT 1: the key is gone at once.
    if super::super::store::value::is_expired(expires, cx.now) {
        return cx.apply(Op::Remove(key));
    }
    cx.apply(Op::Put(key, Entry { expires, value: Value::String(bytes.into()) }))
}

pub(super) fn setex(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_for(cx, args, reply, Unit::Seconds, "setex")
}

pub(super) fn psetex(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_for(cx, args, reply, Unit::Milliseconds, "psetex")
}

fn set_for(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
    unit: Unit,
    name: &str,
) -> Outcome {
    let expires = expiry(args.at(2), unit, cx.now, name)?;
    let key = cx.key_to_change(args.at(1))?;
    put(cx, &key, expires, args.at(3))?;
    cx.done(key);
    reply.ok();
    Ok(())
}

pub(super) fn setnx(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = cx.key_to_change(args.at(1))?;
    let free = cx.kind(&key)?.is_none();
    if free {
        put(cx, &key, 0, args.at(2))?;
    }
    cx.done(key);
    reply.flag(free);
    Ok(())
}

pub(super) fn getset(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = cx.key_to_change(args.at(1))?;
    let old = string(cx, &key)?;
    put(cx, &key, 0, args.at(2))?;
    cx.done(key);
    reply.bulk_or_null(old.as_deref());
    Ok(())
}

pub(super) fn getdel(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = cx.key_to_change(args.at(1))?;
    let old = string(cx, &key)?;
    if old.is_some() {
        cx.apply(Op::Remove(&key))?;
    }
    cx.done(key);
    reply.bulk_or_null(old.as_deref());
    Ok(())
}

pub(super) fn getex(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let option = args.get(2);
    let change = match (option, args.len()) {
        (None, _) => None,
        (Some(word), 3) if is(word, "PERSIST") => Some(None),
        (Some(word), 4) => Some(Some(Unit::of_option(word).ok_or(CommandError::Syntax)?)),
        _ => return Err(CommandError::Syntax),
    };
    let key = cx.key_to_change(args.at(1))?;
    let Some(value) = string(cx, &key)? else {
        cx.done(key);
        reply.null();
        return Ok(());
    };
    match change {
        None => {}
        Some(None) => cx.apply(Op::Expire(&key, 0))?,
        Some(Some(unit)) => {
            let expires = expiry(args.at(3), unit, cx.now, "getex")?;
            super::keys::expire_at(cx, &key, expires)?;
        }
    }
    cx.done(key);
    reply.bulk(&value);
    Ok(())
}

pub(super) fn mget(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    cx.store.work().spend(Task::Find, args.len() - 1)?;
    reply.array(args.len() - 1);
    for name in args.from(1) {
        cx.store.work().go_on(Task::Find)?;
        cx.read(name, |found| {
            reply.bulk_or_null(found.as_ref().and_then(|found| found.string()));
            Ok(())
        })?;
    }
    Ok(())
}

pub(super) fn mset(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let pairs = pairs(args, "mset")?;
    cx.find_all(args.from(1).step_by(2))?;
    for (name, value) in pairs {
        let key = cx.key_to_change(name)?;
        put(cx, &key, 0, value)?;
        cx.done(key);
    }
    reply.ok();
    Ok(())
}

pub(super) fn msetnx(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let pairs = pairs(args, "msetnx")?;
    cx.find_all(args.from(1).step_by(2))?;
    for (name, _) in pairs.clone() {
        let key = cx.key_to_change(name)?;
        let taken = cx.kind(&key)?.is_some();
        cx.done(key);
        if taken {
            reply.flag(false);
            return Ok(());
        }
    }
    for (name, value) in pairs {
        let key = cx.key(name);
        put(cx, &key, 0, value)?;
        cx.done(key);
    }
    reply.flag(true);
    Ok(())
}

fn pairs<'a>(
    args: Arguments<'a>,
    name: &str,
) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a>, CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(super::wrong_arity(name));
    }
    let values = args.from(2).step_by(2);
    Ok(args.from(1).step_by(2).zip(values))
}

pub(super) fn append(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let length = edit(cx, args.at(1), |value| {
        if value.len() + args.at(2).len() > LONGEST_STRING {
            return Err(CommandError::TooLong);
        }
        value.extend_from_slice(args.at(2));
        Ok(true)
    })?;
    reply.count(length);
    Ok(())
}

pub(super) fn setrange(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let offset = integer(args.at(2))?;
    let offset =
        usize::try_from(offset).map_err(|_| CommandError::other("ERR offset is out of range"))?;
    let piece = args.at(3);
    let length = edit(cx, args.at(1), |value| {
        if piece.is_empty() {
            return Ok(false);
        }
        let end = offset.checked_add(piece.len()).filter(|end| *end <= LONGEST_STRING);
        let end = end.ok_or(CommandError::TooLong)?;
        if value.len() < end {
            value.resize(end, 0);
        }
        value[offset..end].copy_from_slice(piece);
        Ok(true)
    })?;
    reply.count(length);
    Ok(())
}

/// Changes a string in place, with its expiry kept; returns its length. Nothing is stored when
/// `change` says that it changed nothing.
pub(super) fn edit(
    cx: &mut Context<'_>,
    name: &[u8],
    change: impl FnOnce(&mut Vec<u8>) -> Result<bool, CommandError>,
) -> Result<usize, CommandError> {
    edit_or_begin(cx, name, b"", change)
}

/// As [`edit`], with what a key that does not exist is taken for.
pub(super) fn edit_or_begin(
    cx: &mut Context<'_>,
    name: &[u8],
    absent: &[u8],
    change: impl FnOnce(&mut Vec<u8>) -> Result<bool, CommandError>,
) -> Result<usize, CommandError> {
    let key = cx.key_to_change(name)?;
    cx.expect_kind(&key, Kind::String)?;
    let (expires, mut value) = cx.store.find(&key, cx.now)?.map_or((0, absent.to_vec()), |found| {
        (found.expires(), found.string().unwrap_or_default().to_vec())
    });
    touched(cx, &value);
    if change(&mut value)? {
        touched(cx, &value);
        cx.apply(Op::Put(&key, Entry { expires, value: Value::String(value.as_slice().into()) }))?;
    }
    cx.done(key);
    Ok(value.len())
}

pub(super) fn strlen(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    cx.read(args.at(1), |found| {
        let length = match &found {
            None => 0,
            Some(found) => found.string().ok_or(CommandError::WrongType)?.len(),
        };
        reply.count(length);
        Ok(())
    })
}

pub(super) fn getrange(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (start, end) = (integer(args.at(2))?, integer(args.at(3))?);
    cx.read(args.at(1), |found| {
        let bytes = match &found {
            None => &[][..],
            Some(found) => found.string().ok_or(CommandError::WrongType)?,
        };
        reply.bulk(range(bytes, start, end));
        Ok(())
    })
}

/// The part from `start` to `end`, both included, negative ones counted from the end.
fn range(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let length = bytes.len().cast_signed() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let from_end = |index: i64| if index < 0 { (index + length).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => bytes.get(start..=end).unwrap_or_default(),
        _ => &[],
    }
}

fn string(cx: &Context<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, CommandError> {
    match cx.store.look_up(key, cx.now)? {
        None => Ok(None),
        Some(found) => {
            let value = found.string().ok_or(CommandError::WrongType)?.to_vec();
            touched(cx, &value);
            Ok(Some(value))
        }
    }
}

/// Counts the copying of a string, which takes time when it is large.
fn touched(cx: &Context<'_>, value: &[u8]) {
    cx.store.work().note_bytes(value.len());
}
