//! nginx's `hash` without `consistent`: the hash modulo the total weight.
//!
//! Even and cheap, but a server added or removed from the list moves almost every client. It is
//! here for those who come from nginx; `maglev` is the better choice for everybody else.

use super::ip_hash::by_weight;

/// How many servers are looked at before giving up.
const TRIES: u32 = 21;

/// The server for this key, or `None` when the hash leads to nobody usable or the key is empty.
pub fn pick(key: &[u8], weights: &[u32], usable: &[bool]) -> Option<usize> {
    let total: u32 = weights.iter().sum();
    if total == 0 || weights.len() < 2 || key.is_empty() {
        return None;
    }
    let mut point: u32 = 0;
    for attempt in 0..TRIES {
        let mut crc = crc32fast::Hasher::new();
        if attempt > 0 {
            // The number of the attempt goes before the key, in decimal: at most two digits.
            let digits = [b'0' + (attempt / 10) as u8, b'0' + (attempt % 10) as u8];
            crc.update(if attempt < 10 { &digits[1..] } else { &digits });
        }
        crc.update(key);
        point += (crc.finalize() >> 16) & 0x7fff;
        let server = by_weight(point % total, weights);
        if usable[server] {
            return Some(server);
        }
    }
    None
}
