//! Every interleaving of what threads do at the gate before a server, and of what they count as
//! theirs, tried out by loom.

#![allow(dead_code, reason = "both are included whole, only their core is tried out")]

/// The gate uses these instead of the standard library's.
///
/// loom takes sequentially consistent operations for acquire and release only. Fences it does model
/// fully, so here they stand around the operations that ask for the one order that all agree on.
mod atomics {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::sync::atomic::{AtomicU8 as U8, AtomicU32 as U32, fence};

    fn fenced<T>(ordering: Ordering, operation: impl FnOnce() -> T) -> T {
        if ordering != Ordering::SeqCst {
            return operation();
        }
        fence(Ordering::SeqCst);
        let result = operation();
        fence(Ordering::SeqCst);
        result
    }

    #[derive(Debug)]
    pub(super) struct AtomicU8(U8);

    impl AtomicU8 {
        pub(super) fn new(value: u8) -> Self {
            Self(U8::new(value))
        }
        pub(super) fn load(&self, ordering: Ordering) -> u8 {
            fenced(ordering, || self.0.load(ordering))
        }
        pub(super) fn swap(&self, value: u8, ordering: Ordering) -> u8 {
            fenced(ordering, || self.0.swap(value, ordering))
        }
    }

    #[derive(Debug)]
    pub(super) struct AtomicU32(U32);

    impl AtomicU32 {
        pub(super) fn new(value: u32) -> Self {
            Self(U32::new(value))
        }
        pub(super) fn load(&self, ordering: Ordering) -> u32 {
            fenced(ordering, || self.0.load(ordering))
        }
        pub(super) fn store(&self, value: u32, ordering: Ordering) {
            fenced(ordering, || self.0.store(value, ordering));
        }
        pub(super) fn fetch_add(&self, value: u32, ordering: Ordering) -> u32 {
            fenced(ordering, || self.0.fetch_add(value, ordering))
        }
        pub(super) fn fetch_sub(&self, value: u32, ordering: Ordering) -> u32 {
            fenced(ordering, || self.0.fetch_sub(value, ordering))
        }
        pub(super) fn compare_exchange(
            &self,
            old: u32,
            new: u32,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u32, u32> {
            self.0.compare_exchange(old, new, success, failure)
        }
    }
}
#[path = "../../src/balance/gate.rs"]
mod gate;
#[path = "../../src/front/presence.rs"]
mod presence;

use gate::{Closed, Entry, Gate};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use presence::Presence;

const COUNTED: Entry = Entry { counted: true, trial: false, up_to: 0 };

/// Whoever drains either keeps a request out or sees it: never neither.
#[test]
fn a_drain_and_a_request_never_miss_each_other() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(1));
        let request = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.enter(0, Entry::default()).is_ok()
        });
        gate.set_state(1);
        let seen = gate.in_flight();
        let entered = request.join().expect("it does not panic");
        // Seen and turned back is fine: the drain waits a moment longer.
        assert!(!entered || seen == 1, "the drain went by a request");
        assert_eq!(gate.in_flight(), u32::from(entered));
    });
}

/// The limit holds, and nobody is turned away from a place that is free for good.
#[test]
fn a_limit_is_never_exceeded_and_never_wasted() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(2));
        gate.set_limit(1);
        let inside = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let visit = |thread: usize| {
            let (gate, inside, refused) =
                (Arc::clone(&gate), Arc::clone(&inside), Arc::clone(&refused));
            move || match gate.enter(thread, COUNTED) {
                Ok(()) => {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    gate.leave(thread, COUNTED);
                }
                Err(closed) => {
                    assert_eq!(closed, Closed::Full);
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let other = thread::spawn(visit(0));
        visit(1)();
        other.join().expect("it does not panic");
        assert!(refused.load(Ordering::SeqCst) < 2, "both were refused: who took the place?");
        assert_eq!((gate.total(), gate.in_flight()), (0, 0));
    });
}

/// Of two that want to try a suspect, one does, and when it is done another may.
#[test]
fn one_trial_at_a_time() {
    loom::model(|| {
        let gate = Arc::new(Gate::new(2));
        let trial = Entry { counted: false, trial: true, up_to: 0 };
        let trying = Arc::new(AtomicBool::new(false));
        let visit = |thread: usize| {
            let (gate, trying) = (Arc::clone(&gate), Arc::clone(&trying));
            move || {
                let entered = gate.enter(thread, trial);
                if entered.is_ok() {
                    assert!(!trying.swap(true, Ordering::SeqCst), "two at once");
                    trying.store(false, Ordering::SeqCst);
                    gate.leave(thread, trial);
                }
                entered.is_ok()
            }
        };
        let other = thread::spawn(visit(0));
        let mine = visit(1)();
        let theirs = other.join().expect("it does not panic");
        assert!(mine || theirs, "nobody tried it");
        assert!(!gate.in_trial() && gate.enter(0, trial).is_ok());
    });
}

/// A connection that was handed over is on its way or open until it is closed: a shutdown that sees
/// none has none to cut off.
#[test]
fn a_connection_that_was_handed_over_is_never_missed() {
    loom::model(|| {
        let presence = Arc::new(Presence::default());
        presence.hand(2);
        let thread = thread::spawn({
            let presence = Arc::clone(&presence);
            move || {
                presence.arrive(2);
                presence.close();
            }
        });
        assert!(presence.all() > 0, "a shutdown would cut the other one off");
        thread.join().expect("it does not panic");
        assert_eq!((presence.all(), presence.now_open()), (1, 1));
    });
}
