//! Smooth weighted round-robin: each as often as its weight says, and as evenly spaced as can be.
//!
//! With weights 5, 1, 1 the picks are a a b a c a a, not a a a a a b c. In each round every
//! candidate's current weight grows by its effective weight, the largest is picked and loses the
//! round's total. A failure lowers the effective weight, each round restores one.
//!
//! Each thread of the front has a sequence of its own, begun at another place: nothing is shared,
//! so nothing is waited for. How far that can take the whole front from the exact shares: within
//! any stretch of one thread's requests a server's count differs from its share by less than 2
//! (tests hold it to that), so over N threads by less than 2 N, however long it goes on.

/// The largest weight: a thousand servers of it still add up within an `i32`.
pub const MAX_WEIGHT: u32 = 65_535;

/// Servers that are looked through at once.
const BLOCK: usize = 32;

/// The state of one sequence. Vectors of plain numbers side by side, so that a round over a
/// thousand servers is a few hundred vector instructions.
#[derive(Debug, Clone, Default)]
pub struct Smooth {
    weight: Vec<i32>,
    effective: Vec<i32>,
    current: Vec<i32>,
}

impl Smooth {
    /// A sequence at its start. A weight of 0 is never picked.
    pub fn new(weights: &[u32]) -> Self {
        let weight: Vec<i32> = weights.iter().map(|&w| w.min(MAX_WEIGHT).cast_signed()).collect();
        Self { effective: weight.clone(), current: vec![0; weight.len()], weight }
    }

    /// The next of those that are `usable`; the others' state stays as it is.
    pub fn pick(&mut self, usable: &[bool]) -> Option<usize> {
        let mut total = 0;
        let mut best = i32::MIN;
        let servers = self.weight.iter().zip(&mut self.effective).zip(&mut self.current);
        for (((&weight, effective), current), &usable) in servers.zip(usable) {
            // Masks instead of branches and products: this is the loop that has to vectorize, with
            // nothing but what every x86-64 has.
            let counts = -(i32::from(usable) & i32::from(weight > 0));
            let add = *effective & counts;
            *current += add;
            total += add;
            *effective += i32::from(*effective < weight) & counts;
            best = best.max(if counts == 0 { i32::MIN } else { *current });
        }
        let picked = self.first_at(best, usable)?;
        self.current[picked] -= total;
        Some(picked)
    }

    /// The first of those that count whose current weight this is.
    fn first_at(&self, best: i32, usable: &[bool]) -> Option<usize> {
        let mut from = 0;
        for block in self.current.chunks(BLOCK) {
            // Asked of the whole block at once: no branch for each.
            if block.contains(&best) {
                let here = from..from + block.len();
                let found = here
                    .into_iter()
                    .find(|&i| self.current[i] == best && usable[i] && self.weight[i] > 0);
                if found.is_some() {
                    return found;
                }
            }
            from += block.len();
        }
        None
    }

    /// Lowers the effective weight of a server that failed.
    ///
    /// nginx lowers it by `weight / max_fails`, rounded down, which is nothing at all for a weight
    /// of 1 and more than one allowed failure; here it is at least 1.
    pub fn failed(&mut self, server: usize, max_fails: u32) {
        if max_fails > 0 {
            let loss = (self.weight[server] / i32::try_from(max_fails).unwrap_or(i32::MAX)).max(1);
            self.effective[server] = (self.effective[server] - loss).max(0);
        }
    }

    /// Starts later in the sequence, as number `part` of `parts` that share the requests.
    pub fn stagger(&mut self, part: usize, parts: usize) {
        let period: usize = self.weight.iter().map(|&w| w.unsigned_abs() as usize).sum();
        let usable = vec![true; self.weight.len()];
        // A long period has no need to be met exactly, and the work should stay bounded.
        for _ in 0..(part * period / parts.max(1)).min(1_000_000 / usable.len().max(1)) {
            self.pick(&usable);
        }
    }

    /// The same sequence for another list of servers: `before(i)` says which old one server `i`
    /// is. Those that stay keep where they are in their turn.
    #[must_use]
    pub fn carry_over(&self, weights: &[u32], before: impl Fn(usize) -> Option<usize>) -> Self {
        let mut new = Self::new(weights);
        for i in 0..weights.len() {
            if let Some(old) = before(i) {
                new.current[i] = self.current[old];
                let lost = self.weight[old] - self.effective[old];
                new.effective[i] = (new.weight[i] - lost).max(0);
            }
        }
        // The rounds keep the sum at zero; whoever left took his part of it along.
        let sum: i32 = new.current.iter().sum();
        if let Some(largest) = new.current.iter_mut().max_by_key(|c| c.abs()) {
            *largest -= sum;
        }
        new
    }

    /// Current weights, for those who want to watch.
    pub fn current(&self) -> &[i32] {
        &self.current
    }

    /// Effective weights, likewise.
    pub fn effective(&self) -> &[i32] {
        &self.effective
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(smooth: &mut Smooth, count: usize) -> Vec<Option<usize>> {
        let usable = vec![true; smooth.current().len()];
        (0..count).map(|_| smooth.pick(&usable)).collect()
    }

    #[test]
    fn of_more_servers_than_are_looked_through_at_once_each_has_its_turn() {
        let all: Vec<_> = (0..100).map(Some).collect();
        assert_eq!(picks(&mut Smooth::new(&[7; 100]), 100), all);
    }

    #[test]
    fn what_has_no_weight_is_never_picked() {
        assert_eq!(Smooth::new(&[0, 0]).pick(&[true, true]), None);
        let mut smooth = Smooth::new(&[0, 1]);
        smooth.failed(1, 1);
        assert_eq!(smooth.pick(&[true, true]), Some(1), "however low the other has fallen");
    }

    #[test]
    fn a_failure_takes_its_part_of_the_weight_and_a_reload_keeps_that() {
        let mut smooth = Smooth::new(&[10, 3]);
        smooth.failed(0, 0);
        assert_eq!(smooth.effective(), [10, 3], "failures are not counted");
        smooth.failed(0, 5);
        smooth.failed(1, 9);
        assert_eq!(smooth.effective(), [8, 2]);
        let other = smooth.carry_over(&[20, 1, 4], |server| [Some(0), Some(1), None][server]);
        assert_eq!(other.effective(), [18, 0, 4]);
        for _ in 0..20 {
            smooth.failed(0, 5);
        }
        assert_eq!(smooth.effective(), [0, 2]);
    }

    #[test]
    fn threads_begin_at_other_places_of_the_one_sequence() {
        let weights = [5, 1, 1];
        for (part, parts, later) in [(0, 4, 0), (1, 2, 3), (3, 7, 3), (3, 4, 5), (1, 0, 7)] {
            let (mut one, mut other) = (Smooth::new(&weights), Smooth::new(&weights));
            one.stagger(part, parts);
            picks(&mut other, later);
            assert_eq!(one.current(), other.current(), "{part} of {parts}");
        }
        let weights: Vec<u32> = (0..100).map(|n| MAX_WEIGHT - n).collect();
        let (mut one, mut other) = (Smooth::new(&weights), Smooth::new(&weights));
        one.stagger(1, 2);
        picks(&mut other, 10_000);
        assert_eq!(one.current(), other.current(), "of a long period a part that takes no time");
    }
}
