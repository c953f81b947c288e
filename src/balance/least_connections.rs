//! Least connections: fewest requests in flight for its weight; ties in smooth weighted turns.

use super::smooth::Smooth;

/// The server with the least `connections` for its weight among those `usable`.
///
/// `tied` is room for as many flags as there are servers, so that picking allocates nothing.
pub fn pick(
    connections: &[u32],
    weights: &[u32],
    usable: &[bool],
    ties: &mut Smooth,
    tied: &mut [bool],
) -> Option<usize> {
    let servers = || connections.iter().zip(weights).zip(usable);
    // Fractions are compared crosswise, which is exact and divides nothing.
    let (least, of) = servers()
        .filter(|((_, weight), usable)| **usable && **weight > 0)
        .map(|((&count, &weight), _)| (u64::from(count), u64::from(weight)))
        .min_by(|one, other| (one.0 * other.1).cmp(&(other.0 * one.1)))?;
    for (flag, ((&count, &weight), &usable)) in tied.iter_mut().zip(servers()) {
        *flag = usable && u64::from(count) * of == least * u64::from(weight);
    }
    ties.pick(tied) // none without weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_with_the_least_for_its_weight() {
        for (connections, weights, usable, picked) in [
            ([3, 1, 2], [1, 1, 1], [true, true, true], Some(1)),
            ([3, 1, 2], [1, 1, 1], [true, false, true], Some(2)),
            ([9, 4, 5], [3, 1, 1], [true, true, true], Some(0)),
            ([0, 4, 1], [0, 4, 1], [true, true, false], Some(1)),
            ([0, 0, 7], [0, 0, 1], [true, true, true], Some(2)),
            ([0, 0, 0], [0, 0, 0], [true, true, true], None),
            ([0, 0, 0], [1, 1, 1], [false, false, false], None),
        ] {
            let mut ties = Smooth::new(&weights);
            let found = pick(&connections, &weights, &usable, &mut ties, &mut [false; 3]);
            assert_eq!(found, picked, "{connections:?} {weights:?} {usable:?}");
        }
    }

    #[test]
    fn ties_take_turns_by_their_weight() {
        let (connections, weights) = ([2, 1, 9], [2, 1, 1]);
        let mut ties = Smooth::new(&weights);
        let picks = (0..6)
            .map(|_| pick(&connections, &weights, &[true; 3], &mut ties, &mut [false; 3]).unwrap());
        assert_eq!(picks.collect::<Vec<_>>(), [0, 1, 0, 0, 1, 0]);
    }
}
