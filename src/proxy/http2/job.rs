//! A client's stream that is to be served, and how its connection learns that it is over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::super::forwarded::Origin;
use super::meter::Meter;

/// A stream that is to be served.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request<RecvStream>,
    pub(super) answer: SendResponse<Bytes>,
    pub(super) origin: Origin,
    /// What tells the connection when it is over.
    pub(super) open: Open,
}

/// What a connection and its streams know of each other.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) meter: Rc<Meter>,
    pub(super) open: Cell<usize>,
    pub(super) waker: RefCell<Option<Waker>>,
}

/// One stream at work.
#[derive(Debug)]
pub(super) struct Open(Rc<Streams>);

impl Streams {
    pub(super) fn new(meter: &Rc<Meter>) -> Rc<Self> {
        Rc::new(Self { meter: Rc::clone(meter), open: Cell::new(0), waker: RefCell::default() })
    }

    /// Remembers whom to wake when the last stream has ended.
    pub(super) fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

impl Open {
    pub(super) fn new(shared: &Rc<Streams>) -> Self {
        shared.open.set(shared.open.get() + 1);
        Self(Rc::clone(shared))
    }

    pub(super) fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.0.meter)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0
            && let Some(waker) = &*self.0.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }
}
