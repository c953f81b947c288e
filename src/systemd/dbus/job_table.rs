//! Which jobs are waited for, and how they ended. systemd says it once, of every job of the
//! machine, and may well say it before its answer to the call that made the job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The jobs that somebody waits for; shared by those who wait and the one who hears.
#[derive(Debug, Clone, Default)]
pub(super) struct JobTable {
    jobs: Arc<Mutex<Jobs>>,
}

#[derive(Debug, Default)]
struct Jobs {
    /// Calls whose answers will name a job.
    calls: usize,
    /// Results of jobs that nobody waits for yet, for as long as there are such calls.
    early: HashMap<String, String>,
    /// By job. Two calls can be given the same one.
    waited: HashMap<String, Vec<oneshot::Sender<String>>>,
    closed: bool,
}

/// A call that makes a job: while it is there, no result is missed.
#[derive(Debug)]
pub(super) struct Call<'a> {
    table: &'a JobTable,
}

// === impl JobTable ===

impl JobTable {
    /// To be called before the call is made.
    pub(super) fn call(&self) -> Call<'_> {
        self.lock().calls += 1;
        Call { table: self }
    }

    /// A job ended.
    pub(super) fn ended(&self, job: String, result: String) {
        let mut jobs = self.lock();
        for waits in jobs.waited.remove(&job).unwrap_or_default() {
            let _ = waits.send(result.clone()); // it may have gone away
        }
        if jobs.calls > 0 {
            jobs.early.insert(job, result);
        }
    }

    /// Nothing will be heard any more: whoever waits is told so, now and later.
    pub(super) fn close(&self) {
        let mut jobs = self.lock();
        jobs.closed = true;
        jobs.waited.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Call ===

impl Call<'_> {
    /// The result to come of the job that the answer names. It is an error when there will be none.
    pub(super) fn made(self, job: &str) -> oneshot::Receiver<String> {
        let (sender, receiver) = oneshot::channel();
        let mut jobs = self.table.lock();
        match jobs.early.get(job) {
            Some(result) => {
                let _ = sender.send(result.clone()); // the receiver is here
            }
            None if jobs.closed => {}
            None => jobs.waited.entry(job.to_owned()).or_default().push(sender),
        }
        drop(jobs);
        receiver
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut jobs = self.table.lock();
        jobs.calls -= 1;
        if jobs.calls == 0 {
            jobs.early = HashMap::new();
        }
        // Such as were waited for in vain, by somebody who has gone away.
        jobs.waited.retain(|_, waits| waits.iter().any(|sender| !sender.is_closed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(table: &JobTable, job: &str, result: &str) {
        table.ended(job.to_owned(), result.to_owned());
    }

    #[test]
    fn a_result_may_come_before_the_answer_and_after_it() {
        let table = JobTable::default();
        let (first, second) = (table.call(), table.call());
        end(&table, "/1", "done");
        let mut early = first.made("/1");
        let mut late = second.made("/2");
        assert!(late.try_recv().is_err());
        end(&table, "/2", "failed");
        assert_eq!(early.try_recv().as_deref(), Ok("done"));
        assert_eq!(late.try_recv().as_deref(), Ok("failed"));
    }

    #[test]
    fn two_may_wait_for_one_job() {
        let table = JobTable::default();
        let mut both = [table.call().made("/1"), table.call().made("/1")];
        end(&table, "/1", "canceled");
        for one in &mut both {
            assert_eq!(one.try_recv().as_deref(), Ok("canceled"));
        }
    }

    #[test]
    fn only_what_may_be_waited_for_is_kept() {
        let table = JobTable::default();
        end(&table, "/1", "done");
        assert!(table.lock().early.is_empty(), "nobody has called");
        let call = table.call();
        for n in 0..100 {
            end(&table, &format!("/{n}"), "done");
        }
        assert_eq!(table.lock().early.len(), 100);
        drop(call); // it failed
        assert!(table.lock().early.is_empty());
        drop(table.call().made("/7"));
        drop(table.call());
        assert!(table.lock().waited.is_empty(), "nobody waits any more");
    }

    #[test]
    fn nobody_waits_for_ever() {
        let table = JobTable::default();
        let mut waits = table.call().made("/1");
        let call = table.call();
        table.close();
        let mut later = call.made("/2");
        assert_eq!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(later.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
