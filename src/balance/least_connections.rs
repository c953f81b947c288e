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
        .reduce(|best, this| if this.0 * best.1 < best.0 * this.1 { this } else { best })?;
    for (flag, ((&count, &weight), &usable)) in tied.iter_mut().zip(servers()) {
        *flag = usable && weight > 0 && u64::from(count) * of == least * u64::from(weight);
    }
    ties.pick(tied)
}
