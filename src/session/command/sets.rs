//! Sets: the secondary indexes of session libraries ("all sessions of this user").

use std::collections::HashSet;
use std::hash::RandomState;

use indexmap::IndexSet;

use super::super::protocol::{Arguments, Reply};
use super::super::store::value::{Bytes, Entry, Kind, Value, member_bytes};
use super::super::store::{Found, Op, Task, TooMuch, Work};
use super::number::integer;
use super::{CommandError, Context, Outcome, is};

type Members = IndexSet<Bytes, RandomState>;

/// Reads a set for a command that only reads; an empty one if there is none.
pub(super) fn with_members<T>(
    cx: &mut Context<'_>,
    name: &[u8],
    read: impl FnOnce(&Members) -> T,
) -> Result<T, CommandError> {
    cx.read(name, |found| match &found {
        None => Ok(read(&Members::default())),
        Some(found) if found.kind() == Kind::Set => match &*found.value()? {
            Value::Set(members) => Ok(read(members)),
            _ => Err(CommandError::WrongType),
        },
        Some(_) => Err(CommandError::WrongType),
    })
}

/// As [`with_members`], for a command that looks at all of them.
pub(super) fn with_all_members<T>(
    cx: &mut Context<'_>,
    name: &[u8],
    read: impl FnOnce(&Members, &Work) -> T,
) -> Result<T, CommandError> {
    let work = cx.store.work().clone();
    with_members(cx, name, |members| {
        work.note(Task::Read, members.len());
        read(members, &work)
    })
}

pub(super) fn sadd(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let added = change(cx, args, |members, member| !members.contains(member))?;
    let count = added.1.len();
    if count > 0 {
        expect_room(cx, &added.0, &added.1)?;
        cx.apply(Op::AddMembers(&added.0, added.1))?;
    }
    cx.done(added.0);
    reply.count(count);
    Ok(())
}

pub(super) fn srem(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let removed = change(cx, args, indexmap::IndexSet::contains)?;
    let count = removed.1.len();
    if count > 0 {
        cx.apply(Op::RemoveMembers(&removed.0, removed.1))?;
    }
    cx.done(removed.0);
    reply.count(count);
    Ok(())
}

/// Fails when a set would become too large with these new members.
fn expect_room(cx: &mut Context<'_>, key: &[u8], members: &[&[u8]]) -> Outcome {
    let bytes: usize = members.iter().map(|member| member_bytes(member)).sum();
    let found = cx.store.find(key, cx.now)?.and_then(Found::into_memory);
    let empty = Value::Set(Box::default());
    let has_room = found.unwrap_or(&empty).has_room(members.len(), bytes.cast_signed());
    if has_room { Ok(()) } else { Err(CommandError::TooLarge) }
}

/// The key of a set, and those of the arguments, each once, for which `matters` holds.
fn change<'a>(
    cx: &mut Context<'_>,
    args: Arguments<'a>,
    matters: impl Fn(&Members, &[u8]) -> bool,
) -> Result<(Vec<u8>, Vec<&'a [u8]>), CommandError> {
    let key = cx.key_to_change(args.at(1))?;
    let empty = Members::default();
    let members = match cx.collection(&key, Kind::Set)? {
        Some(Value::Set(members)) => &***members,
        _ => &empty,
    };
    let mut chosen = IndexSet::<&[u8], RandomState>::default();
    chosen.extend(args.from(2).filter(|member| matters(members, member)));
    Ok((key, chosen.into_iter().collect()))
}

pub(super) fn smembers(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    with_all_members(cx, args.at(1), |members, _| {
        reply.set(members.len());
        for member in members {
            reply.bulk(member);
        }
    })
}

pub(super) fn scard(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_members(cx, args.at(1), |members| reply.count(members.len()))
}

pub(super) fn sismember(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    with_members(cx, args.at(1), |members| reply.flag(members.contains(args.at(2))))
}

pub(super) fn smismember(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    with_members(cx, args.at(1), |members| {
        reply.array(args.len() - 2);
        args.from(2).for_each(|member| reply.flag(members.contains(member)));
    })
}

