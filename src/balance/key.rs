//! One 64-bit hash for everything that must come out the same on every front and in every release.
//!
//! The standard library's hasher promises neither. This is FNV-1a, which takes bytes one by one,
//! and a final mix, without which its upper bits would be poor for short keys.

/// Salt of the hash that finds a server.
pub const SERVER: u64 = 0x5e17_e700_0000_0001;
/// Salt of the hash that finds a split's share. Another one, so that the clients of one share are
/// spread over all servers, not over those that the same hash would lead to.
pub const SPLIT: u64 = 0x5b11_7000_0000_0002;

/// The hash of these bytes.
pub fn hash(salt: u64, bytes: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ salt;
    for &byte in bytes {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(state)
}

/// Spreads a number's entropy over all its bits (the finalizer of SplitMix64).
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps a hash to `0..below` without the bias of a remainder.
pub fn scale(hash: u64, below: u64) -> u64 {
    ((u128::from(hash) * u128::from(below)) >> 64) as u64
}

/// A sequence of numbers that look random and replay from their seed (SplitMix64). Good for
/// spreading load, useless for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_never_change() {
        // Written down once; a change would move every client of every user.
        assert_eq!(hash(0, b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash(0, b"a"), mix(0xaf63_dc4c_8601_ec8c)); // FNV-1a's published vector
        assert_eq!(hash(SERVER, b"server-1"), 0x77f3_810b_3b26_60e2);
        assert_eq!(hash(SPLIT, b"user@example.com"), 0x92f6_9dcf_60a5_b6a0);
        let mut random = Random::new(0); // SplitMix64's published sequence
        for number in [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f] {
            assert_eq!(random.draw(), number);
        }
    }

    #[test]
    fn scaling_covers_the_whole_range() {
        assert_eq!(scale(0, 10), 0);
        assert_eq!(scale(u64::MAX, 10), 9);
        assert_eq!(scale(u64::MAX / 2 + 1, 10), 5);
    }
}
