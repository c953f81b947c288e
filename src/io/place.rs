//! What a client's connection is busy with: what others go by who wait for its place.
//!
//! While there are places enough nobody looks, so a request that begins or ends writes a number or two here, which
//! are beside its deadlines in memory, and that is all.

use std::cell::Cell;

/// What a connection is busy with.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// The number of the upstream that it has a request at; 0 for none.
    whose: Cell<u64>,
    /// Since when, in the thread's milliseconds.
    since: Cell<u64>,
    /// It has a way of its own to end what it is busy with.
    ends_itself: Cell<bool>,
    given_up: Cell<bool>,
}

impl Place {
    /// A request begins.
    pub(crate) fn work_for(&self, whose: u64, now: u64) {
        self.whose.set(whose);
        self.since.set(now);
    }

    /// It is over.
    pub(crate) fn rest(&self) {
        self.whose.set(0);
        self.ends_itself.set(false);
    }

    /// It is none of those that are over when their time is: it is looked at whether it is given up.
    pub(crate) fn end_itself(&self) {
        self.ends_itself.set(true);
    }

    /// Whether it is to end, because others wait for its place.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Whom it is busy for and since when, unless it is given up already.
    pub(super) fn busy(&self) -> Option<(u64, u64)> {
        let is_busy = self.whose.get() != 0 && !self.given_up.get();
        is_busy.then(|| (self.whose.get(), self.since.get()))
    }

    /// Has it end; true when somebody else has to see to that.
    pub(super) fn give_up(&self) -> bool {
        self.given_up.set(true);
        !self.ends_itself.get()
    }
}
