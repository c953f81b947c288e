//! The hash ring of nginx's `hash … consistent`, point for point.
//!
//! Each server has 160 points per unit of weight on a ring of 32-bit numbers; a key belongs to the
//! first point at or after its own hash. Removing a server moves only its clients, adding one only
//! those it takes over.

use crate::config::settings::Address;

/// Points per unit of weight.
const POINTS: u32 = 160;
/// How many points are looked at before giving up.
const TRIES: usize = 21;

/// A ring of points, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    points: Vec<(u32, u16)>,
}

impl Ring {
    /// The ring of these servers.
    pub fn new<'a>(servers: impl IntoIterator<Item = (&'a Address, u32)>) -> Self {
        let mut points = Vec::new();
        for (server, (address, weight)) in servers.into_iter().enumerate() {
            let base = base(address);
            let mut previous: u32 = 0;
            for _ in 0..POINTS.saturating_mul(weight) {
                let mut crc = base.clone();
                crc.update(&previous.to_le_bytes());
                previous = crc.finalize();
                points.push((previous, server as u16));
            }
        }
        points.sort_by_key(|&(hash, _)| hash); // stable: of equal points the first server's stays
        points.dedup_by_key(|&mut (hash, _)| hash);
        Self { points }
    }

    /// The points, for those who want to compare rings.
    pub fn points(&self) -> &[(u32, u16)] {
        &self.points
    }

    /// The server for this key, or `None` when the ring leads to nobody usable.
    pub fn pick(&self, key: &[u8], usable: &[bool]) -> Option<usize> {
        let hash = crc32fast::hash(key);
        let first = self.points.partition_point(|&(point, _)| point < hash);
        (0..TRIES.min(self.points.len()))
            .map(|step| usize::from(self.points[(first + step) % self.points.len()].1))
            .find(|&server| usable[server])
    }
}

/// The checksum that all points of a server begin with: host, a zero byte, port.
fn base(address: &Address) -> crc32fast::Hasher {
    let mut crc = crc32fast::Hasher::new();
    match address {
        Address::Tcp(address) => {
            let text = address.to_string();
            let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
            crc.update(host.as_bytes());
            crc.update(&[0]);
            crc.update(port.as_bytes());
        }
        Address::Unix(path) => {
            crc.update(path.as_os_str().as_encoded_bytes());
            crc.update(&[0]);
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's first point is the hash of these bytes, so they are a key that lies on it.
    #[test]
    fn a_key_that_lies_on_a_point_is_that_points_servers() {
        let addresses = ["127.0.0.1:80", "127.0.0.2:80", "[::1]:8080"]
            .map(|address| Address::Tcp(address.parse().unwrap()));
        let ring = Ring::new(addresses.iter().map(|address| (address, 1)));
        for (server, start) in
            ["127.0.0.1\x0080", "127.0.0.2\x0080", "[::1]\x008080"].iter().enumerate()
        {
            let key = [start.as_bytes(), &[0; 4]].concat();
            assert_eq!(ring.pick(&key, &[true; 3]), Some(server));
        }
    }
}
