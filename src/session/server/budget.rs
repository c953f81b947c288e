//! What the buffers of all connections may take together.

use std::cell::RefCell;

use super::shares::{Holder, Pool};

/// Every connection may have this much without asking: the largest part of all sessions fits, so
/// that clients with large requests cannot take the room of the others.
pub(super) const FREE: usize = 16 * 1024;
/// What all connections together may have beyond that.
const TOTAL: usize = 256 * 1024 * 1024;

/// Bytes in use beyond [`FREE`] of each connection.
#[derive(Debug)]
pub(super) struct Budget(Pool);

/// One connection's part of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a Budget,
    holder: Holder,
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

impl Default for Budget {
    fn default() -> Self {
        Self(Pool::new(TOTAL))
    }
}

impl Budget {
    pub(super) fn share(&self, holder: Holder) -> Share<'_> {
        Share { budget: self, holder, held: 0 }
    }
}

impl Share<'_> {
    /// The connection's buffers take this much now; false when that is too much.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE);
        let may = wanted == self.held || self.budget.0.change(&self.holder, self.held, wanted);
        if may {
            self.held = wanted;
        }
        may
    }

    /// Goes on another account; false when it holds more than that one may have.
    pub(super) fn pass_to(&mut self, holder: Holder) -> bool {
        let held = self.held;
        self.set(0);
        self.holder = holder;
        self.set(if held == 0 { 0 } else { held + FREE })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_connections_always_fit_and_large_ones_give_back() {
        let budget = Budget::default();
        let mut large = budget.share(Holder::Administrator);
        assert!(large.set(TOTAL + FREE));
        let mut other = budget.share(Holder::Namespace("shop".to_owned()));
        assert!(other.set(FREE));
        assert!(!other.set(FREE + 1000));
        drop(large);
        assert!(other.set(FREE + 1000));
        assert!(other.set(FREE + 200 * 1024 * 1024), "the largest request with its reply");
        let mut third = budget.share(Holder::Namespace("blog".to_owned()));
        assert!(third.set(FREE + 40 * 1024 * 1024), "and another app has room beside it");
        assert!(third.pass_to(Holder::Administrator) && other.set(0));
    }
}
