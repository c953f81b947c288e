//! Whose turn it is: one request that takes long at a time, and of those that wait, that of the holder that has
//! taken least.
//!
//! As long as little is done between two looks at the sockets, everybody goes on at once and this costs a
//! comparison. Who comes when more was done waits in a queue of its holder's; then the sockets are looked at, so
//! that all that have come meanwhile wait as well (and the watchdog hears of us), and one after the other is
//! let go on. The order is that of start-time fair queueing: a holder's time is what it has taken so far, and whoever
//! comes back begins at the time of whose turn it is. So however many connections a holder has, and however
//! much they ask for, they have one turn for one of every other.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::yield_now;

use super::shares::Holder;

/// Steps after which the sockets are to be looked at: some milliseconds. Of those that wait nobody goes on before.
const DUE: u64 = 1_000_000;
/// Steps after which everybody waits for that.
const SLICE: u64 = 2 * DUE;

/// All turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    accounts: RefCell<BTreeMap<Holder, Rc<Account>>>,
    /// Those of whom somebody waits.
    ready: RefCell<Vec<Rc<Account>>>,
    /// The time of whose turn it is.
    time: Cell<u64>,
    /// Steps since the sockets were looked at.
    taken: Cell<u64>,
    /// Somebody was let go on and has not begun.
    granted: Cell<bool>,
    /// The sockets are to be looked at.
    due: Notify,
}

/// What a holder has taken, and its connections that wait.
#[derive(Debug, Default)]
pub(super) struct Account {
    time: Cell<u64>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Debug, Default)]
struct Waiter {
    state: Cell<State>,
    granted: Notify,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waits,
    Granted,
    Begun,
    /// It is skipped when its turn comes.
    Gone,
}

/// What a connection has while it waits.
struct Waiting<'a> {
    turns: &'a Turns,
    waiter: Rc<Waiter>,
}

/// A turn; it ends when this is dropped, before its connection waits for anything else.
pub(super) struct OnTurn<'a> {
    turns: &'a Turns,
    account: Rc<Account>,
    /// Whether others had theirs before.
    pub(super) has_waited: bool,
    /// What it has taken.
    pub(super) steps: u64,
}

impl Turns {
    /// The account of a holder.
    pub(super) fn account(&self, holder: &Holder) -> Rc<Account> {
        let mut accounts = self.accounts.borrow_mut();
        // Those that nobody has any more and that owe nothing.
        let time = self.time.get();
        accounts.retain(|_, known| Rc::strong_count(known) > 1 || known.time.get() > time);
        Rc::clone(accounts.entry(holder.clone()).or_default())
    }

    /// Waits until it is the turn of a connection of this holder.
    pub(super) async fn begin(&self, account: Rc<Account>) -> OnTurn<'_> {
        let has_waited = self.is_contended() || self.taken.get() >= SLICE;
        if has_waited {
            self.wait(&account).await;
        }
        self.time.set(self.time.get().max(account.time.get()));
        OnTurn { turns: self, account, has_waited, steps: 0 }
    }

    /// Whether others wait for their turn.
    pub(super) fn is_contended(&self) -> bool {
        self.granted.get() || !self.ready.borrow().is_empty()
    }

    async fn wait(&self, account: &Rc<Account>) {
        let waiter = Rc::<Waiter>::default();
        {
            let mut waiting = account.waiting.borrow_mut();
            if waiting.is_empty() {
                self.ready.borrow_mut().push(Rc::clone(account));
            }
            waiting.push_back(Rc::clone(&waiter));
        }
        self.go_on();
        let waiting = Waiting { turns: self, waiter };
        waiting.waiter.granted.notified().await;
        waiting.waiter.state.set(State::Begun);
        self.granted.set(false);
    }

    /// A turn has taken so many steps.
    fn end(&self, account: &Account, steps: u64) {
        account.time.set(self.time.get() + steps);
        let taken = self.taken.get() + steps;
        self.taken.set(taken);
        if taken >= DUE {
            self.due.notify_one();
        }
        self.go_on();
    }

    /// Lets the next one go on, or has the sockets looked at before.
    fn go_on(&self) {
        if self.granted.get() {
            return;
        }
        if self.taken.get() >= DUE {
            self.due.notify_one();
            return;
        }
        while let Some(next) = self.next() {
            if next.state.get() == State::Waits {
                next.state.set(State::Granted);
                self.granted.set(true);
                next.granted.notify_one();
                return;
            }
        }
    }

    /// The connection that has waited longest, of the holder that has taken least.
    fn next(&self) -> Option<Rc<Waiter>> {
        let mut ready = self.ready.borrow_mut();
        let now = self.time.get();
        let times = ready.iter().enumerate();
        let (index, _) = times.min_by_key(|(_, account)| account.time.get().max(now))?;
        let account = ready.remove(index);
        let next = account.waiting.borrow_mut().pop_front();
        let more = !account.waiting.borrow().is_empty();
        if more {
            ready.push(account); // behind those that have taken as little
        }
        next
    }

    /// Looks at the sockets whenever that is due. To yield does it: the runtime does so before this goes on, and
    /// whoever is woken by it has a place before this one.
    pub(super) async fn look_at_sockets(&self) -> ! {
        loop {
            self.due.notified().await;
            yield_now().await;
            self.taken.set(0);
            self.go_on();
        }
    }
}

