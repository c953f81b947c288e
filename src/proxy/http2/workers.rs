//! Tasks that serve streams, one after the other.
//!
//! A task is as large as all that a request can come to. One for each stream would be made, moved
//! about and thrown away at every request, and that took a tenth of a small request's time.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::super::local::Local;
use super::stream::{self, Job};
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
struct Seat {
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
}

/// Has a stream served.
pub(super) fn serve(local: &Rc<Local>, job: Job) {
    let idle = local.workers.0.borrow_mut().pop();
    if let Some(seat) = idle {
        *seat.job.borrow_mut() = Some(job);
        if let Some(waker) = &*seat.waker.borrow() {
            waker.wake_by_ref();
        }
        return;
    }
    let seat = Rc::new(Seat { job: RefCell::new(Some(job)), waker: RefCell::default() });
    tokio::task::spawn_local(work(Rc::clone(local), seat));
}

async fn work(local: Rc<Local>, seat: Rc<Seat>) {
    let mut deadline = local.deadlines.add();
    while let Some(job) = seat.next(&local, &deadline).await {
        // A stream that was given up has taken it along.
        let back = stream::serve(&local, job, deadline).await;
        deadline = back.unwrap_or_else(|| local.deadlines.add());
        let mut idle = local.workers.0.borrow_mut();
        if idle.len() >= IDLE {
            return;
        }
        idle.push(Rc::clone(&seat));
    }
}

impl Seat {
    /// The next stream; `None` when none comes.
    async fn next(self: &Rc<Self>, local: &Local, deadline: &Deadline) -> Option<Job> {
        let mut set = false;
        poll_fn(|cx| {
            if let Some(job) = self.job.borrow_mut().take() {
                return Poll::Ready(Some(job));
            }
            if !std::mem::replace(&mut set, true) {
                deadline.set(PATIENCE);
                let mut waker = self.waker.borrow_mut();
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
            }
            if !deadline.poll_passed(cx) && !local.stopping.get() {
                return Poll::Pending;
            }
            local.workers.0.borrow_mut().retain(|seat| !Rc::ptr_eq(seat, self));
            Poll::Ready(None)
        })
        .await
    }
}
