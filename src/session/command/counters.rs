//! Strings that are numbers.

use std::borrow::Cow;

use super::super::protocol::{Arguments, Reply};
use super::long_double::{LongDouble, Parsed};
use super::number::integer;
use super::strings::edit_or_begin;
use super::{CommandError, Context, Outcome};

pub(super) fn incr(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(cx, args.at(1), 1, reply)
}

pub(super) fn decr(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(cx, args.at(1), -1, reply)
}

pub(super) fn incrby(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(cx, args.at(1), integer(args.at(2))?, reply)
}

pub(super) fn decrby(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let amount = integer(args.at(2))?
        .checked_neg()
        .ok_or_else(|| CommandError::other("ERR decrement would overflow"))?;
    add(cx, args.at(1), amount, reply)
}

pub(super) fn incrbyfloat(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let mut shown = Vec::new();
    edit_or_begin(cx, args.at(1), b"0", |value| {
        let sum = float_sum(value, args.at(2))?;
        *value = sum.into_bytes();
        shown.clone_from(value);
        Ok(true)
    })?;
    reply.bulk(&shown);
    Ok(())
}

/// The sum for `INCRBYFLOAT`.
fn float_sum(before: &[u8], amount: &[u8]) -> Result<String, CommandError> {
    let not_a_float = || CommandError::other("ERR value is not a valid float");
    let before = LongDouble::parse(before).ok_or_else(not_a_float)?;
    let amount = LongDouble::parse(amount).ok_or_else(not_a_float)?;
    show_sum(before, amount)
}

/// The sum for `HINCRBYFLOAT`, which words its errors differently. What is there is asked for after the amount
/// was looked at.
pub(super) fn field_float_sum<'a>(
    amount: &[u8],
    before: impl FnOnce() -> Result<Cow<'a, [u8]>, CommandError>,
) -> Result<String, CommandError> {
    let amount = LongDouble::parse(amount)
        .ok_or_else(|| CommandError::other("ERR value is not a valid float"))?;
    if matches!(amount, Parsed::Infinite(_)) {
        return Err(CommandError::other("ERR value is NaN or Infinity"));
    }
    let before = LongDouble::parse(&before()?)
        .ok_or_else(|| CommandError::other("ERR hash value is not a float"))?;
    show_sum(before, amount)
}

fn show_sum(a: Parsed, b: Parsed) -> Result<String, CommandError> {
    match (a, b) {
        (Parsed::Finite(a), Parsed::Finite(b)) => a.add(b),
        _ => None,
    }
    .map(LongDouble::show)
    .ok_or_else(|| CommandError::other("ERR increment would produce NaN or Infinity"))
}

fn add(cx: &mut Context<'_>, name: &[u8], amount: i64, reply: &mut Reply<'_>) -> Outcome {
    let mut sum = 0;
    edit_or_begin(cx, name, b"0", |value| {
        sum = integer(value)?
            .checked_add(amount)
            .ok_or_else(|| CommandError::other("ERR increment or decrement would overflow"))?;
        value.clear();
        value.extend_from_slice(itoa::Buffer::new().format(sum).as_bytes());
        Ok(true)
    })?;
    reply.integer(sum);
    Ok(())
}
