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

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another implementation of CRC-32: each of these users is found at the next attempt.
    #[test]
    fn whoever_is_out_is_passed_over_as_nginx_does_it() {
        let usable: Vec<bool> = (0..30).map(|server| [4, 17, 23].contains(&server)).collect();
        for (user, server) in [
            (7, Some(17)),
            (15, Some(23)),
            (4, Some(4)),
            (17, Some(23)),
            (1, Some(23)),
            (32, Some(17)),
            (33, Some(23)),
            (86, Some(17)),
            (2, Some(4)),
            (10, Some(23)),
            (26, Some(4)),
            (5, Some(17)),
            (90, Some(4)),
            (11, Some(23)),
            (50, Some(4)),
            (0, Some(23)),
            (34, Some(4)),
            (93, Some(23)),
            (43, Some(17)),
            (35, Some(17)),
            (118, Some(4)),
            (14, None),
        ] {
            let key = format!("user-{user}");
            assert_eq!(pick(key.as_bytes(), &[1; 30], &usable), server, "{key}");
        }
    }

    #[test]
    fn nobody_is_found_without_a_key_or_a_choice() {
        assert_eq!(pick(b"", &[1, 1], &[true, true]), None);
        assert_eq!(pick(b"a", &[1], &[true]), None);
        assert_eq!(pick(b"a", &[0, 0], &[true, true]), None);
        assert_eq!(pick(b"a", &[0, 1], &[true, true]), Some(1));
    }
}
