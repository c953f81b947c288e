//! Wrong passwords: each makes the next one from the same place wait longer for its answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Who has sent wrong passwords lately.
#[derive(Debug, Default)]
pub struct Guesses {
    by: HashMap<IpAddr, Guess>,
    total: u64,
}

#[derive(Debug, Clone, Copy)]
struct Guess {
    count: u32,
    /// Milliseconds since 1970.
    last: u64,
}

/// The answer to the first one is put off by this, to each further one by twice as much,
const FIRST: Duration = Duration::from_millis(50);
/// but by no more than this.
const LONGEST: Duration = Duration::from_secs(10);
/// After so many milliseconds without one an address is as any other.
const MEMORY: u64 = 10 * 60 * 1000;
/// Addresses that are remembered.
const MOST: usize = 4096;

impl Guesses {
    /// Takes note of one. Returns how many there were lately from there with this one, and how long
    /// its answer is put off.
    pub(super) fn wrong(&mut self, from: IpAddr, now: u64) -> (u32, Duration) {
        self.total += 1;
        let from = place(from);
        if self.by.len() >= MOST && !self.by.contains_key(&from) {
            self.make_room(now);
        }
        let guess = self.by.entry(from).or_insert(Guess { count: 0, last: now });
        if is_over(*guess, now) {
            guess.count = 0;
        }
        *guess = Guess { count: guess.count.saturating_add(1), last: now };
        let factor = 1_u32.checked_shl(guess.count - 1).unwrap_or(u32::MAX);
        (guess.count, FIRST.saturating_mul(factor).min(LONGEST))
    }

    /// All since the start.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    fn make_room(&mut self, now: u64) {
        self.by.retain(|_, guess| !is_over(*guess, now));
        if self.by.len() >= MOST
            && let Some(oldest) = self.by.iter().min_by_key(|(_, guess)| guess.last)
        {
            let oldest = *oldest.0;
            self.by.remove(&oldest);
        }
    }
}

fn is_over(guess: Guess, now: u64) -> bool {
    now.saturating_sub(guess.last) > MEMORY
}

/// What one party has at least: an address, or a network of IPv6.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_one_waits_longer_than_the_one_before_and_after_a_while_none() {
        let mut guesses = Guesses::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let waits: Vec<u64> =
            (0..12).map(|at| guesses.wrong(one, at).1.as_millis() as u64).collect();
        assert_eq!(waits[..5], [50, 100, 200, 400, 800]);
        assert_eq!(waits[8..], [10_000; 4]);
        assert_eq!(guesses.wrong(other, 20), (1, FIRST), "another address");
        assert_eq!(guesses.wrong(one, 11 + 600_000).0, 13, "just not forgotten");
        assert_eq!(guesses.wrong(one, 11 + 600_000 + 600_001), (1, FIRST));
        assert_eq!(guesses.total(), 15);
        for _ in 0..100 {
            assert!(guesses.wrong(one, 30 + 2 * MEMORY).1 <= LONGEST);
        }
    }

    #[test]
    fn where_no_more_can_be_remembered_the_oldest_is_forgotten_for_a_new_one() {
        let mut guesses = Guesses::default();
        let address = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        let mut times = |number: usize, now| guesses.wrong(address(number), now).0;
        for number in 0..4096 {
            assert_eq!(times(number, number as u64), 1);
        }
        assert_eq!([times(4095, 5000), times(0, 5001)], [2, 2], "no room is needed");
        assert_eq!(times(9999, 5002), 1);
        assert_eq!([times(2, 5003), times(1, 5004)], [2, 1], "that was the oldest");
    }

    #[test]
    fn a_network_of_ipv6_is_one_place_and_memory_is_bounded() {
        let mut guesses = Guesses::default();
        let host = |network: u128, host: u128| {
            IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | network << 64 | host))
        };
        assert_eq!(guesses.wrong(host(1, 1), 0).0, 1);
        assert_eq!(guesses.wrong(host(1, 2), 0).0, 2);
        assert_eq!(guesses.wrong(host(2, 2), 0).0, 1);
        for network in 0..MOST as u128 + 100 {
            guesses.wrong(host(network, 1), network as u64);
        }
        assert!(guesses.by.len() <= MOST);
    }
}
