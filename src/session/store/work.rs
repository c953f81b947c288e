//! What the request at hand costs beyond its own size: nobody else is served meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use thiserror::Error;

/// Steps that one request may take, or one transaction with all that is in it: a few tenths of a second.
pub(crate) const MOST: u64 = 50_000_000;
/// Steps after which it is time that others have their turn.
const LONG: u64 = 1_000_000;

/// Bytes that are copied in a step.
const BYTES: usize = 4;

/// The steps of one request or transaction so far. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work(Rc<Steps>);

#[derive(Debug)]
struct Steps {
    spent: Cell<u64>,
    most: Cell<u64>,
}

/// What takes steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// To compare a byte of a name with a pattern, or to touch some bytes that lie together.
    Compare,
    /// To read an element of a collection.
    Read,
    /// To look at a key on a walk over all.
    Visit,
    /// To look for a key.
    Find,
    /// To make an element anew, or to look for it in another collection.
    Copy,
}

/// A request needs more steps than it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{} takes too long: a request, or a transaction as a whole, may {} at most; {}",
    .0.words().0, .0.most(), .0.words().1
)]
pub struct TooMuch(Task);

impl Default for Steps {
    fn default() -> Self {
        Self { spent: Cell::new(0), most: Cell::new(MOST) }
    }
}

// === impl Work ===

impl Work {
    /// A new request begins.
    pub(crate) fn begin(&self) {
        self.0.spent.set(0);
    }

    /// The steps so far.
    pub(crate) fn spent(&self) -> u64 {
        self.0.spent.get()
    }

    /// Has each request have fewer steps, for tests with less data.
    #[cfg(test)]
    pub(crate) fn allow(&self, most: u64) {
        self.0.most.set(most);
    }

    /// The steps that were taken: what is refused for being too many is not done.
    pub(crate) fn taken(&self) -> u64 {
        self.spent().min(2 * MOST)
    }

    /// The steps that are left.
    pub(crate) fn left(&self) -> u64 {
        self.0.most.get().saturating_sub(self.spent())
    }

    /// Counts what is done in any case.
    pub(crate) fn note(&self, task: Task, count: usize) {
        let steps = (count as u64).saturating_mul(task.steps());
        self.0.spent.set(self.spent().saturating_add(steps));
    }

    /// Counts what is about to be done; an error says that it may not be.
    pub(crate) fn spend(&self, task: Task, count: usize) -> Result<(), TooMuch> {
        self.note(task, count);
        if self.is_spent() { Err(TooMuch(task)) } else { Ok(()) }
    }

    /// Counts bytes that are read from the file, or made.
    pub(crate) fn note_bytes(&self, bytes: usize) {
        self.note(Task::Compare, bytes / BYTES);
    }

    /// An error if no more may be done.
    pub(crate) fn go_on(&self, task: Task) -> Result<(), TooMuch> {
        self.spend(task, 0)
    }

    /// Whether no more may be done.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent() > self.0.most.get()
    }

    /// Whether others have waited for long.
    pub(crate) fn is_long(&self) -> bool {
        is_long(self.spent())
    }
}

/// Whether others wait for long while so many steps are taken.
pub(crate) fn is_long(steps: u64) -> bool {
    steps > LONG
}

// === impl Task ===

impl Task {
    /// How many steps it takes: one is about two nanoseconds, and what is not at hand takes many.
    fn steps(self) -> u64 {
        match self {
            Self::Compare => 1,
            Self::Read => 10,
            Self::Visit => 40,
            Self::Copy => 50,
            Self::Find => 400,
        }
    }

    fn most(self) -> String {
        let most = MOST / self.steps();
        match self {
            Self::Compare => format!("take {most} steps of comparing"),
            Self::Read => format!("pick {most} elements"),
            Self::Visit => format!("look at {most} keys"),
            Self::Copy => format!("combine, copy or take out {most} elements"),
            Self::Find => format!("look for {most} keys"),
        }
    }

    /// What somebody does, and what to do instead.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Compare => {
                ("comparing with the pattern", "use a simpler one, or SCAN with a smaller COUNT")
            }
            Self::Read => ("this", "ask for fewer at once"),
            Self::Visit => ("this", "use SCAN"),
            Self::Copy | Self::Find => ("this", "name fewer or smaller keys at once"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_so_many_steps_for_all_that_it_does_and_the_next_one_as_many() {
        let work = Work::default();
        work.begin();
        assert_eq!(work.spend(Task::Copy, 500_000), Ok(()));
        assert_eq!(work.clone().spend(Task::Read, 2_500_000), Ok(()));
        let refused = work.spend(Task::Compare, 1).unwrap_err();
        assert!(refused.to_string().contains("50000000 steps"), "{refused}");
        assert!(work.is_spent());
        work.begin();
        assert!(!work.is_spent() && !work.is_long());
        let refused = work.spend(Task::Copy, usize::MAX).unwrap_err().to_string();
        assert!(refused.contains("1000000 elements"), "{refused}");
        assert!(work.taken() <= 2 * MOST, "nothing of it was done");
    }
}
