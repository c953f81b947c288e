//! What clients keep copies of (`CLIENT TRACKING`): each is told once when a key that it has read changes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use super::key::{self, Space};

/// A client that keeps copies.
#[derive(Debug, Default)]
pub struct Tracker {
    /// The keys that it has read since they last changed.
    keys: RefCell<HashSet<Vec<u8>>>,
    bytes: Cell<usize>,
    /// What it must be told.
    stale: RefCell<Vec<Stale>>,
    told: Notify,
}

/// Copies that are not to be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// That of the key with this name.
    Key(Vec<u8>),
    /// All.
    All,
}

/// Who keeps copies of what.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    keys: HashMap<Vec<u8>, Vec<Weak<Tracker>>>,
    /// Entries added since those of clients that are gone were removed, and what was left then.
    added: usize,
    left: usize,
}

/// More keys than this are not kept track of for one client: it is told to forget all.
const MOST: usize = 100_000;
/// What a key costs beside its bytes, which are here twice.
const KEY_OVERHEAD: usize = 200;
/// So many entries are added at least before those are looked for that can go.
const SWEEP_AFTER: usize = 1024;

// === impl Tracker ===

impl Tracker {
    /// Of a client that is to forget whatever it has copies of.
    pub fn of_stale_copies() -> Self {
        let tracker = Self::default();
        tracker.tell(Stale::All);
        tracker
    }

    /// Completes when there is something to tell.
    pub async fn has_stale(&self) {
        while self.stale.borrow().is_empty() {
            self.told.notified().await;
        }
    }

    /// What the client must be told now.
    pub fn take_stale(&self) -> Vec<Stale> {
        std::mem::take(&mut self.stale.borrow_mut())
    }

    /// Bytes that it takes, here and in the store.
    pub fn memory(&self) -> usize {
        self.bytes.get()
    }

    fn tell(&self, stale: Stale) {
        self.stale.borrow_mut().push(stale);
        self.told.notify_one();
    }

    fn forget_all(&self) {
        self.keys.borrow_mut().clear();
        self.bytes.set(0);
        // What else it was to be told is a part of that.
        self.stale.borrow_mut().clear();
        self.tell(Stale::All);
    }
}

// === impl Tracked ===

impl Tracked {
    /// The client has read this key.
    pub(super) fn read(&mut self, key: &[u8], tracker: &Rc<Tracker>) {
        if tracker.keys.borrow().contains(key) {
            return;
        }
        if tracker.keys.borrow().len() >= MOST {
            tracker.forget_all();
        }
        tracker.keys.borrow_mut().insert(key.to_vec());
        tracker.bytes.set(tracker.bytes.get() + 2 * key.len() + KEY_OVERHEAD);
        if self.added > self.left + SWEEP_AFTER {
            self.sweep();
        }
        self.added += 1;
        let trackers = self.keys.entry(key.to_vec()).or_default();
        // It may have forgotten the key, and read it again.
        if !trackers.iter().any(|known| std::ptr::eq(known.as_ptr(), Rc::as_ptr(tracker))) {
            trackers.push(Rc::downgrade(tracker));
        }
    }

    /// The key has changed, or is gone.
    pub(super) fn touch(&mut self, key: &[u8]) {
        // The table is empty nearly always: no hash is computed then.
        if !self.keys.is_empty()
            && let Some(trackers) = self.keys.remove(key)
        {
            for tracker in trackers.iter().filter_map(Weak::upgrade) {
                if tracker.keys.borrow_mut().remove(key) {
                    let bytes = 2 * key.len() + KEY_OVERHEAD;
                    tracker.bytes.set(tracker.bytes.get().saturating_sub(bytes));
                    tracker.tell(Stale::Key(key::name(key).to_vec()));
                }
            }
        }
    }

    /// All keys of the space are gone.
    pub(super) fn touch_space(&mut self, space: Space) {
        for (_, trackers) in self.keys.extract_if(|key, _| key::space(key) == space) {
            for tracker in trackers.iter().filter_map(Weak::upgrade) {
                if !tracker.keys.borrow().is_empty() {
                    tracker.forget_all();
                }
            }
        }
    }

    /// Keys that anybody has read.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Forgets clients that are gone.
    fn sweep(&mut self) {
        self.keys.retain(|key, trackers| {
            trackers.retain(|tracker| {
                tracker.upgrade().is_some_and(|tracker| tracker.keys.borrow().contains(key))
            });
            !trackers.is_empty()
        });
        self.left = self.keys.values().map(Vec::len).sum();
        self.added = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Vec<u8> {
        let mut key = Vec::new();
        key::build(&mut key, 1, name.as_bytes());
        key
    }

    #[test]
    fn a_client_is_told_once_of_what_it_has_read() {
        let mut tracked = Tracked::default();
        let (one, other) = (Rc::new(Tracker::default()), Rc::new(Tracker::default()));
        for _ in 0..3 {
            tracked.read(&key("a"), &one);
            tracked.read(&key("b"), &other);
        }
        for name in ["a", "a", "c"] {
            tracked.touch(&key(name));
        }
        assert_eq!(one.take_stale(), [Stale::Key(b"a".to_vec())]);
        assert_eq!((one.take_stale(), other.take_stale()), (vec![], vec![]));
        assert_eq!(one.memory(), 0);
        tracked.read(&key("a"), &one);
        tracked.touch_space(2);
        assert_eq!(one.take_stale(), []);
        tracked.touch_space(1);
        assert_eq!((one.take_stale(), other.take_stale()), (vec![Stale::All], vec![Stale::All]));
    }

    #[test]
    fn what_is_kept_track_of_is_bounded_and_goes_with_the_client() {
        let mut tracked = Tracked::default();
        let client = Rc::new(Tracker::default());
        for number in 0..=MOST {
            tracked.read(&key(&number.to_string()), &client);
        }
        assert_eq!(client.take_stale(), [Stale::All]);
        assert!(client.memory() < 1000, "{}", client.memory());
        drop(client);
        let another = Rc::new(Tracker::default());
        for _ in 0..=MOST + SWEEP_AFTER {
            tracked.touch(b"x");
            tracked.read(b"x", &another);
            another.take_stale();
        }
        assert!(tracked.keys.len() < 10, "{}", tracked.keys.len());
    }
}
