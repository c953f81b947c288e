//! Where a copy goes: one server, or those of a cluster, each of which has a part of the keys.

use super::client::{Client, RemoteError, Value};
use super::url::{Address, Url};

/// Into how many parts a cluster divides keys.
const SLOTS: usize = 16_384;

/// The servers.
#[derive(Debug)]
pub(crate) struct Target {
    /// One at least.
    nodes: Vec<Client>,
    /// Which of them has each slot; empty when there is one for all keys.
    slots: Vec<usize>,
}

/// Slots from the first to the last, and where they are.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: usize,
    last: usize,
    host: String,
    port: u16,
}

// === impl Target ===

impl Target {
    /// Connects to the server, or to all servers of its cluster.
    pub(crate) fn connect(url: &Url) -> Result<Self, RemoteError> {
        let mut first = Client::connect(url)?;
        if !url.cluster {
            return Ok(Self::one(first));
        }
        let reply = first.call(&["CLUSTER", "SLOTS"])?;
        let ranges = ranges(&reply).ok_or_else(|| first.unexpected(&reply))?;
        let mut target = Self { nodes: Vec::new(), slots: vec![usize::MAX; SLOTS] };
        let mut places: Vec<(String, u16)> = Vec::new();
        for Range { first, last, host, port } in ranges {
            let place = (host, port);
            let known = places.iter().position(|known| *known == place);
            let node = if let Some(node) = known {
                node
            } else {
                target.nodes.push(Client::connect(&url.of_node(&place.0, place.1))?);
                places.push(place);
                places.len() - 1
            };
            target.slots[first..=last].fill(node);
        }
        match target.slots.iter().position(|node| *node == usize::MAX) {
            Some(slot) => Err(first.refused(format!("no server of the cluster has slot {slot}"))),
            None => Ok(target),
        }
    }

    /// One that has all keys.
    pub(crate) fn one(client: Client) -> Self {
        Self { nodes: vec![client], slots: Vec::new() }
    }

    /// Which of the servers has this key.
    pub(super) fn place(&self, key: &[u8]) -> usize {
        self.slots.get(slot(key)).copied().unwrap_or(0)
    }

    /// All servers.
    pub(super) fn nodes(&mut self) -> &mut [Client] {
        &mut self.nodes
    }
}

/// What `CLUSTER SLOTS` answers; `None` when it is something else.
fn ranges(reply: &Value) -> Option<Vec<Range>> {
    let Value::Array(entries) = reply else { return None };
    let range = |entry: &Value| {
        let Value::Array(parts) = entry else { return None };
        let [Value::Integer(first), Value::Integer(last), Value::Array(node), ..] = &**parts else {
            return None;
        };
        let [host, Value::Integer(port), ..] = &**node else { return None };
        let host = match host {
            Value::Bulk(host) => String::from_utf8(host.clone()).ok()?,
            Value::Null => String::new(),
            _ => return None,
        };
        let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
        let port = u16::try_from(*port).ok()?;
        (first <= last && last < SLOTS).then_some(Range { first, last, host, port })
    };
    entries.iter().map(range).collect()
}

/// The slot of a key: of what is between its first braces, when there is anything between them.
fn slot(key: &[u8]) -> usize {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    usize::from(crc16(tag.unwrap_or(key))) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

impl Url {
    /// The same for another server of its cluster; one that does not know its own name is where we asked.
    fn of_node(&self, host: &str, port: u16) -> Self {
        let mut url = self.clone();
        if let Address::Tcp(own, own_port) = &mut url.address {
            *own_port = port;
            if !host.is_empty() {
                host.clone_into(own);
            }
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_a_cluster_has_them() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "as the specification says");
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{}{bar}"), usize::from(crc16(b"foo{}{bar}")) % SLOTS);
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
    }

    #[test]
    fn what_is_no_list_of_slots_is_nothing() {
        let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let entry = |first, last, port| {
            let node = Value::Array(vec![text("10.0.0.1"), Value::Integer(port)]);
            Value::Array(vec![Value::Integer(first), Value::Integer(last), node])
        };
        let host = "10.0.0.1".to_owned();
        assert_eq!(
            ranges(&Value::Array(vec![entry(0, 5, 7000)])),
            Some(vec![Range { first: 0, last: 5, host, port: 7000 }])
        );
        for bad in
            [entry(5, 0, 1), entry(0, 16_384, 1), entry(-1, 5, 1), entry(0, 5, 70_000), text("x")]
        {
            assert_eq!(ranges(&Value::Array(vec![bad])), None);
        }
        assert_eq!(ranges(&Value::Null), None);
    }
}
