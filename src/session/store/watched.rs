//! Keys that transactions wait upon: `WATCH` makes `EXEC` fail when one was touched.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::key::{self, Space};

/// Set when a key that its owner watches was touched.
pub(crate) type Touched = Rc<Cell<bool>>;

/// Who watches what.
#[derive(Debug, Default)]
pub(super) struct Watched {
    keys: HashMap<Vec<u8>, Vec<Weak<Cell<bool>>>>,
    /// Entries that were added since those were removed that nobody watches any more.
    added: usize,
    /// As many were left then.
    left: usize,
}

/// So many entries are added at least before those are looked for that can go.
const SWEEP_AFTER: usize = 1024;

impl Watched {
    /// Has `touched` set at the next change of the key, which its owner does not watch yet. It ends
    /// when its owner drops it.
    pub(super) fn watch(&mut self, key: &[u8], touched: &Touched) {
        // As much again as was left: each entry costs a constant share of a walk over all.
        if self.added > self.left + SWEEP_AFTER {
            self.sweep();
        }
        self.added += 1;
        self.keys.entry(key.to_vec()).or_default().push(Rc::downgrade(touched));
    }

    /// The key was changed.
    pub(super) fn touch(&mut self, key: &[u8]) {
        // The table is empty nearly always: no hash is computed then.
        if !self.keys.is_empty()
            && let Some(watchers) = self.keys.remove(key)
        {
            for touched in watchers.iter().filter_map(Weak::upgrade) {
                touched.set(true);
            }
        }
    }

    /// The watched keys of a space.
    pub(super) fn of_space(&self, space: Space) -> Vec<Vec<u8>> {
        self.keys.keys().filter(|key| key::space(key) == space).cloned().collect()
    }

    /// Forgets what nobody watches any more.
    fn sweep(&mut self) {
        self.keys.retain(|_, watchers| {
            watchers.retain(|watcher| watcher.strong_count() > 0);
            !watchers.is_empty()
        });
        self.keys.shrink_to(2 * self.keys.len());
        self.left = self.keys.values().map(Vec::len).sum();
        self.added = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_watches_any_more_is_forgotten_by_itself() {
        let mut watched = Watched::default();
        let kept = Touched::default();
        watched.watch(b"kept", &kept);
        for number in 0..100_000_u32 {
            watched.watch(&number.to_be_bytes(), &Touched::default());
            watched.watch(b"one", &Touched::default());
        }
        assert!(watched.keys.len() <= SWEEP_AFTER + 2, "{}", watched.keys.len());
        assert!(watched.keys.values().map(Vec::len).sum::<usize>() <= 2 * SWEEP_AFTER);
        assert!(!kept.get());
        watched.touch(b"kept");
        assert!(kept.get());
    }
}
