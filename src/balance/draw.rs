//! Drawing one of those that fit, each as likely as the next.

use super::key;

/// Draws before looking at all in a row.
const DRAWS: usize = 8;

/// One of `candidates` that `fits`, drawn by `random`.
///
/// Going on from a candidate that does not fit to its neighbour would give the neighbour twice its
/// share, so another one is drawn. Only when hardly anybody fits it comes to that.
pub(super) fn draw(
    candidates: &[u16],
    mut random: u64,
    fits: impl Fn(usize) -> bool,
) -> Option<usize> {
    let place = |random| key::scale(random, candidates.len() as u64) as usize;
    if candidates.is_empty() {
        return None;
    }
    for _ in 0..DRAWS {
        let drawn = usize::from(candidates[place(random)]);
        if fits(drawn) {
            return Some(drawn);
        }
        random = key::mix(random.wrapping_add(1));
    }
    let (before, after) = candidates.split_at(place(random));
    after.iter().chain(before).map(|&i| usize::from(i)).find(|&i| fits(i))
}
