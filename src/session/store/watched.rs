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
}

impl Watched {
    /// Has `touched` set at the next change of the key. It ends when its owner drops it.
    pub(super) fn watch(&mut self, key: &[u8], touched: &Touched) {
        let watchers = self.keys.entry(key.to_vec()).or_default();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Rc::downgrade(touched));
    }

    /// The key was changed.
    pub(super) fn touch(&mut self, key: &[u8]) {
        // The table is empty nearly always: no hash is computed then.
        if !self.keys.is_empty()
            && let Some(watchers) = self.keys.remove(key)
        {
            mark(&watchers);
        }
    }

    /// Every key of the space was changed.
    pub(super) fn touch_space(&mut self, space: Space) {
        self.keys.retain(|key, watchers| {
            let keep = key::space(key) != space;
            if !keep {
                mark(watchers);
            }
            keep
        });
    }

    /// Forgets keys that nobody watches any more.
    pub(super) fn sweep(&mut self) {
        self.keys.retain(|_, watchers| watchers.iter().any(|w| w.strong_count() > 0));
    }
}

fn mark(watchers: &[Weak<Cell<bool>>]) {
    for touched in watchers.iter().filter_map(Weak::upgrade) {
        touched.set(true);
    }
}
