//! What waits in memory for a client to read it: bytes of bodies that were given to a connection and
//! not sent yet.
//!
//! Each stream may have [`super::SEND_BUFFER`] of them, which is little; a client that opens its windows,
//! asks for as many large responses as it may and reads nothing would hold it a hundred times over. So
//! a connection has a limit of its own, and a smaller one while all of a thread's hold much.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// Bytes of one connection.
const CONNECTION: usize = 1024 * 1024;
/// Bytes of all of a thread's connections, and of each of them when it is more.
const THREAD: usize = 64 * 1024 * 1024;
const SHARE: usize = 32 * 1024;

/// One connection's.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: Cell<usize>,
    /// By stream; there are few that have any.
    streams: RefCell<Vec<(u32, usize)>>,
    /// Streams that would give it more.
    wakers: RefCell<Vec<Waker>>,
    /// That of all of the thread's connections.
    thread: Rc<Cell<usize>>,
}

impl Backlog {
    pub(super) fn new(thread: &Rc<Cell<usize>>) -> Rc<Self> {
        Rc::new(Self {
            waiting: Cell::new(0),
            streams: RefCell::default(),
            wakers: RefCell::default(),
            thread: Rc::clone(thread),
        })
    }

    /// How many bytes may be given to it now. The task is woken when there may be some, if there may be
    /// none.
    pub(super) fn room(&self, cx: &Context<'_>) -> usize {
        let room = self.most().saturating_sub(self.waiting.get());
        if room == 0 {
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
        }
        room
    }

    /// A stream has given it so many.
    pub(super) fn given(&self, stream: u32, count: usize) {
        if count == 0 {
            return;
        }
        let mut streams = self.streams.borrow_mut();
        match streams.iter_mut().rev().find(|(id, _)| *id == stream) {
            Some((_, waiting)) => *waiting += count,
            None => streams.push((stream, count)),
        }
        self.waiting.set(self.waiting.get() + count);
        self.thread.set(self.thread.get() + count);
    }

    /// So many of a stream's are on their way to the client.
    pub(super) fn sent(&self, stream: u32, count: usize) {
        let mut streams = self.streams.borrow_mut();
        let Some(at) = streams.iter().position(|(id, _)| *id == stream) else { return };
        let waiting = &mut streams[at].1;
        let count = count.min(*waiting);
        *waiting -= count;
        if *waiting == 0 {
            streams.swap_remove(at);
        }
        drop(streams);
        self.take(count);
    }

    /// A stream was reset: what waited of it is thrown away.
    pub(super) fn reset(&self, stream: u32) {
        let mut streams = self.streams.borrow_mut();
        if let Some(at) = streams.iter().position(|(id, _)| *id == stream) {
            let (_, waiting) = streams.swap_remove(at);
            drop(streams);
            self.take(waiting);
        }
    }

    fn most(&self) -> usize {
        if self.thread.get() > THREAD { SHARE } else { CONNECTION }
    }

    fn take(&self, count: usize) {
        self.waiting.set(self.waiting.get() - count);
        self.thread.set(self.thread.get() - count);
        if self.waiting.get() < self.most() {
            self.wakers.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.thread.set(self.thread.get() - self.waiting.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(backlog: &Backlog) -> usize {
        backlog.room(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_connection_holds_so_much_and_no_more() {
        let thread = Rc::default();
        let backlog = Backlog::new(&thread);
        backlog.given(1, CONNECTION - 10);
        backlog.given(3, 10);
        assert_eq!((room(&backlog), backlog.wakers.borrow().len()), (0, 1));
        backlog.sent(3, 0);
        assert_eq!(backlog.wakers.borrow().len(), 1, "there is no room yet");
        backlog.sent(3, 4);
        assert_eq!((room(&backlog), backlog.wakers.borrow().len()), (4, 0), "it was woken");
        assert_eq!(thread.get(), CONNECTION - 4);
        backlog.given(1, 3);
        backlog.sent(1, 2);
        assert_eq!((room(&backlog), thread.get()), (3, CONNECTION - 3));
        backlog.sent(1, 1);
        assert_eq!(room(&backlog), 4);
        backlog.sent(3, 100);
        backlog.sent(3, 100);
        assert_eq!(room(&backlog), 10, "what nobody gave does not count");
        assert_eq!(backlog.streams.borrow()[..], [(1, 1_048_566)]);
        backlog.reset(1);
        backlog.reset(1);
        assert_eq!((room(&backlog), thread.get()), (CONNECTION, 0));
        assert!(backlog.streams.borrow().is_empty());
    }

    #[test]
    fn where_all_hold_much_each_may_hold_little() {
        let thread = Rc::new(Cell::new(67_108_864));
        assert_eq!(room(&Backlog::new(&thread)), 1_048_576);
        thread.set(67_108_865);
        assert_eq!(room(&Backlog::new(&thread)), 32_768);
        thread.set(0);
        let all: Vec<_> = (0..100).map(|_| Backlog::new(&thread)).collect();
        let mut given = 0;
        for backlog in &all {
            let count = room(backlog);
            backlog.given(1, count);
            given += count;
        }
        assert!(given <= THREAD + CONNECTION + all.len() * SHARE, "{given}");
        assert_eq!(thread.get(), given);
        drop(all);
        assert_eq!(thread.get(), 0);
    }
}