pub(super) fn smove(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let member = args.at(3);
    let source = cx.key_to_change(args.at(1))?;
    let target = cx.key_to_change(args.at(2))?;
    if cx.collection(&source, Kind::Set)?.is_none() {
        reply.flag(false);
        return Ok(());
    }
    cx.collection(&target, Kind::Set)?;
    let moved = with_members(cx, args.at(1), |members| members.contains(member))?;
    if moved && source != target {
        let is_new = with_members(cx, args.at(2), |members| !members.contains(member))?;
        if is_new {
            expect_room(cx, &target, &[member])?;
        }
        cx.apply(Op::RemoveMembers(&source, vec![member]))?;
        if is_new {
            cx.apply(Op::AddMembers(&target, vec![member]))?;
        }
    }
    reply.flag(moved);
    Ok(())
}

pub(super) fn spop(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = args.get(2).map(|count| integer(count).ok().filter(|count| *count >= 0));
    if count == Some(None) {
        return Err(CommandError::other("ERR value is out of range, must be positive"));
    }
    let count = count.flatten();
    let key = cx.key_to_change(args.at(1))?;
    cx.collection(&key, Kind::Set)?;
    let mut random = cx.client.random();
    let work = cx.store.work().clone();
    let popped: Vec<Bytes> = with_members(cx, args.at(1), |members| {
        let picks = Picks::new(members.len(), count.unwrap_or(-1), &mut random, &work)?;
        work.spend(Task::Copy, picks.remaining())?;
        Ok::<_, TooMuch>(picks.filter_map(|index| members.get_index(index).cloned()).collect())
    })??;
    if !popped.is_empty() {
        cx.apply(Op::RemoveMembers(&key, popped.iter().map(|member| &**member).collect()))?;
    }
    if count.is_none() {
        reply.bulk_or_null(popped.first().map(|member| &**member));
    } else {
        reply.set(popped.len());
        for member in &popped {
            reply.bulk(member);
        }
    }
    Ok(())
}

pub(super) fn srandmember(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = args.get(2).map(count_to_pick).transpose()?;
    let mut random = cx.client.random();
    let work = cx.store.work().clone();
    with_members(cx, args.at(1), |members| {
        let mut picks = Picks::new(members.len(), count.unwrap_or(-1), &mut random, &work)?;
        if count.is_none() {
            let picked = picks.next().and_then(|index| members.get_index(index));
            reply.bulk_or_null(picked.map(|member| &**member));
            return Ok(());
        }
        reply.array(picks.remaining());
        while !reply.is_too_large()
            && let Some(member) = picks.next().and_then(|index| members.get_index(index))
        {
            reply.bulk(member);
        }
        Ok::<_, TooMuch>(())
    })??;
    Ok(())
}

/// How many are to be picked at random: different ones, or so many less than none of which some may
/// be the same.
pub(super) fn count_to_pick(text: &[u8]) -> Result<i64, CommandError> {
    let count = integer(text)?;
    if count == i64::MIN {
        let most = i64::MAX;
        return Err(CommandError::Other(format!(
            "ERR value is out of range, value must between -{most} and {most}"
        )));
    }
    Ok(count)
}

/// Indexes picked at random, one after the other: with repetition there may be any number of them.
pub(super) struct Picks<'a> {
    length: usize,
    left: u64,
    /// Those that are still to be had; `None` with repetition, and when it makes no difference.
    different: Option<Vec<usize>>,
    random: &'a mut u64,
}

impl<'a> Picks<'a> {
    /// Picks below `length`.
    pub(super) fn new(
        length: usize,
        count: i64,
        random: &'a mut u64,
        work: &Work,
    ) -> Result<Self, TooMuch> {
        let mut left = if length == 0 { 0 } else { count.unsigned_abs() };
        if count > 0 {
            left = left.min(length as u64);
        }
        let mut picks = Self { length, left, different: None, random };
        work.spend(Task::Read, picks.remaining())?;
        if count > 1 {
            work.note(Task::Compare, length);
            picks.different = Some((0..length).collect());
        }
        Ok(picks)
    }

    /// How many there are to come.
    pub(super) fn remaining(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }
}

