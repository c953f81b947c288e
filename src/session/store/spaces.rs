//! Namespaces and their databases, by the numbers that keys begin with.

use std::collections::{BTreeMap, HashMap};

use super::disk::SpaceRecord;
use super::key::Space;

/// The number of no space: a read of it finds nothing.
pub const NOWHERE: Space = 0;

/// All spaces.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    records: BTreeMap<Space, SpaceRecord>,
    numbers: HashMap<(String, u8), Space>,
}

impl Spaces {
    /// The number of this database of this namespace.
    pub(super) fn number(&self, namespace: &str, database: u8) -> Option<Space> {
        // A lookup by borrowed parts is not worth a key type of its own: connections keep numbers.
        self.numbers.get(&(namespace.to_owned(), database)).copied()
    }

    /// The number that a new space gets.
    pub(super) fn next(&self) -> Space {
        self.records.last_key_value().map_or(NOWHERE, |(space, _)| *space) + 1
    }

    /// Adds a space, with no keys if it was not there.
    pub(super) fn define(&mut self, space: Space, namespace: &str, database: u8) {
        let namespace = namespace.to_owned();
        self.numbers.insert((namespace.clone(), database), space);
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

    /// Nothing is left in a space.
    pub(super) fn clear(&mut self, space: Space) {
        if let Some(record) = self.records.get_mut(&space) {
            record.keys = 0;
            record.bytes = 0;
        }
    }
}
