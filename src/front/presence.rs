//! How many connections a thread has: those on their way to it and those that are open there.
//!
//! Small and by itself, so that its interleavings can be tried out exhaustively (`tests/balance/
//! threads.rs` includes this file with other atomics).

use super::atomics::{AtomicUsize, Ordering};

/// The connections of one thread. Whoever asks for all of them never misses one that goes from its
/// way to being open: at shutdown it would be cut off.
#[derive(Debug)]
pub(crate) struct Presence {
    on_the_way: AtomicUsize,
    open: AtomicUsize,
}

impl Default for Presence {
    fn default() -> Self {
        Self { on_the_way: AtomicUsize::new(0), open: AtomicUsize::new(0) }
    }
}

impl Presence {
    /// So many are handed to the thread.
    pub(crate) fn hand(&self, count: usize) {
        self.on_the_way.fetch_add(count, Ordering::Relaxed);
    }

    /// So many of those have arrived, and are open. Only the thread itself may say so.
    pub(crate) fn arrive(&self, count: usize) {
        // In this order: who no longer sees them on their way sees that they are open.
        self.open(count);
        self.on_the_way.fetch_sub(count, Ordering::Release);
    }

    /// So many are open that nobody has handed over. Only the thread itself may say so.
    pub(crate) fn open(&self, count: usize) {
        // Nobody else writes it.
        self.open.store(self.now_open() + count, Ordering::Relaxed);
    }

    /// One is closed. Only the thread itself may say so.
    pub(crate) fn close(&self) {
        self.open.store(self.now_open().wrapping_sub(1), Ordering::Relaxed);
    }

    /// How many are open.
    pub(crate) fn now_open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many are open or on their way; one that arrives at this moment may count twice.
    pub(crate) fn all(&self) -> usize {
        let on_the_way = self.on_the_way.load(Ordering::Acquire);
        on_the_way + self.now_open()
    }
}
