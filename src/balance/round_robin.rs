//! Round-robin: each in turn.
//!
//! The turn is one number that all threads of the front share, so the requests of the whole front
//! go round, whichever threads they arrive on. It counts over the servers that can be picked, not
//! over all: a server that is out does not give its turns to its neighbour alone.

use super::draw::draw;
use super::key;

/// The one of `candidates` whose turn it is. When that one is not `usable`, one of the others takes
/// over, each time another: its neighbour alone would get twice its share.
pub fn pick(turn: usize, candidates: &[u16], usable: &[bool]) -> Option<usize> {
    let first = usize::from(candidates[turn.checked_rem(candidates.len())?]);
    if usable[first] {
        return Some(first);
    }
    draw(candidates, key::mix(turn as u64), |i| usable[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_whatever_is_missing() {
        let candidates = [0, 2, 3];
        let all = [true; 4];
        let picks: Vec<_> = (0..6).filter_map(|t| pick(t, &candidates, &all)).collect();
        assert_eq!(picks, [0, 2, 3, 0, 2, 3]);
        assert_eq!(pick(1, &candidates, &[true, true, false, false]), Some(0));
        let mut counts = [0_u32; 4];
        for turn in 0..3_000 {
            counts[pick(turn, &candidates, &[true, true, false, true]).unwrap()] += 1;
        }
        assert!(counts[0].abs_diff(1_500) < 250 && counts[3].abs_diff(1_500) < 250, "{counts:?}");
        assert_eq!(pick(5, &candidates, &[false; 4]), None);
        assert_eq!(pick(5, &[], &[]), None);
    }

    #[test]
    fn the_counter_may_overflow() {
        assert_eq!(pick(usize::MAX, &[0, 1], &[true; 2]), Some(1));
        assert_eq!(pick(usize::MAX.wrapping_add(1), &[0, 1], &[true; 2]), Some(0));
    }
}
