//! What one namespace may take of what all of them share: connections, and memory for buffers.
//!
//! Nobody has a fixed part. A namespace may have four times of what is then still free, so alone it
//! has four fifths, and two that want all have four ninths each; and something is always left for
//! the next one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::session::command::{Client, Identity};

/// So many times of what is free afterwards.
const TIMES: usize = 4;

/// Whoever has not authenticated has this part at most, and no more than is free afterwards.
const STRANGERS: usize = 4;

/// On whose account it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// Of whoever runs the store: never refused before all is gone.
    Administrator,
    /// Of clients that see this namespace.
    Namespace(String),
    /// Of clients over TCP that have not authenticated.
    Stranger,
}

/// What is shared.
#[derive(Debug)]
pub(super) struct Pool {
    total: usize,
    used: Cell<usize>,
    by: RefCell<BTreeMap<Holder, Rc<Cell<usize>>>>,
}

// === impl Holder ===

impl Holder {
    /// Whose account a client's is.
    pub(super) fn of(client: &Client) -> Self {
        match &client.identity {
            Identity::Admin => Self::Administrator,
            Identity::Remote if !client.authenticated => Self::Stranger,
            Identity::Remote | Identity::Worker(_) => {
                Self::Namespace(client.namespace().to_owned())
            }
        }
    }

    /// Whether it is still this client's.
    pub(super) fn is_of(&self, client: &Client) -> bool {
        match (self, &client.identity) {
            (Self::Administrator, Identity::Admin) => true,
            (Self::Stranger, _) => !client.authenticated,
            (Self::Namespace(own), _) => client.authenticated && own == client.namespace(),
            (Self::Administrator, _) => false,
        }
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(total: usize) -> Self {
        Self { total, used: Cell::new(0), by: RefCell::default() }
    }

    /// Has a holder's account go from `before` to `after`; false when that is too much for it. Less
    /// than before is never too much.
    pub(super) fn change(&self, holder: &Holder, before: usize, after: usize) -> bool {
        let mut by = self.by.borrow_mut();
        let present = by.get(holder).map_or(0, |own| own.get());
        let own = present.saturating_sub(before) + after;
        let used = self.used.get().saturating_sub(before) + after;
        if after > before && !self.allows(holder, own, used) {
            return false;
        }
        self.used.set(used);
        if let Some(account) = by.get(holder) {
            account.set(own);
        } else if own != 0 {
            by.insert(holder.clone(), Rc::new(Cell::new(own)));
        }
        if own == 0 {
            by.remove(holder);
        }
        true
    }

    /// What a holder has, now and later.
    pub(super) fn held(&self, holder: &Holder) -> Rc<Cell<usize>> {
        self.by.borrow().get(holder).map(Rc::clone).unwrap_or_default()
    }

    fn allows(&self, holder: &Holder, own: usize, used: usize) -> bool {
        let Some(free) = self.total.checked_sub(used) else { return false };
        match holder {
            Holder::Administrator => true,
            // One is always had while there is any.
            Holder::Namespace(_) => own <= free.saturating_mul(TIMES).max(1),
            Holder::Stranger => own <= (self.total / STRANGERS).min(free).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Holder {
        Holder::Namespace(name.to_owned())
    }

    /// As many as it gets, one by one.
    fn takes(pool: &Pool, holder: &Holder) -> usize {
        (0..10_000).take_while(|_| pool.change(holder, 0, 1)).count()
    }

    #[test]
    fn something_is_left_for_the_next_one() {
        let pool = Pool::new(1000);
        assert_eq!(takes(&pool, &namespace("a")), 800);
        assert_eq!(takes(&pool, &namespace("b")), 160);
        assert_eq!(takes(&pool, &namespace("c")), 32);
        assert_eq!(takes(&pool, &Holder::Administrator), 8);
        assert!(!pool.change(&namespace("d"), 0, 1), "all is gone");
        for _ in 0..700 {
            assert!(pool.change(&namespace("a"), 1, 0));
        }
        assert_eq!(takes(&pool, &namespace("a")), 540, "and is had again");
    }

    #[test]
    fn strangers_have_a_quarter_at_most() {
        let pool = Pool::new(1000);
        assert_eq!(takes(&pool, &Holder::Stranger), 250);
        assert_eq!(takes(&pool, &namespace("a")), 600);
        let pool = Pool::new(1000);
        takes(&pool, &namespace("a"));
        assert_eq!(takes(&pool, &Holder::Stranger), 100, "half of what is free");
        assert_eq!(takes(&pool, &namespace("b")), 80);
    }

    #[test]
    fn the_smallest_pool_is_had() {
        let pool = Pool::new(1);
        assert_eq!(takes(&pool, &namespace("a")), 1);
        assert!(pool.change(&namespace("a"), 1, 0));
        assert_eq!(takes(&pool, &Holder::Stranger), 1);
    }
}
