//! Copying sessions from one server into another while apps use the first.
//!
//! A pass walks over the keys of the source. What it copied it remembers by fingerprints, so that the
//! next pass copies only what has changed since, and removes on the target what the source has
//! removed. Nothing is remembered from run to run: the rule decides what becomes
//! of keys that the target has already, so a run may be broken off and begun again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::client::{Client, RemoteError, Value};
use super::item::{self, Item};
use super::target::Target;

/// What becomes of a key that the target has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The one that expires later is newer, since using a session prolongs it; of those that expire
    /// together the source's.
    Newer,
    /// The target's.
    Missing,
}

/// A copy in progress.
#[derive(Debug)]
pub(crate) struct Copy {
    rule: Rule,
    hasher: RandomState,
    /// Every key that this run has copied, by the fingerprint of its name.
    copied: HashMap<u64, CopiedKey>,
    pass: u64,
}

#[derive(Debug)]
struct CopiedKey {
    content: u64,
    /// The end of time when it never expires.
    expires: u64,
    /// The pass that met it last.
    seen: u64,
}

/// What one pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Keys that the source has.
    pub seen: u64,
    /// Keys written to the target.
    pub copied: u64,
    /// Keys of the target that were newer, or there already.
    pub kept: u64,
    /// Keys removed from the target because they are gone from the source.
    pub removed: u64,
    /// Keys of a kind that is not copied: lists, sorted sets, streams.
    pub unsupported: u64,
}

/// Keys that one round trip is about.
const BATCH: usize = 200;
/// Times that are nearer than this are the same: they are computed from what is left of them.
const SAME: u64 = 1500;

impl Copy {
    /// Nothing is copied yet.
    pub(crate) fn new(rule: Rule) -> Self {
        Self { rule, hasher: RandomState::new(), copied: HashMap::new(), pass: 0 }
    }

    /// Walks over all keys once.
    pub(crate) fn pass(&mut self, from: &mut Client, to: &mut Target) -> Result<Pass, RemoteError> {
        self.pass += 1;
        let mut pass = Pass::default();
        each_batch(from, |from, keys| self.batch(from, to, keys, &mut pass))?;
        self.remove_what_is_gone(from, to, &mut pass)?;
        Ok(pass)
    }

    fn batch(
        &mut self,
        from: &mut Client,
        to: &mut Target,
        keys: &[Vec<u8>],
        pass: &mut Pass,
    ) -> Result<(), RemoteError> {
        let (mut items, unsupported) = item::read(from, keys)?;
        pass.seen += keys.len() as u64;
        pass.unsupported += unsupported;
        items.retain(|item| {
            let (name, content) = self.fingerprints(item);
            self.copied.get_mut(&name).is_none_or(|known| {
                known.seen = self.pass;
                known.content != content || known.expires.abs_diff(expiry(item)) > SAME
            })
        });
        let theirs = expiries(to, &items)?;
        let total = items.len();
        let mut theirs = theirs.into_iter();
        items.retain(|item| {
            let expires = theirs.next().flatten();
            match (self.rule, expires) {
                (_, None) => true,
                (Rule::Missing, Some(_)) => false,
                (Rule::Newer, Some(theirs)) => theirs <= expiry(item).saturating_add(SAME),
            }
        });
        pass.kept += (total - items.len()) as u64;
        let mut parts: Vec<Vec<Item>> = to.nodes().iter().map(|_| Vec::new()).collect();
        for item in items {
            parts[to.place(&item.key.0)].push(item);
        }
        for (node, items) in to.nodes().iter_mut().zip(parts) {
            pass.copied += item::write(node, &items)?;
            for item in &items {
                let (name, content) = self.fingerprints(item);
                let known = CopiedKey { content, expires: expiry(item), seen: self.pass };
                self.copied.insert(name, known);
            }
        }
        Ok(())
    }

