//! Tasks that serve streams, one after the other.
//!
//! A task is as large as all that a request can come to. One for each stream would be made, moved
//! about and thrown away at every request, and that took a tenth of a small request's time.

use std::rc::Rc;

use super::super::local::Local;
use super::job::Job;
use super::stream;
use super::workers::Seat;

/// Has a stream served.
pub(super) fn serve(local: &Rc<Local>, job: Job) {
    if let Some(seat) = local.workers.give(job) {
        tokio::task::spawn_local(work(Rc::clone(local), seat));
    }
}

async fn work(local: Rc<Local>, seat: Rc<Seat>) {
    let mut deadline = local.deadlines.add();
    while let Some(job) = local.workers.next(&seat, &deadline, &local.stopping).await {
        // A stream that was given up has taken it along.
        let back = stream::serve(&local, job, deadline).await;
        deadline = back.unwrap_or_else(|| local.deadlines.add());
        if !local.workers.wait(&seat) {
            return;
        }
    }
}
