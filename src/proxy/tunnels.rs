//! A thread's conversations without an end of their own, WebSockets and other tunnels and event streams,
//! and which of them a full front ends.
//!
//! They keep their client's place for as long as the two ends like. While clients wait for a place, the
//! upstream that has most of them gives up what is beyond its even share: else one app could take all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::Upstream;

/// So much of what is beyond the even share is ended at a time: more when clients still wait then.
const PART: usize = 8;

/// All of a thread's.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    begun: Cell<u64>,
    /// By age.
    open: RefCell<BTreeMap<u64, Tunnel>>,
}

#[derive(Debug)]
struct Tunnel {
    upstream: Arc<Upstream>,
    given_up: Rc<Cell<bool>>,
}

/// One of them, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Held {
    tunnels: Rc<Tunnels>,
    number: u64,
    given_up: Rc<Cell<bool>>,
}

/// What was given up.
#[derive(Debug)]
pub(crate) struct GivenUp {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) ended: usize,
    pub(crate) of: usize,
}

impl Tunnels {
    /// Counts one in.
    pub(crate) fn hold(self: &Rc<Self>, upstream: &Arc<Upstream>) -> Held {
        let number = self.begun.get();
        self.begun.set(number + 1);
        let given_up = Rc::<Cell<bool>>::default();
        let tunnel = Tunnel { upstream: Arc::clone(upstream), given_up: Rc::clone(&given_up) };
        self.open.borrow_mut().insert(number, tunnel);
        Held { tunnels: Rc::clone(self), number, given_up }
    }

    /// Gives up the oldest of the upstream that has most, where it has more than its share.
    pub(crate) fn give_up(&self, share: usize) -> Option<GivenUp> {
        let open = self.open.borrow();
        let staying = || open.values().filter(|tunnel| !tunnel.given_up.get());
        let mut counts = BTreeMap::new();
        for tunnel in staying() {
            *counts.entry(tunnel.upstream.name.as_str()).or_insert(0_usize) += 1;
        }
        let (name, of) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let ended = of.saturating_sub(share).div_ceil(PART);
        let mut last = None;
        for tunnel in staying().filter(|tunnel| tunnel.upstream.name == name).take(ended) {
            tunnel.given_up.set(true);
            last = Some(&tunnel.upstream);
        }
        last.map(|upstream| GivenUp { upstream: Arc::clone(upstream), ended, of })
    }
}

impl Held {
    /// Whether it is to end, because others wait for its place.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tunnels.open.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Balancing;

    fn upstream(name: &str) -> Arc<Upstream> {
        Arc::new(Upstream::new(name, Vec::new(), Balancing::default()))
    }

    fn staying(all: &[Held]) -> Vec<bool> {
        all.iter().map(|held| !held.is_given_up()).collect()
    }

    #[test]
    fn who_has_most_gives_up_the_oldest_down_to_his_share() {
        let tunnels = Rc::<Tunnels>::default();
        let (many, few) = (upstream("many"), upstream("few"));
        let of_few: Vec<_> = (0..3).map(|_| tunnels.hold(&few)).collect();
        let of_many: Vec<_> = (0..20).map(|_| tunnels.hold(&many)).collect();
        assert!(tunnels.give_up(20).is_none(), "nobody has more than his share");
        let given = tunnels.give_up(10).unwrap();
        assert_eq!((given.upstream.name.as_str(), given.ended, given.of), ("many", 2, 20));
        assert_eq!(staying(&of_many)[..4], [false, false, true, true]);
        let rounds = std::iter::from_fn(|| tunnels.give_up(10)).take(100).count();
        assert_eq!(rounds, 8, "it is less each time");
        assert_eq!(staying(&of_many).iter().filter(|stays| **stays).count(), 10);
        assert_eq!(staying(&of_few), [true; 3]);
        drop((of_many, of_few));
        assert!(tunnels.open.borrow().is_empty(), "what has ended is forgotten");
    }
}
