//! The tasks that wait for a stream to serve.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::job::Job;
use crate::io::deadline::Deadline;

/// How many wait for work at most, some 5 KB each.
const IDLE: usize = 256;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// The tasks of a thread that wait for a stream; the last is the one that worked last.
#[derive(Debug, Default)]
pub(crate) struct Workers(RefCell<Vec<Rc<Seat>>>);

/// Where a task finds its next stream.
#[derive(Debug)]
pub(super) struct Seat {
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
}

impl Workers {
    /// Gives a stream to a task that waits; to the seat of a new one when none does.
    pub(super) fn give(&self, job: Job) -> Option<Rc<Seat>> {
        let Some(seat) = self.0.borrow_mut().pop() else {
            let job = RefCell::new(Some(job));
            return Some(Rc::new(Seat { job, waker: RefCell::default() }));
        };
        *seat.job.borrow_mut() = Some(job);
        if let Some(waker) = &*seat.waker.borrow() {
            waker.wake_by_ref();
        }
        None
    }

    /// Has a task wait; false when enough do.
    pub(super) fn wait(&self, seat: &Rc<Seat>) -> bool {
        let mut idle = self.0.borrow_mut();
        let few = idle.len() < IDLE;
        if few {
            idle.push(Rc::clone(seat));
        }
        few
    }

    /// The next stream of a task; `None` when none comes.
    pub(super) async fn next(
        &self,
        seat: &Rc<Seat>,
        deadline: &Deadline,
        stopping: &Cell<bool>,
    ) -> Option<Job> {
        let mut set = false;
        poll_fn(|cx| {
            if let Some(job) = seat.job.borrow_mut().take() {
                return Poll::Ready(Some(job));
            }
            if !std::mem::replace(&mut set, true) {
                deadline.set(PATIENCE);
                let mut waker = seat.waker.borrow_mut();
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
            }
            if !deadline.poll_passed(cx) && !stopping.get() {
                return Poll::Pending;
            }
            self.0.borrow_mut().retain(|idle| !Rc::ptr_eq(idle, seat));
            Poll::Ready(None)
        })
        .await
    }
}
