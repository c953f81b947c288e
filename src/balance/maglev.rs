//! Maglev hashing: a table in which every server holds its share of the entries.
//!
//! Each server has its own order in which it would like the entries; they take turns, each taking
//! the first free one of its order, until all are taken. The table depends on nothing but names and
//! weights, so every front builds the same. (Eisenbud et al., "Maglev: A Fast and Reliable Software
//! Network Load Balancer", 2016, section 3.4.)
//!
//! A server that is out for a while keeps its entries: its clients are looked up again under
//! another hash, everybody else's stay where they are, exactly. Only a changed list of servers
//! builds another table, which moves the clients it must and a few per cent more.

use super::key;

/// Entries: a prime, and a hundred times as many as servers for shares within one per cent.
const SMALL: usize = 65_537;
/// For more than 600 servers.
const LARGE: usize = 655_373;
/// How many servers are looked at before giving up.
const TRIES: u64 = 21;

/// A table from hashes to servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    entries: Box<[u16]>,
}

impl Table {
    /// The table of these servers, by name and weight; `None` when no weight is above zero.
    pub fn new<'a>(servers: impl IntoIterator<Item = (&'a str, u32)>) -> Option<Self> {
        struct Preference {
            server: u16,
            weight: u64,
            credit: u64,
            next: usize,
            skip: usize,
        }
        const FREE: u16 = u16::MAX;

        let servers: Vec<_> = servers.into_iter().collect();
        let size = if servers.len() > 600 { LARGE } else { SMALL };
        let mut preferences: Vec<Preference> = servers
            .iter()
            .enumerate()
            .filter(|(_, (_, weight))| *weight > 0)
            .map(|(i, &(name, weight))| {
                let hash = key::hash(key::SERVER, name.as_bytes());
                Preference {
                    server: i as u16,
                    weight: u64::from(weight),
                    credit: 0,
                    next: (hash % size as u64) as usize,
                    skip: (key::mix(hash) % (size as u64 - 1)) as usize + 1,
                }
            })
            .collect();
        // By name, not by place: the order of the list must not matter.
        preferences.sort_by_key(|preference| servers[usize::from(preference.server)].0);
        let heaviest = preferences.iter().map(|preference| preference.weight).max()?;

        let mut entries = vec![FREE; size].into_boxed_slice();
        let mut free = size;
        loop {
            for preference in &mut preferences {
                // The heaviest takes one in every round, the others when they have saved for one.
                preference.credit += preference.weight;
                if preference.credit < heaviest {
                    continue;
                }
                preference.credit -= heaviest;
                while entries[preference.next] != FREE {
                    preference.next = (preference.next + preference.skip) % size;
                }
                entries[preference.next] = preference.server;
                free -= 1;
                if free == 0 {
                    return Some(Self { entries });
                }
            }
        }
    }

    /// The server for this key's hash, or `None` when it leads to nobody usable.
    pub fn pick(&self, hash: u64, usable: &[bool]) -> Option<usize> {
        let size = self.entries.len() as u64;
        (0..TRIES)
            .map(|attempt| if attempt == 0 { hash } else { key::mix(hash.wrapping_add(attempt)) })
            .map(|hash| usize::from(self.entries[key::scale(hash, size) as usize]))
            .find(|&server| usable[server])
    }

    /// The entries, for those who want to compare tables.
    pub fn entries(&self) -> &[u16] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_own_entry_and_where_that_cannot_be_others_that_mix_it() {
        let table = Table::new([("a", 1), ("b", 1), ("c", 1)]).unwrap();
        let mut moved = [0; 3];
        for number in 0..3000 {
            let hash = key::mix(number);
            let entry = key::scale(hash, table.entries().len() as u64);
            let own = usize::from(table.entries()[usize::try_from(entry).unwrap()]);
            assert_eq!(table.pick(hash, &[true; 3]), Some(own));
            let without = [0, 1, 2].map(|server| server != own);
            moved[table.pick(hash, &without).unwrap()] += 1;
        }
        assert!(moved.iter().all(|count| (900..1100).contains(count)), "{moved:?}");
        assert_eq!(table.pick(7, &[false; 3]), None);
    }
}