    /// Removes what this run copied and this pass has not met: it was removed from the source, and
    /// who has logged out must not be logged in again by a copy.
    fn remove_what_is_gone(
        &mut self,
        from: &mut Client,
        to: &mut Target,
        pass: &mut Pass,
    ) -> Result<(), RemoteError> {
        let current = self.pass;
        if self.copied.values().all(|known| known.seen == current) {
            return Ok(());
        }
        let Self { copied, hasher, .. } = self;
        for node in to.nodes() {
            each_batch(node, |to, keys| {
                let known = |key: &Vec<u8>| copied.get(&hasher.hash_one(key.as_slice()));
                let gone = keys.iter().filter_map(|key| Some((key, known(key)?)));
                let gone: Vec<_> = gone.filter(|(_, known)| known.seen != current).collect();
                // A key that was made while the pass went on may not have been met; and whoever the target
                // has served since is logged in there.
                for (key, _) in &gone {
                    from.queue(&[&b"EXISTS"[..], key]);
                    to.queue(&[&b"PTTL"[..], key]);
                }
                let (there, theirs) = (from.replies()?, times(to)?);
                for (((key, known), there), theirs) in gone.iter().zip(&there).zip(theirs) {
                    let untouched =
                        theirs.is_some_and(|at| at <= known.expires.saturating_add(SAME));
                    if *there == Value::Integer(0) && untouched {
                        to.queue(&[&b"DEL"[..], key]);
                    }
                }
                let removed = to.replies()?.into_iter().filter(|reply| *reply == Value::Integer(1));
                pass.removed += removed.count() as u64;
                Ok(())
            })?;
        }
        copied.retain(|_, known| known.seen == current);
        Ok(())
    }

    fn fingerprints(&self, item: &Item) -> (u64, u64) {
        (self.hasher.hash_one(item.key.0.as_slice()), self.hasher.hash_one(&item.content))
    }
}

/// When it expires; the end of time when never.
fn expiry(item: &Item) -> u64 {
    item.expires.unwrap_or(u64::MAX)
}

/// Calls `act` with the keys of a database, some at a time, all of them at least once.
pub(crate) fn each_batch(
    client: &mut Client,
    mut act: impl FnMut(&mut Client, &[Vec<u8>]) -> Result<(), RemoteError>,
) -> Result<(), RemoteError> {
    let mut cursor = b"0".to_vec();
    let count = BATCH.to_string();
    loop {
        let reply = client.call(&[b"SCAN", &cursor[..], b"COUNT", count.as_bytes()])?;
        let (next, keys) = match &reply {
            Value::Array(parts) => match parts.as_slice() {
                [Value::Bulk(next), Value::Array(keys)] => (next.clone(), keys),
                _ => return Err(client.unexpected(&reply)),
            },
            _ => return Err(client.unexpected(&reply)),
        };
        let keys: Vec<Vec<u8>> = keys
            .iter()
            .filter_map(|key| if let Value::Bulk(key) = key { Some(key.clone()) } else { None })
            .collect();
        if !keys.is_empty() {
            act(client, &keys)?;
        }
        if next == b"0" {
            return Ok(());
        }
        cursor = next;
    }
}

/// When each of these keys expires there: `None` when it is not there, the end of time when never.
fn expiries(target: &mut Target, items: &[Item]) -> Result<Vec<Option<u64>>, RemoteError> {
    let mut places = Vec::with_capacity(items.len());
    for item in items {
        let place = target.place(&item.key.0);
        target.nodes()[place].queue(&[&b"PTTL"[..], &item.key.0]);
        places.push(place);
    }
    let replies: Result<Vec<_>, _> = target.nodes().iter_mut().map(times).collect();
    let mut replies: Vec<_> = replies?.into_iter().map(Vec::into_iter).collect();
    Ok(places.into_iter().map(|place| replies[place].next().flatten()).collect())
}

/// The replies to all PTTL that are queued, as times.
fn times(client: &mut Client) -> Result<Vec<Option<u64>>, RemoteError> {
    let now = crate::session::now();
    let replies = client.replies()?;
    replies
        .iter()
        .map(|reply| match reply {
            Value::Integer(-2) => Ok(None),
            Value::Integer(-1) => Ok(Some(u64::MAX)),
            Value::Integer(left) => Ok(Some(now.saturating_add(left.unsigned_abs()))),
            other => Err(client.unexpected(other)),
        })
        .collect()
}
