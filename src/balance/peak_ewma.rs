//! Peak EWMA: of two servers drawn at random, the one that is expected to answer sooner.
//!
//! What a server costs is its latency times the requests that it would then have in flight. Drawing
//! two instead of comparing all keeps the threads of the front (and other fronts) from all running
//! to the same best server at once, and takes the same time however many servers there are. For its
//! latency, see [`super::latency`].

use super::key;

/// The cheaper of two different ones of `candidates`, drawn by `random`, that are `usable`.
pub fn pick(
    candidates: &[u16],
    usable: &[bool],
    random: u64,
    cost: impl Fn(usize) -> f32,
) -> Option<usize> {
    let count = candidates.len() as u64;
    if count == 0 {
        return None;
    }
    let first = draw(candidates, usable, key::scale(random, count) as usize, None)?;
    let offset = key::scale(key::mix(random), count) as usize;
    let Some(second) = draw(candidates, usable, offset, Some(first)) else {
        return Some(first);
    };
    Some(if cost(second) < cost(first) { second } else { first })
}

/// The first usable candidate from this place on, other than `not`.
fn draw(candidates: &[u16], usable: &[bool], from: usize, not: Option<usize>) -> Option<usize> {
    let (before, after) = candidates.split_at(from);
    after.iter().chain(before).map(|&i| usize::from(i)).find(|&i| usable[i] && Some(i) != not)
}
