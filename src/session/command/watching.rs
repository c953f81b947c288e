//! What one connection watches until its next `EXEC`.

use std::collections::HashMap;

use super::super::store::Touched;

/// The watched keys of a connection.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// Whether each was there and has an expiry: when it is gone at `EXEC`, that counts as a touch.
    keys: HashMap<Vec<u8>, bool>,
    /// Set when one of them was touched.
    touched: Touched,
    bytes: usize,
}

/// What a watched key costs beside its bytes, here and in the store's registry.
const KEY_OVERHEAD: usize = 200;

impl Watching {
    /// Whether it watches nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
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