impl Drop for OnTurn<'_> {
    fn drop(&mut self) {
        self.turns.end(&self.account, self.steps);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        match self.waiter.state.replace(State::Gone) {
            State::Granted => {
                self.turns.granted.set(false);
                self.turns.go_on();
            }
            State::Waits | State::Begun | State::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const LONG: u64 = 50_000_000;
    const SHORT: u64 = 1000;

    /// Who has had turns, one after the other.
    type Log = Rc<RefCell<Vec<&'static str>>>;

    fn holder(name: &str) -> Holder {
        Holder::Namespace(name.to_owned())
    }

    /// Takes so many turns.
    async fn take(turns: Rc<Turns>, name: &'static str, count: usize, steps: u64, log: Log) {
        let account = turns.account(&holder(name));
        for _ in 0..count {
            let mut turn = turns.begin(Rc::clone(&account)).await;
            turn.steps = steps;
            log.borrow_mut().push(name);
            drop(turn);
            yield_now().await;
        }
    }

    async fn with_turns<F: Future>(test: impl FnOnce(Rc<Turns>, Log) -> F) -> F::Output {
        let (turns, log) = (Rc::<Turns>::default(), Log::default());
        LocalSet::new()
            .run_until(async {
                let looking = Rc::clone(&turns);
                spawn_local(async move { looking.look_at_sockets().await });
                test(turns, log).await
            })
            .await
    }

    #[tokio::test]
    async fn whoever_comes_waits_for_no_more_than_the_turn_at_hand() {
        with_turns(|turns, log| async move {
            for _ in 0..200 {
                spawn_local(take(Rc::clone(&turns), "greedy", 4, LONG, Rc::clone(&log)));
            }
            for _ in 0..20 {
                for _ in 0..7 {
                    yield_now().await;
                }
                let before = log.borrow().len();
                take(Rc::clone(&turns), "shop", 1, SHORT, Rc::clone(&log)).await;
                let had = log.borrow()[before..].iter().filter(|name| **name == "greedy").count();
                assert!(had <= 2, "{had} turns of another's came before");
            }
        })
        .await;
    }

    /// What systemd's watchdog hears of, and new connections, are looked after from there.
    #[tokio::test]
    async fn the_sockets_are_looked_at_after_each_turn_that_takes_long() {
        with_turns(|turns, log| async move {
            for name in ["a", "b", "c"] {
                for _ in 0..100 {
                    spawn_local(take(Rc::clone(&turns), name, 2, LONG, Rc::clone(&log)));
                }
            }
            let mut seen = 0;
            while seen < 600 {
                yield_now().await;
                let now = log.borrow().len();
                assert!(now - seen <= 1, "{} turns at once", now - seen);
                seen = now;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn each_holder_has_as_much_as_the_others_however_many_connections_it_has() {
        with_turns(|turns, log| async move {
            for (name, connections, steps) in
                [("a", 100, LONG), ("b", 3, LONG), ("c", 1, LONG / 10)]
            {
                for _ in 0..connections {
                    spawn_local(take(Rc::clone(&turns), name, 1000, steps, Rc::clone(&log)));
                }
            }
            while log.borrow().len() < 120 {
                yield_now().await;
            }
            let count = |name| log.borrow().iter().filter(|known| **known == name).count();
            let (a, b, c) = (count("a"), count("b"), count("c"));
            assert!(a.abs_diff(b) <= 2 && c.abs_diff(10 * b) <= 12, "{a} and {b} long, {c} short");
        })
        .await;
    }

    /// Nobody falls behind for what he took while nobody else wanted anything.
    #[tokio::test]
    async fn what_was_taken_while_nobody_waited_is_not_owed() {
        with_turns(|turns, log| async move {
            take(Rc::clone(&turns), "a", 100, LONG, Rc::clone(&log)).await;
            log.borrow_mut().clear();
            for name in ["a", "b"] {
                for _ in 0..3 {
                    spawn_local(take(Rc::clone(&turns), name, 100, LONG, Rc::clone(&log)));
                }
            }
            while log.borrow().len() < 20 {
                yield_now().await;
            }
            let of_a = log.borrow().iter().filter(|name| **name == "a").count();
            assert!((9..=11).contains(&of_a), "{of_a} of 20");
        })
        .await;
    }

    /// A connection that ends while it waits, or when it has just been let go on, keeps nobody waiting.
    #[tokio::test]
    async fn who_goes_away_is_passed_over() {
        with_turns(|turns, log| async move {
            let gone: Vec<_> = (0..50)
                .map(|_| spawn_local(take(Rc::clone(&turns), "gone", 9, LONG, Rc::clone(&log))))
                .collect();
            for (number, gone) in gone.into_iter().enumerate() {
                for _ in 0..number % 5 {
                    yield_now().await;
                }
                gone.abort();
            }
            yield_now().await;
            log.borrow_mut().clear();
            take(Rc::clone(&turns), "shop", 3, LONG, Rc::clone(&log)).await;
            assert_eq!(*log.borrow(), ["shop"; 3]);
            assert!(!turns.is_contended());
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_short_waits_for_nobody() {
        let turns = Turns::default();
        let account = turns.account(&holder("shop"));
        for _ in 0..1000 {
            let mut turn = turns.begin(Rc::clone(&account)).await;
            assert!(!turn.has_waited);
            turn.steps = SHORT;
        }
    }
}
