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
    [first, second].into_iter().min_by(|one, other| cost(*one).total_cmp(&cost(*other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_are_drawn_the_cheaper_is_taken_and_of_two_alike_the_first() {
        let candidates = [0, 1, 2, 3];
        for random in 0..1000 {
            let random = key::mix(random);
            let first = draw(&candidates, random, |_| true).unwrap();
            assert_eq!(pick(&candidates, &[true; 4], random, |_| 1.0), Some(first));
            let costs = [4.0, 1.0, 3.0, 2.0];
            let picked = pick(&candidates, &[true; 4], random, |i| costs[i]).unwrap();
            assert!(costs[picked] < 4.0, "it is the cheaper of any two");
            let one_left = [false, false, true, false];
            assert_eq!(pick(&candidates, &one_left, random, |_| 1.0), Some(2));
        }
        assert_eq!(pick(&candidates, &[false; 4], 7, |_| 1.0), None);
    }
}
