//! Chance that can be had again: the same seed, the same numbers.

/// A source of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The one of this number among all of a seed: what one draws is nothing to the others.
    pub(super) fn of(seed: u64, number: u64) -> Self {
        let mut random = Self(seed ^ number.wrapping_add(1).wrapping_mul(STEP));
        random.next();
        random
    }

    /// One of its own for each of several who draw at the same time.
    pub(super) fn part(&self, number: u64) -> Self {
        Self::of(self.0, number)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One from `first` to `last`.
    pub(super) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.next() % (last - first + 1)
    }

    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let last = all.len().checked_sub(1).expect("there is something to choose from");
        &all[usize::try_from(self.between(0, last as u64)).expect("it is an index")]
    }
}

#[test]
fn a_seed_is_the_same_numbers_again() {
    let draw = |seed, number| {
        let mut random = Random::of(seed, number);
        [random.between(3, 5), random.between(0, 1000), *random.one_of(&[7, 8, 9])]
    };
    assert_eq!(draw(1, 2), draw(1, 2));
    assert_ne!(draw(1, 2), draw(1, 3));
    assert_ne!(draw(1, 2), draw(2, 2));
    assert!((0..100).all(|number| (3..=5).contains(&draw(9, number)[0])));
}
