//! Walking over keys, fields and members.

use super::super::protocol::{Arguments, Reply};
use super::super::store::key;
use super::super::store::value::Kind;
use super::super::store::{Task, Work};
use super::glob::Matching;
use super::number::integer;
use super::{CommandError, Context, Outcome, is};

/// The options of the `SCAN` family.
struct Options<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    count: usize,
    kind: Option<&'a [u8]>,
}

/// Elements of a collection that are returned at once whatever `COUNT` says: below this size Redis
/// too gives all.
const SMALL: usize = 128;
/// Keys that one `SCAN` looks at, at most, so that no client can make the others wait long.
const MOST: usize = 10_000;

fn options(args: Arguments<'_>, at: usize, with_kind: bool) -> Result<Options<'_>, CommandError> {
    let cursor = std::str::from_utf8(args.at(at))
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(CommandError::Cursor)?;
    let mut options = Options { cursor, pattern: None, count: 10, kind: None };
    let mut rest = args.from(at + 1);
    while let Some(word) = rest.next() {
        let value = rest.next().ok_or(CommandError::Syntax)?;
        if is(word, "MATCH") {
            options.pattern = Some(value);
        } else if is(word, "COUNT") {
            let count = integer(value)?;
            options.count =
                usize::try_from(count).ok().filter(|n| *n > 0).ok_or(CommandError::Syntax)?;
        } else if with_kind && is(word, "TYPE") {
            options.kind = Some(value);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    options.count = options.count.min(MOST);
    Ok(options)
}

impl Options<'_> {
    /// Leaves the names that match.
    fn choose<'n>(&self, names: Vec<&'n [u8]>, work: &Work) -> Result<Vec<&'n [u8]>, CommandError> {
        let Some(pattern) = self.pattern else { return Ok(names) };
        choose(&mut Matching::new(work), pattern, names)
    }
}

/// Leaves the names that match.
fn choose<'n>(
    request: &mut Matching<'_>,
    pattern: &[u8],
    names: impl IntoIterator<Item = &'n [u8]>,
) -> Result<Vec<&'n [u8]>, CommandError> {
    let mut chosen = Vec::new();
    for name in names {
        if request.matches(pattern, name)? {
            chosen.push(name);
        }
    }
    Ok(chosen)
}

pub(super) fn scan(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = options(args, 1, true)?;
    let (keys, next) = if options.cursor >= key::PLACES {
        (Vec::new(), 0) // beyond all places: a cursor of another server, at its end
    } else {
        cx.store.scan(cx.client.space, options.cursor, options.count, cx.now)?
    };
    let wanted = |kind: Kind| options.kind.is_none_or(|name| is(name, kind.name()));
    let names: Vec<&[u8]> =
        keys.iter().filter(|found| wanted(found.kind)).map(|found| key::name(&found.key)).collect();
    let names = options.choose(names, cx.store.work())?;
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(names.len());
    for name in &names {
        reply.bulk(name);
    }
    Ok(())
}

pub(super) fn keys(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (mut names, mut place) = (Vec::new(), 0);
    let mut request = Matching::new(cx.store.work());
    loop {
        let (keys, next) = cx.store.scan(cx.client.space, place, MOST, cx.now)?;
        cx.store.work().spend(Task::Visit, 0)?;
        let found = keys.iter().map(|found| key::name(&found.key));
        names.extend(choose(&mut request, args.at(1), found)?.into_iter().map(<[u8]>::to_vec));
        place = next;
        if place == 0 {
            break;
        }
    }
    reply.array(names.len());
    for name in &names {
        reply.bulk(name);
    }
    Ok(())
}

pub(super) fn randomkey(
    cx: &mut Context<'_>,
    _args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let place = cx.client.random() % key::PLACES;
    // From a random place on, or from the start when nothing lies behind it.
    for start in [place, 0] {
        let (keys, _) = cx.store.scan(cx.client.space, start, 16, cx.now)?;
        if let Some(found) = keys.first() {
            reply.bulk(key::name(&found.key));
            return Ok(());
        }
    }
    reply.null();
    Ok(())
}

pub(super) fn hscan(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = options(args, 2, false)?;
    super::hashes::with_all_fields(cx, args.at(1), |fields, work| {
        let (looked_at, next) = window(fields.keys().map(|field| &**field), &options);
        let chosen = options.choose(looked_at, work)?;
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.array(chosen.len() * 2);
        for field in chosen {
            reply.bulk(field);
            reply.bulk(fields.get(field).map_or(&[][..], |value| value));
        }
        Ok(())
    })?
}

pub(super) fn sscan(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = options(args, 2, false)?;
    super::sets::with_all_members(cx, args.at(1), |members, work| {
        let (looked_at, next) = window(members.iter().map(|member| &**member), &options);
        let chosen = options.choose(looked_at, work)?;
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.array(chosen.len());
        for member in &chosen {
            reply.bulk(member);
        }
        Ok(())
    })?
}

/// The elements that a scan at this cursor looks at, and the cursor after them. As with keys, the
/// cursor is a place, which no change of the collection moves.
fn window<'a>(
    elements: impl ExactSizeIterator<Item = &'a [u8]>,
    options: &Options<'_>,
) -> (Vec<&'a [u8]>, u64) {
    let small = elements.len() <= SMALL;
    if small && options.cursor == 0 {
        return (elements.collect(), 0);
    }
    let mut placed: Vec<(u64, &[u8])> = elements
        .map(|element| (key::place(element), element))
        .filter(|(place, _)| *place >= options.cursor)
        .collect();
    let count = options.count;
    // One that was larger when the walk began gives its rest at once: what lies before the cursor
    // was given then.
    if !small && placed.len() > count {
        placed.select_nth_unstable_by_key(count, |(place, _)| *place);
        let next = placed[count].0;
        if placed[..count].iter().any(|(place, _)| *place < next) {
            placed.retain(|(place, _)| *place < next);
            return (placed.into_iter().map(|(_, element)| element).collect(), next);
        }
    }
    (placed.into_iter().map(|(_, element)| element).collect(), 0)
}
