//! Keys whatever they hold, and their expiry.

use super::super::protocol::{Arguments, Reply};
use super::super::store::value::{Entry, is_expired};
use super::super::store::{Op, Task};
use super::number::integer;
use super::{CommandError, Context, Outcome, is};

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    /// Seconds since 1970.
    AtSeconds,
    /// Milliseconds since 1970.
    AtMilliseconds,
}

impl Unit {
    /// The unit that an option of `SET` or `GETEX` stands for.
    pub(super) fn of_option(word: &[u8]) -> Option<Self> {
        [
            ("EX", Self::Seconds),
            ("PX", Self::Milliseconds),
            ("EXAT", Self::AtSeconds),
            ("PXAT", Self::AtMilliseconds),
        ]
        .into_iter()
        .find_map(|(name, unit)| is(word, name).then_some(unit))
    }

    fn is_relative(self) -> bool {
        matches!(self, Self::Seconds | Self::Milliseconds)
    }

    /// Milliseconds since 1970; `None` when they cannot be counted.
    fn absolute(self, amount: i64, now: u64) -> Option<i64> {
        let in_seconds = matches!(self, Self::Seconds | Self::AtSeconds);
        let milliseconds = if in_seconds { amount.checked_mul(1000)? } else { amount };
        if self.is_relative() {
            milliseconds.checked_add(now.cast_signed())
        } else {
            Some(milliseconds)
        }
    }
}

/// The expiry that an argument of `SET` and its kin stands for: in the future, or at least
/// positive.
pub(super) fn expiry(
    text: &[u8],
    unit: Unit,
    now: u64,
    command: &str,
) -> Result<u64, CommandError> {
    let invalid = || CommandError::Other(format!("ERR invalid expire time in '{command}' command"));
    let amount = integer(text)?;
    if amount <= 0 {
        return Err(invalid());
    }
    let at = unit.absolute(amount, now).ok_or_else(invalid)?;
    u64::try_from(at).map_err(|_| invalid())
}

/// Gives an existing key an expiry; it is gone at once when that has passed.
pub(super) fn expire_at(cx: &mut Context<'_>, key: &[u8], expires: u64) -> Outcome {
    if is_expired(expires, cx.now) {
        cx.apply(Op::Remove(key))
    } else {
        cx.apply(Op::Expire(key, expires))
    }
}

pub(super) fn expire(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_expiry(cx, args, reply, Unit::Seconds, "expire")
}

pub(super) fn pexpire(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_expiry(cx, args, reply, Unit::Milliseconds, "pexpire")
}

pub(super) fn expireat(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    set_expiry(cx, args, reply, Unit::AtSeconds, "expireat")
}

pub(super) fn pexpireat(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    set_expiry(cx, args, reply, Unit::AtMilliseconds, "pexpireat")
}

/// The conditions of `EXPIRE`.
#[derive(Default)]
struct Conditions {
    none: bool,
    some: bool,
    greater: bool,
    less: bool,
}

fn set_expiry(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
    unit: Unit,
    command: &str,
) -> Outcome {
    let conditions = conditions(args)?;
    let amount = integer(args.at(2))?;
    let at = unit.absolute(amount, cx.now).ok_or_else(|| {
        CommandError::Other(format!("ERR invalid expire time in '{command}' command"))
    })?;
    let (key, before) = cx.key_with_expiry(args.at(1))?;
    let changes = match before {
        None => false,
        Some(before) => {
            // A key that never expires is later than every time, also than the last one that there is.
            let (never, before) = (before == 0, before.cast_signed());
            !(conditions.none && !never
                || conditions.some && never
                || conditions.greater && (never || at <= before)
                || conditions.less && !never && at >= before)
        }
    };
    if changes {
        // 0 stands for never: a time before 1970 is as past as its first millisecond.
        expire_at(cx, &key, u64::try_from(at).unwrap_or(1).max(1))?;
    }
    cx.done(key);
    reply.flag(changes);
    Ok(())
}

