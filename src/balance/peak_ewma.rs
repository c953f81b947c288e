//! Peak EWMA: of two servers drawn at random, the one that is expected to answer sooner.
//!
//! What a server costs is its latency times the requests that it would then have in flight. Drawing
//! two instead of comparing all keeps the threads of the front (and other fronts) from all running
//! to the same best server at once, and takes the same time however many servers there are. For its
//! latency, see [`super::latency`].

use super::draw::draw;
use super::key;

/// The cheaper of two different ones of `candidates`, drawn by `random`, that are `usable`.
pub fn pick(
    candidates: &[u16],
    usable: &[bool],
    random: u64,
    cost: impl Fn(usize) -> f32,
) -> Option<usize> {
    let first = draw(candidates, random, |i| usable[i])?;
    let Some(second) = draw(candidates, key::mix(random), |i| usable[i] && i != first) else {
        return Some(first);
    };
    Some(if cost(second) < cost(first) { second } else { first })
}
