//! Round-robin: each in turn.
//!
//! The turn is one number that all threads of the front share, so the requests of the whole front
//! go round, whichever threads they arrive on. It counts over the servers that can be picked, not
//! over all: a server that is out does not give its turns to its neighbour alone.

/// The first of `candidates` from this turn on that is `usable`.
pub fn pick(turn: usize, candidates: &[u16], usable: &[bool]) -> Option<usize> {
    let first = turn.checked_rem(candidates.len())?;
    let (before, after) = candidates.split_at(first);
    after.iter().chain(before).map(|&i| usize::from(i)).find(|&i| usable[i])
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
        assert_eq!(pick(5, &candidates, &[false; 4]), None);
        assert_eq!(pick(5, &[], &[]), None);
    }

    #[test]
    fn the_counter_may_overflow() {
        assert_eq!(pick(usize::MAX, &[0, 1], &[true; 2]), Some(1));
        assert_eq!(pick(usize::MAX.wrapping_add(1), &[0, 1], &[true; 2]), Some(0));
    }
}