fn conditions(args: Arguments<'_>) -> Result<Conditions, CommandError> {
    let mut conditions = Conditions::default();
    for word in args.from(3) {
        let flag = match () {
            () if is(word, "NX") => &mut conditions.none,
            () if is(word, "XX") => &mut conditions.some,
            () if is(word, "GT") => &mut conditions.greater,
            () if is(word, "LT") => &mut conditions.less,
            () => {
                let word = String::from_utf8_lossy(word);
                return Err(CommandError::Other(format!("ERR Unsupported option {word}")));
            }
        };
        *flag = true;
    }
    if conditions.none && (conditions.some || conditions.greater || conditions.less) {
        return Err(CommandError::other(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if conditions.greater && conditions.less {
        return Err(CommandError::other(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(conditions)
}

pub(super) fn ttl(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    show_expiry(cx, args, reply, |expires, now| in_seconds(expires - now))
}

pub(super) fn pttl(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    show_expiry(cx, args, reply, |expires, now| expires - now)
}

/// Milliseconds as seconds, rounded; wide enough for the end of time.
fn in_seconds(milliseconds: i64) -> i64 {
    ((i128::from(milliseconds) + 500) / 1000) as i64
}

pub(super) fn expiretime(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    show_expiry(cx, args, reply, |expires, _| in_seconds(expires))
}

pub(super) fn pexpiretime(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    show_expiry(cx, args, reply, |expires, _| expires)
}

fn show_expiry(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
    show: fn(i64, i64) -> i64,
) -> Outcome {
    let now = cx.now.cast_signed();
    cx.read(args.at(1), |found| {
        reply.integer(match found.map(|found| found.expires()) {
            None => -2,
            Some(0) => -1,
            Some(expires) => show(expires.cast_signed(), now),
        });
        Ok(())
    })
}

pub(super) fn persist(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, expires) = cx.key_with_expiry(args.at(1))?;
    let expires = expires.is_some_and(|expires| expires != 0);
    if expires {
        cx.apply(Op::Expire(&key, 0))?;
    }
    cx.done(key);
    reply.flag(expires);
    Ok(())
}

pub(super) fn del(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut removed = 0;
    cx.find_all(args.from(1))?;
    for name in args.from(1) {
        let key = cx.key_to_change(name)?;
        if cx.kind(&key)?.is_some() {
            cx.apply(Op::Remove(&key))?;
            removed += 1;
        }
        cx.done(key);
    }
    reply.integer(removed);
    Ok(())
}

pub(super) fn exists(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut count = 0;
    cx.store.work().spend(Task::Find, args.len() - 1)?;
    for name in args.from(1) {
        cx.store.work().go_on(Task::Find)?;
        count += cx.read(name, |found| Ok(i64::from(found.is_some())))?;
    }
    reply.integer(count);
    Ok(())
}

pub(super) fn kind(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    cx.read(args.at(1), |found| {
        reply.simple(found.map_or("none", |found| found.kind().name()));
        Ok(())
    })
}

pub(super) fn rename(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    relocate(cx, args.at(1), args.at(2), false)?;
    reply.ok();
    Ok(())
}

pub(super) fn renamenx(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let renamed = relocate(cx, args.at(1), args.at(2), true)?;
    reply.flag(renamed);
    Ok(())
}

fn relocate(
    cx: &mut Context<'_>,
    from: &[u8],
    to: &[u8],
    only_new: bool,
) -> Result<bool, CommandError> {
    let source = cx.key_to_change(from)?;
    let target = cx.key_to_change(to)?;
    let entry = entry(cx, &source)?.ok_or_else(|| CommandError::other("ERR no such key"))?;
    if only_new && cx.kind(&target)?.is_some() {
        return Ok(false);
    }
    if source != target {
        cx.apply(Op::Put(&target, entry))?;
        cx.apply(Op::Remove(&source))?;
    }
    Ok(true)
}

/// A copy of an entry.
fn entry(cx: &Context<'_>, key: &[u8]) -> Result<Option<Entry>, CommandError> {
    let Some(found) = cx.store.find(key, cx.now)? else { return Ok(None) };
    cx.store.work().spend(Task::Copy, found.to_copy())?;
    Ok(Some(found.entry()?))
}

pub(super) fn copy(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut replace = false;
    let mut database = cx.client.database;
    let mut rest = args.from(3);
    while let Some(word) = rest.next() {
        if is(word, "REPLACE") {
            replace = true;
        } else if is(word, "DB") {
            let text = rest.next().ok_or(CommandError::Syntax)?;
            database = super::connection::database(text)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if database == cx.client.database && args.at(1) == args.at(2) {
        return Err(CommandError::other("ERR source and destination objects are the same"));
    }
    let source = cx.key_to_change(args.at(1))?;
    let Some(entry) = entry(cx, &source)? else {
        reply.flag(false);
        return Ok(());
    };
    let space = cx.store.define_space(cx.client.namespace(), database)?;
    let mut target = Vec::new();
    super::key::build(&mut target, space, args.at(2));
    cx.store.remove_if_expired(&target, cx.now)?;
    let copied = replace || cx.kind(&target)?.is_none();
    if copied {
        cx.apply(Op::Put(&target, entry))?;
    }
    reply.flag(copied);
    Ok(())
}
