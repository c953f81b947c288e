//! How far an eviction has come that leaves some namespaces alone.

use std::collections::BTreeSet;

use super::key::Space;

/// How far into the file's index those entries were looked for that may be evicted.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// The spaces that have more than their share.
    pub(super) beyond: BTreeSet<Space>,
    /// The entry of the index that was looked at last.
    pub(super) cursor: Vec<u8>,
}
