//! Namespaces and their databases, by the numbers that keys begin with.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::disk::SpaceRecord;
use super::key::Space;

/// The number of no space: a read of it finds nothing.
pub(crate) const NOWHERE: Space = 0;

/// All spaces.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    records: BTreeMap<Space, SpaceRecord>,
    numbers: HashMap<(String, u8), Space>,
    /// The numbers that spaces will have when somebody writes to them.
    promised: HashMap<(String, u8), Space>,
}

impl Spaces {
    /// The number of this database of this namespace.
    pub(super) fn number(&self, namespace: &str, database: u8) -> Option<Space> {
        // A lookup by borrowed parts is not worth a key type of its own: connections keep numbers.
        self.numbers.get(&(namespace.to_owned(), database)).copied()
    }

    /// The number that this database has, or will have when somebody writes to it.
    pub(super) fn promise(&mut self, namespace: &str, database: u8) -> Space {
        if let Some(known) = self.number(namespace, database) {
            return known;
        }
        let last = self.records.last_key_value().map_or(NOWHERE, |(space, _)| *space);
        let last = self.promised.values().fold(last, |last, space| last.max(*space));
        // Nobody has so many; a damaged log may say so.
        let next = last.checked_add(1).unwrap_or_else(|| {
            (NOWHERE + 1..Space::MAX)
                .find(|space| !self.records.contains_key(space))
                .unwrap_or(NOWHERE)
        });
        *self.promised.entry((namespace.to_owned(), database)).or_insert(next)
    }

    /// Adds a space, with no keys if it was not there.
    pub(super) fn define(&mut self, space: Space, namespace: &str, database: u8) {
        let namespace = namespace.to_owned();
        let place = (namespace.clone(), database);
        self.promised.remove(&place);
        self.numbers.insert(place, space);
        self.records.entry(space).or_insert(SpaceRecord {
            space,
            namespace,
            database,
            keys: 0,
            bytes: 0,
        });
    }

    /// Takes over what the file says.
    pub(super) fn load(&mut self, records: &[SpaceRecord]) {
        for record in records {
            self.define(record.space, &record.namespace, record.database);
            self.records.insert(record.space, record.clone());
        }
    }

    /// Whether it is known whose a space is.
    pub(super) fn is_defined(&self, space: Space) -> bool {
        self.records.contains_key(&space)
    }

    /// All spaces, for the file.
    pub(super) fn records(&self) -> impl Iterator<Item = &SpaceRecord> {
        self.records.values()
    }

    /// Keys in a space.
    pub(super) fn keys(&self, space: Space) -> u64 {
        self.records.get(&space).map_or(0, |record| record.keys)
    }

    /// Changes the number of keys of a space.
    pub(super) fn add_keys(&mut self, space: Space, change: i64) {
        if let Some(record) = self.records.get_mut(&space) {
            record.keys = record.keys.saturating_add_signed(change);
        }
    }

    /// Stored bytes of a space.
    pub(super) fn bytes(&self, space: Space) -> u64 {
        self.records.get(&space).map_or(0, |record| record.bytes)
    }

    /// Changes the stored bytes of a space.
    pub(super) fn add_bytes(&mut self, space: Space, change: i64) {
        if let Some(record) = self.records.get_mut(&space) {
            record.bytes = record.bytes.saturating_add_signed(change);
        }
    }

    /// Stored bytes of each namespace that has any.
    fn by_namespace(&self) -> BTreeMap<&str, u64> {
        let mut bytes = BTreeMap::new();
        for record in self.records.values().filter(|record| record.bytes > 0) {
            *bytes.entry(record.namespace.as_str()).or_default() += record.bytes;
        }
        bytes
    }

    /// The spaces of namespaces that have more than their share, when all that have anything share
    /// `total` bytes alike; `None` when there is but one namespace, which has it all.
    pub(super) fn beyond_share(&self, total: u64) -> Option<BTreeSet<Space>> {
        let bytes = self.by_namespace();
        if bytes.len() < 2 {
            return None;
        }
        let share = total / bytes.len() as u64;
        let beyond = |record: &&SpaceRecord| {
            bytes.get(record.namespace.as_str()).is_some_and(|bytes| *bytes > share)
        };
        Some(self.records.values().filter(beyond).map(|record| record.space).collect())
    }

    /// Whether a namespace has no more than its share, and others have something, too.
    pub(super) fn is_within_share(&self, namespace: &str, total: u64) -> bool {
        let bytes = self.by_namespace();
        let own = bytes.get(namespace).copied().unwrap_or_default();
        let sharing = bytes.len() as u64 + u64::from(own == 0);
        sharing > 1 && own <= total / sharing
    }

    /// Nothing is left in a space.
    pub(super) fn clear(&mut self, space: Space) {
        if let Some(record) = self.records.get_mut(&space) {
            record.keys = 0;
            record.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_that_have_something_share_alike() {
        let mut spaces = Spaces::default();
        for (space, namespace, database) in [(1, "shop", 0), (2, "shop", 1), (3, "blog", 0)] {
            spaces.define(space, namespace, database);
        }
        spaces.add_bytes(1, 500);
        assert_eq!(spaces.beyond_share(100), None, "one has it all");
        assert!(!spaces.is_within_share("shop", 1000));
        assert!(spaces.is_within_share("blog", 100), "it has nothing yet");
        spaces.add_bytes(3, 400);
        assert_eq!(spaces.beyond_share(1000), Some([].into()));
        spaces.add_bytes(2, 1);
        assert_eq!(spaces.beyond_share(1000), Some([1, 2].into()), "databases count together");
        assert!(spaces.is_within_share("blog", 1000) && !spaces.is_within_share("shop", 1000));
    }
}
