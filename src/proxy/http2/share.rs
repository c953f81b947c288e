//! What a connection to a server and the requests on it know of each other.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) open: Cell<usize>,
    pub(super) ended: Cell<bool>,
    /// When it is closed unless it is used again, in the thread's milliseconds.
    pub(super) until: Cell<u64>,
    /// How long after its last request that is.
    pub(super) idle: Cell<u64>,
    pub(super) now: Cell<u64>,
}

/// One request's part of a connection.
#[derive(Debug)]
pub(super) struct Share(Rc<State>);

impl State {
    /// That of a new connection, which is kept so long after its last request.
    pub(super) fn new(idle: Duration, now: u64) -> Rc<Self> {
        let state = Self::default();
        state.now.set(now);
        state.idle.set(idle.max(Duration::from_millis(1)).as_millis() as u64);
        state.touch();
        Rc::new(state)
    }

    /// Counts a request in.
    pub(super) fn share(self: &Rc<Self>) -> Share {
        self.open.set(self.open.get() + 1);
        Share(Rc::clone(self))
    }

    fn touch(&self) {
        self.until.set(self.now.get().saturating_add(self.idle.get()));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.touch();
    }
}
