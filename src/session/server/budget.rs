//! What the buffers of all connections may take together.

use std::cell::{Cell, RefCell};

/// Every connection may have this much without asking: the largest part of all sessions fits, so
/// that clients with large requests cannot take the room of the others.
pub(super) const FREE: usize = 16 * 1024;
/// What all connections together may have beyond that.
const TOTAL: usize = 256 * 1024 * 1024;

/// Bytes in use beyond [`FREE`] of each connection.
#[derive(Debug, Default)]
pub(super) struct Budget {
    used: Cell<usize>,
}

/// One connection's part of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a Budget,
    held: usize,
}

/// Buffers for replies: a connection has one only while it answers, and the next one then writes
/// into the same memory.
#[derive(Debug, Default)]
pub(super) struct Spares(RefCell<Vec<Vec<u8>>>);

/// So many are kept, as many as connections can be within a turn at once without much ado.
const SPARES: usize = 64;
/// A larger one is given back to the allocator.
const LARGEST_SPARE: usize = 64 * 1024;

impl Spares {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer to the next connection.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        let mut spares = self.0.borrow_mut();
        if (1..=LARGEST_SPARE).contains(&buffer.capacity()) && spares.len() < SPARES {
            buffer.clear();
            spares.push(buffer);
        }
    }
}

impl Budget {
    pub(super) fn share(&self) -> Share<'_> {
        Share { budget: self, held: 0 }
    }
}

impl Share<'_> {
    /// The connection's buffers take this much now; false when that is too much.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE);
        let others = self.budget.used.get() - self.held;
        if wanted > self.held && others + wanted > TOTAL {
            return false;
        }
        self.budget.used.set(others + wanted);
        self.held = wanted;
        true
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_connections_always_fit_and_large_ones_give_back() {
        let budget = Budget::default();
        let mut large = budget.share();
        assert!(large.set(TOTAL + FREE));
        let mut other = budget.share();
        assert!(other.set(FREE));
        assert!(!other.set(FREE + 1));
        drop(large);
        assert!(other.set(FREE + 1));
    }
}
