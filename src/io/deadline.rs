//! Time-outs without timers: each connection has one deadline, and the thread looks for those that
//! passed a few times a second. Setting one is a store to memory.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::place::Place;

/// How exact deadlines are. Each tick is a wake-up of the thread while connections are open.
pub(crate) const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// The deadlines of a thread's connections.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    /// Milliseconds since `start`, as of the last tick.
    now: Cell<u64>,
    /// No deadline is earlier than this.
    soonest: Cell<u64>,
    entries: RefCell<Vec<Rc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    /// Where in `entries` this is.
    index: Cell<usize>,
    deadline: Cell<u64>,
    /// Of the whole request, whatever progress it makes.
    total: Cell<u64>,
    place: Place,
    waker: RefCell<Option<Waker>>,
}

/// A connection that is busy.
#[derive(Debug)]
pub(crate) struct Busy {
    /// The number of the upstream.
    pub(crate) whose: u64,
    /// Since when, in the thread's milliseconds.
    pub(crate) since: u64,
    entry: Rc<Entry>,
}

/// What a connection is busy with, for those who work for it.
#[derive(Debug, Clone)]
pub(crate) struct PlaceOf(Rc<Entry>);

/// The deadline of one connection; dropping it takes the connection off the list.
#[derive(Debug)]
pub(crate) struct Deadline {
    entry: Rc<Entry>,
    all: Rc<Deadlines>,
}

impl Deadlines {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            start: Instant::now(),
            now: Cell::new(0),
            soonest: Cell::new(NEVER),
            entries: RefCell::new(Vec::new()),
        })
    }

    /// Milliseconds since some moment, as of the last tick.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// The moment of the last tick.
    pub(crate) fn last_tick(&self) -> Instant {
        self.start + Duration::from_millis(self.now.get())
    }

    /// Number of connections.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// A connection without a deadline yet.
    pub(crate) fn add(self: &Rc<Self>) -> Deadline {
        let mut entries = self.entries.borrow_mut();
        let entry = Rc::new(Entry {
            index: Cell::new(entries.len()),
            deadline: Cell::new(NEVER),
            total: Cell::new(NEVER),
            place: Place::default(),
            waker: RefCell::new(None),
        });
        entries.push(Rc::clone(&entry));
        Deadline { entry, all: Rc::clone(self) }
    }

    /// Looks at the clock, and wakes every connection whose deadline has passed.
    pub(crate) fn tick(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER);
        self.now.set(now);
        if now < self.soonest.get() {
            return;
        }
        let mut soonest = NEVER;
        for entry in self.entries.borrow().iter() {
            let deadline = entry.deadline.get().min(entry.total.get());
            if deadline <= now {
                entry.wake();
            } else {
                soonest = soonest.min(deadline);
            }
        }
        self.soonest.set(soonest);
    }

    /// Wakes every connection, to see that the thread stops.
    pub(crate) fn wake_all(&self) {
        self.entries.borrow().iter().for_each(|e| e.wake());
    }

    /// All that are busy and not given up.
    pub(crate) fn busy(&self) -> Vec<Busy> {
        let entries = self.entries.borrow();
        let busy = entries.iter().filter_map(|entry| {
            let (whose, since) = entry.place.busy()?;
            Some(Busy { whose, since, entry: Rc::clone(entry) })
        });
        busy.collect()
    }

    fn at(&self, after: Duration) -> u64 {
        let after = u64::try_from(after.as_millis()).unwrap_or(NEVER);
        let at = self.now.get().saturating_add(after);
        self.soonest.set(self.soonest.get().min(at));
        at
    }
}

impl Busy {
    /// Has it end what it is busy with: at once, as if its time were over, where it does not look itself.
    pub(crate) fn give_up(&self) {
        if self.entry.place.give_up() {
            self.entry.total.set(0);
        }
        self.entry.wake();
    }
}

impl Entry {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Deadline {
    /// The thread's milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.all.now()
    }

    /// Sets the deadline so far from now.
    pub(crate) fn set(&self, after: Duration) {
        self.entry.deadline.set(self.all.at(after));
    }

    /// Sets the deadline of the request as a whole, or takes it away.
    pub(crate) fn set_total(&self, after: Option<Duration>) {
        self.entry.total.set(after.map_or(NEVER, |after| self.all.at(after)));
    }

    /// Whether the request as a whole is over time.
    pub(crate) fn total_passed(&self) -> bool {
        self.all.now() >= self.entry.total.get()
    }

