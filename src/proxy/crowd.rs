//! Which connections a full front gives up.
//!
//! Those with a request in flight keep their place for as long as client and server like, WebSockets and event
//! streams among them. While clients wait for a place, the upstream that has most of them gives up what is beyond
//! its even share, of whatever kind: else one app could take all. Who has no more than that share loses nothing.

use std::collections::BTreeMap;

use crate::io::deadline::{Busy, Deadlines};

/// So much of what is beyond the even share is ended at a time: more when clients still wait then.
const PART: usize = 8;

/// What was given up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    /// The number of the upstream.
    pub(super) whose: u64,
    pub(super) ended: usize,
    pub(super) of: usize,
}

/// Gives up the oldest of the upstream that has most, where it has more than its share.
pub(super) fn give_up(all: &Deadlines, share: usize) -> Option<GivenUp> {
    let busy = all.busy();
    let mut counts = BTreeMap::new();
    for connection in &busy {
        *counts.entry(connection.whose).or_insert(0_usize) += 1;
    }
    let (whose, of) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let ended = of.saturating_sub(share).div_ceil(PART);
    let mut theirs: Vec<_> = busy.into_iter().filter(|busy| busy.whose == whose).collect();
    theirs.sort_by_key(|busy| busy.since);
    theirs.iter().take(ended).for_each(Busy::give_up);
    (ended > 0).then_some(GivenUp { whose, ended, of })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::deadline::Deadline;

    const MANY: u64 = 7;
    const FEW: u64 = 8;

    fn busy(all: &std::rc::Rc<Deadlines>, whose: u64, count: u64) -> Vec<Deadline> {
        let begin = |since| {
            let connection = all.add();
            connection.place().work_for(whose, since);
            connection
        };
        (0..count).rev().map(begin).collect()
    }

    fn staying(all: &[Deadline]) -> Vec<bool> {
        all.iter().map(|connection| !connection.place().is_given_up()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_most_gives_up_the_oldest_down_to_his_share() {
        let all = Deadlines::new();
        let of_few = busy(&all, FEW, 3);
        let of_many = busy(&all, MANY, 20);
        let idle = busy(&all, MANY, 40);
        for connection in &idle {
            connection.place().rest();
        }
        assert!(give_up(&all, 20).is_none(), "nobody has more than his share");
        let given = GivenUp { whose: MANY, ended: 2, of: 20 };
        assert_eq!(give_up(&all, 10), Some(given));
        assert_eq!(
            staying(&of_many)[16..],
            [true, true, false, false],
            "the oldest began last here"
        );
        let rounds = std::iter::from_fn(|| give_up(&all, 10)).take(100).count();
        assert_eq!(rounds, 8, "it is less each time");
        assert_eq!(staying(&of_many).iter().filter(|stays| **stays).count(), 10);
        assert_eq!(staying(&of_few), [true; 3]);
        assert_eq!(staying(&idle), [true; 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_over_time_when_it_is_given_up_and_a_conversation_ends_itself() {
        let all = Deadlines::new();
        let connections = busy(&all, MANY, 2);
        connections[0].place().end_itself();
        give_up(&all, 0).unwrap();
        give_up(&all, 0).unwrap();
        assert_eq!(staying(&connections), [false, false]);
        assert!(!connections[0].total_passed() && connections[1].total_passed());
        connections[1].set_total(None);
        assert!(!connections[1].total_passed(), "what comes next, if anything, has its time");
    }
}