impl Iterator for Picks<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let random = next_random(self.random);
        let Some(indexes) = &mut self.different else {
            return Some((random % self.length as u64) as usize);
        };
        // The one that is taken has the last one come to its place.
        let other = (random % indexes.len() as u64) as usize;
        Some(indexes.swap_remove(other))
    }
}

/// Splitmix64: even enough to pick a member with, and never meant for secrets.
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[derive(Clone, Copy)]
enum Combination {
    Intersection,
    Union,
    Difference,
}

/// Combines sets in time with their sizes together, however often one is named and in whatever order, and
/// no more than a request may look at.
fn combine<'a>(
    cx: &mut Context<'_>,
    names: impl Iterator<Item = &'a [u8]>,
    how: Combination,
) -> Result<Members, CommandError> {
    let mut result: Option<Members> = None;
    let mut seen = HashSet::new();
    let work = cx.store.work().clone();
    for (index, name) in names.enumerate() {
        // Once is as good as many times; the first may be taken from itself.
        if index > 0 && !seen.insert(name) {
            continue;
        }
        work.spend(Task::Find, 1)?;
        with_members(cx, name, |members| {
            let looked_at = match (&result, how) {
                (None, _) | (_, Combination::Union) => members.len(),
                (Some(result), _) => members.len().min(result.len()),
            };
            work.spend(Task::Copy, looked_at)?;
            match (&mut result, how) {
                (None, _) => result = Some(members.clone()),
                (Some(result), Combination::Intersection) if members.len() < result.len() => {
                    *result = members.iter().filter(|m| result.contains(*m)).cloned().collect();
                }
                (Some(result), Combination::Intersection) => result.retain(|m| members.contains(m)),
                (Some(result), Combination::Union) => result.extend(members.iter().cloned()),
                (Some(result), Combination::Difference) if members.len() < result.len() => {
                    for member in members {
                        result.swap_remove(member);
                    }
                }
                (Some(result), Combination::Difference) => result.retain(|m| !members.contains(m)),
            }
            Ok::<_, TooMuch>(())
        })??;
    }
    Ok(result.unwrap_or_default())
}

fn show(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
    how: Combination,
) -> Outcome {
    let members = combine(cx, args.from(1), how)?;
    reply.set(members.len());
    for member in &members {
        reply.bulk(member);
    }
    Ok(())
}

fn store(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
    how: Combination,
) -> Outcome {
    let members = combine(cx, args.from(2), how)?;
    let key = cx.key_to_change(args.at(1))?;
    let count = members.len();
    if count > 0 {
        let value = Value::Set(Box::new(members.into()));
        if !value.is_of_legal_size() {
            return Err(CommandError::TooLarge);
        }
        cx.apply(Op::Put(&key, Entry { expires: 0, value }))?;
    } else if cx.kind(&key)?.is_some() {
        cx.apply(Op::Remove(&key))?;
    }
    cx.done(key);
    reply.count(count);
    Ok(())
}

pub(super) fn sinter(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    show(cx, args, reply, Combination::Intersection)
}

pub(super) fn sunion(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    show(cx, args, reply, Combination::Union)
}

pub(super) fn sdiff(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    show(cx, args, reply, Combination::Difference)
}

pub(super) fn sinterstore(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    store(cx, args, reply, Combination::Intersection)
}

pub(super) fn sunionstore(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    store(cx, args, reply, Combination::Union)
}

pub(super) fn sdiffstore(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    store(cx, args, reply, Combination::Difference)
}

pub(super) fn sintercard(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let keys = integer(args.at(1))
        .ok()
        .filter(|keys| *keys > 0)
        .and_then(|keys| usize::try_from(keys).ok())
        .ok_or_else(|| CommandError::other("ERR numkeys should be greater than 0"))?;
    if keys > args.len() - 2 {
        return Err(CommandError::other("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = 0;
    let mut rest = args.from(2 + keys);
    while let Some(word) = rest.next() {
        let value = rest.next().filter(|_| is(word, "LIMIT")).ok_or(CommandError::Syntax)?;
        limit = integer(value)
            .ok()
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or_else(|| CommandError::other("ERR LIMIT can't be negative"))?;
    }
    let count = combine(cx, args.from(2).take(keys), Combination::Intersection)?.len();
    reply.count(if limit == 0 { count } else { count.min(limit) });
    Ok(())
}
