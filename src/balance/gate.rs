//! Who may send a request to a server, and how many do: the part that all threads write.
//!
//! Small and by itself, so that its interleavings can be tried out exhaustively (`tests/balance_
//! gate.rs` includes this file with other atomics).

use super::atomics::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// No limit on the requests in flight.
pub(super) const UNLIMITED: u32 = u32::MAX;

/// The gate before one server.
#[derive(Debug)]
pub(super) struct Gate {
    /// Whatever number stands for "may have requests" is 0.
    state: AtomicU8,
    /// Grows each time the state returns to 0.
    incarnation: AtomicU32,
    /// Requests in flight, where somebody needs the number at once: see [`Gate::enter`].
    total: AtomicU32,
    limit: AtomicU32,
    trial: AtomicBool,
    threads: Box<[PerThread]>,
}

/// On a cache line of its own, so that threads do not contend.
#[derive(Debug)]
#[repr(align(64))]
struct PerThread(AtomicU32);

/// How a request wants to enter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    /// Whether the front-wide total counts it.
    pub(super) counted: bool,
    /// Whether it is the one request that tries a suspect server.
    pub(super) trial: bool,
    /// The highest state that lets it in: 0, or 1 for clients that a draining server still serves.
    pub(super) up_to: u8,
}

/// Why it was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The state forbids it.
    State,
    /// The limit is reached.
    Full,
    /// Another request is trying the server.
    Trial,
}

// === impl Gate ===

impl Gate {
    /// An open gate without a limit.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            state: AtomicU8::new(0),
            incarnation: AtomicU32::new(0),
            total: AtomicU32::new(0),
            limit: AtomicU32::new(UNLIMITED),
            trial: AtomicBool::new(false),
            threads: (0..threads).map(|_| PerThread(AtomicU32::new(0))).collect(),
        }
    }

    /// Lets a request of this thread in, or says why not. Who was let in must [`Self::leave`].
    ///
    /// It counts first and looks at the state second, a drain sets the state first and looks at
    /// the count second (all sequentially consistent): so either this sees the drain or the drain
    /// sees this.
    pub(super) fn enter(&self, thread: usize, entry: Entry) -> Result<(), Closed> {
        if entry.trial && !self.take_trial() {
            return Err(Closed::Trial);
        }
        if entry.counted && !self.take_place() {
            if entry.trial {
                self.trial.store(false, Ordering::Release);
            }
            return Err(Closed::Full);
        }
        self.threads[thread].0.fetch_add(1, Ordering::SeqCst);
        if self.state.load(Ordering::SeqCst) > entry.up_to {
            self.leave(thread, entry);
            return Err(Closed::State);
        }
        Ok(())
    }

    fn take_trial(&self) -> bool {
        self.trial.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Counts one more unless that is one too many. Never counts in vain: somebody who then turned
    /// back for nothing would wait for a place that nobody is going to leave.
    fn take_place(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut total = self.total.load(Ordering::Relaxed);
        while total < limit {
            match self.total.compare_exchange(total, total + 1, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => total = now,
            }
        }
        false
    }

    /// Counts a request out that entered with the same arguments.
    pub(super) fn leave(&self, thread: usize, entry: Entry) {
        if entry.counted {
            self.total.fetch_sub(1, Ordering::AcqRel);
        }
        self.threads[thread].0.fetch_sub(1, Ordering::SeqCst);
        if entry.trial {
            self.trial.store(false, Ordering::Release);
        }
    }

    /// Requests in flight, over all threads.
    pub(super) fn in_flight(&self) -> u32 {
        self.threads.iter().map(|t| t.0.load(Ordering::SeqCst)).sum()
    }

    /// Requests in flight as the limit sees them; may be off by those who are just turning back.
    pub(super) fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether a request that is counted would find no room.
    pub(super) fn is_full(&self) -> bool {
        self.total() >= self.limit.load(Ordering::Relaxed)
    }

    /// Whether there is a limit.
    pub(super) fn has_limit(&self) -> bool {
        self.limit.load(Ordering::Relaxed) != UNLIMITED
    }

    /// Sets the limit; requests in flight above it may finish.
    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether a trial request is under way.
    pub(super) fn in_trial(&self) -> bool {
        self.trial.load(Ordering::Acquire)
    }

    /// The state.
    pub(super) fn state(&self) -> u8 {
        self.state.load(Ordering::SeqCst)
    }

    /// Sets the state and returns the one before.
    pub(super) fn set_state(&self, state: u8) -> u8 {
        let before = self.state.swap(state, Ordering::SeqCst);
        if state == 0 && before != 0 {
            self.incarnation.fetch_add(1, Ordering::SeqCst);
        }
        before
    }

    /// How often the state has returned to 0.
    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation.load(Ordering::Relaxed)
    }
}
