//! nginx's `ip_hash`, number for number, so that a migration moves no client.
//!
//! Hashed are the first three octets of an IPv4 address or all sixteen of an IPv6 address. The
//! total weight counts servers that are down, too: that is what leaves everybody else's clients
//! where they are. When the server so found cannot be used, the same octets are hashed once more
//! on top of the hash so far; after 21 misses it is smooth weighted round-robin's turn.

use std::net::IpAddr;

/// How many servers are looked at before giving up.
const TRIES: usize = 21;

/// The server for this client, or `None` when the hash leads to nobody usable.
///
/// `weights` are those of all servers of the hash; `usable` says whom the request may go to.
/// Clients without an address (of a UNIX socket) all count as one.
pub fn pick(client: Option<IpAddr>, weights: &[u32], usable: &[bool]) -> Option<usize> {
    let total: u32 = weights.iter().sum();
    if total == 0 || weights.len() < 2 {
        return None;
    }
    let (v4, v6);
    let octets: &[u8] = match client {
        Some(IpAddr::V4(address)) => {
            v4 = address.octets();
            &v4[..3]
        }
        Some(IpAddr::V6(address)) => {
            v6 = address.octets();
            &v6
        }
        None => &[0; 3],
    };
    let mut hash: u32 = 89;
    for _ in 0..TRIES {
        hash = octets.iter().fold(hash, |hash, &octet| (hash * 113 + u32::from(octet)) % 6271);
        let server = by_weight(hash % total, weights);
        if usable[server] {
            return Some(server);
        }
    }
    None
}

/// The server in whose part of the summed weights `point` lies.
pub(super) fn by_weight(mut point: u32, weights: &[u32]) -> usize {
    let is_in = |weight: &u32| point.checked_sub(*weight).map(|rest| point = rest).is_none();
    weights.iter().position(is_in).unwrap_or_default() // there is one: the point is below the sum
}