    /// What the connection is busy with.
    pub(crate) fn place(&self) -> &Place {
        &self.entry.place
    }

    /// The same to be kept elsewhere.
    pub(crate) fn place_of(&self) -> PlaceOf {
        PlaceOf(Rc::clone(&self.entry))
    }

    /// Returns when the request as a whole is over time.
    pub(crate) fn total_over(&self) -> impl Future<Output = ()> + use<> {
        let (entry, all) = (Rc::clone(&self.entry), Rc::clone(&self.all));
        poll_fn(move |cx| {
            if all.now() >= entry.total.get() {
                return Poll::Ready(());
            }
            *entry.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Whether a deadline has passed; if not, the task is woken when one has.
    pub(crate) fn poll_passed(&self, cx: &mut Context<'_>) -> bool {
        if self.all.now() >= self.entry.deadline.get().min(self.entry.total.get()) {
            return true;
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        false
    }

    /// Polls until ready; `None` when that takes longer than this.
    pub(crate) async fn within<T>(
        &self,
        after: Duration,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let mut set = false;
        poll_fn(|cx| {
            if let Poll::Ready(ready) = poll(cx) {
                return Poll::Ready(Some(ready));
            }
            if !std::mem::replace(&mut set, true) {
                self.set(after);
            }
            if self.poll_passed(cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

impl std::ops::Deref for PlaceOf {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0.place
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut entries = self.all.entries.borrow_mut();
        let index = self.entry.index.get();
        entries.swap_remove(index);
        if let Some(moved) = entries.get(index) {
            moved.index.set(index);
        }
        if entries.is_empty() {
            entries.shrink_to(64); // what a flood of connections took is given back
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_wakes_its_connection_and_no_other() {
        let all = Deadlines::new();
        let (early, late) = (all.add(), all.add());
        let ticker = Rc::clone(&all);
        let tick = async move {
            loop {
                tokio::time::sleep(TICK).await;
                ticker.tick();
            }
        };
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let wait = async {
            let never = |_: &mut Context<'_>| Poll::<()>::Pending;
            assert_eq!(early.within(second, never).await, None);
            assert!(start.elapsed() >= second && start.elapsed() < second + 2 * TICK);
            assert_eq!(late.within(second * 3, never).await, None);
            assert!(start.elapsed() >= second * 4);
        };
        tokio::select! { () = wait => {}, () = tick => {} }
    }

    /// How often the tasks of some connections were woken.
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_woken_once_at_the_first_tick_behind_its_deadline() {
        let woken = std::sync::Arc::new(Woken(0.into()));
        let waker = Waker::from(std::sync::Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let times = || woken.0.swap(0, std::sync::atomic::Ordering::Relaxed);
        let all = Deadlines::new();
        let start = Instant::now();
        let (one, other) = (all.add(), all.add());
        let pass = async |ms| {
            tokio::time::advance(Duration::from_millis(ms)).await;
            all.tick();
        };
        one.set(Duration::from_millis(100));
        other.set_total(Some(Duration::from_millis(300)));
        assert!(!one.poll_passed(&mut cx) && !other.poll_passed(&mut cx));
        pass(99).await;
        assert_eq!(
            (times(), all.now(), all.last_tick()),
            (0, 99, start + Duration::from_millis(99))
        );
        pass(1).await;
        assert_eq!(times(), 1);
        assert!(one.poll_passed(&mut cx) && !one.total_passed());
        one.set(Duration::from_secs(10));
        pass(199).await;
        assert!(!other.total_passed() && !other.poll_passed(&mut cx));
        pass(1).await;
        assert_eq!(times(), 1);
        assert!(other.total_passed() && other.poll_passed(&mut cx));
        other.set_total(None);
        assert!(!other.total_passed() && !other.poll_passed(&mut cx), "it is taken away");
        assert!(!one.poll_passed(&mut cx));
        all.wake_all();
        assert_eq!(times(), 2);
        all.wake_all();
        assert_eq!(times(), 0, "nobody waits");
    }

    #[test]
    fn connections_come_and_go_in_any_order() {
        let all = Deadlines::new();
        let mut list: Vec<_> = (0..5).map(|_| all.add()).collect();
        assert_eq!(all.len(), 5);
        for index in [1, 3, 0, 1, 0] {
            drop(list.swap_remove(index));
            for (index, entry) in all.entries.borrow().iter().enumerate() {
                assert_eq!(entry.index.get(), index);
            }
        }
        assert_eq!(all.len(), 0);
    }
}
