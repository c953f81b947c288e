//! What one connection watches until its next `EXEC`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::store::Touched;
use super::super::store::key::{self, Space};

/// The watched keys of a connection.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// Whether each was there and has an expiry: when it is gone at `EXEC`, that counts as a touch.
    keys: HashMap<Vec<u8>, bool>,
    /// Set when one of them was touched.
    touched: Touched,
    bytes: usize,
}

/// What the next process must know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WatchingMemento {
    keys: Vec<(Vec<u8>, bool)>,
    is_touched: bool,
}

/// What a watched key costs beside its bytes, here and in the store's registry.
const KEY_OVERHEAD: usize = 200;

impl Watching {
    /// For the next process. A database that nobody has written to has another number there, so what is watched in it
    /// counts as touched.
    pub(super) fn memento(&self, is_space: impl Fn(Space) -> bool) -> WatchingMemento {
        let keys: Vec<_> = self.keys.iter().map(|(key, expires)| (key.clone(), *expires)).collect();
        let is_known = keys.iter().all(|(key, _)| is_space(key::space(key)));
        WatchingMemento { is_touched: self.is_touched() || !is_known, keys }
    }

    /// As another process had it; the store is to be told what is watched.
    pub(super) fn from_memento(memento: WatchingMemento) -> Self {
        let mut watching = Self::default();
        watching.touched.set(memento.is_touched);
        memento.keys.into_iter().for_each(|(key, expires)| watching.add(key, expires));
        watching
    }

    /// The watched keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.keys().map(Vec::as_slice)
    }

    /// Whether it watches this key.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// Watches a key; `expires` says whether it is there and has an expiry.
    pub(super) fn add(&mut self, key: Vec<u8>, expires: bool) {
        self.bytes += 2 * key.len() + KEY_OVERHEAD;
        self.keys.insert(key, expires);
    }

    /// What the store sets when a watched key is touched.
    pub(super) fn touched(&self) -> &Touched {
        &self.touched
    }

    /// Whether a watched key was touched.
    pub(super) fn is_touched(&self) -> bool {
        self.touched.get()
    }

    /// The keys that were there and have an expiry.
    pub(super) fn expiring(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().filter_map(|(key, expires)| expires.then_some(&key[..]))
    }

    /// Bytes that they take, here and in the store.
    pub(super) fn memory(&self) -> usize {
        self.bytes
    }
}
