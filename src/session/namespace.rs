//! Whose keys a peer may see: decided by what the kernel says about it, never by what it says.
//!
//! A process of `roundsman-worker@NAME:N.service` sees the namespace NAME. systemd put it into that
//! unit's control group, and no process can move itself out of it or into another's. Everybody
//! else must be root, the store's own user, or in the group `roundsman`, as the front's user is and
//! does not count. A process that has ended is nobody: a worker's may have handed its connection on.

use std::os::fd::AsFd;

use super::command::Identity;
use crate::base::peer::{Accounts, Peer, Standing};
use crate::base::user::ROUNDSMAN;

/// What the store knows about users before it meets any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    own_uid: u32,
    accounts: Option<Accounts>,
}

/// Who came in the turn at hand. To look at a process takes many times as long as all the rest, and who
/// connects as fast as he can has few.
#[derive(Debug, Default)]
pub(crate) struct Acquaintances {
    known: Vec<(Peer, Option<Identity>)>,
    looked_at: usize,
}

/// So many are remembered.
const MOST: usize = 16;
/// So many are looked at in one turn: in some milliseconds.
const LOOKED_AT: usize = 128;

impl Acquaintances {
    /// Whether others should have their turn.
    pub(crate) fn are_many(&self) -> bool {
        self.looked_at >= LOOKED_AT
    }
}

impl Trust {
    /// From this process and the group database.
    pub(crate) fn from_system() -> Self {
        Self { own_uid: rustix::process::getuid().as_raw(), accounts: Accounts::find() }
    }

    /// Who is at the other end of a UNIX socket; an error says why it may not come in.
    pub(crate) fn identify(
        &self,
        socket: impl AsFd,
        turn: &mut Acquaintances,
    ) -> Result<Identity, String> {
        let peer = Peer::of(socket)
            .map_err(|error| format!("the kernel does not say who connects: {error}"))?;
        let (pid, uid) = (peer.pid, peer.uid);
        let known = turn.known.iter().find(|(known, _)| known.is(&peer));
        let identity = if let Some((_, identity)) = known {
            identity.clone()
        } else {
            let identity = self.decide(&peer, peer.standing());
            turn.looked_at += 1;
            turn.known.truncate(MOST - 1);
            turn.known.insert(0, (peer, identity.clone()));
            identity
        };
        identity.ok_or_else(|| {
            format!(
                "process {} of user {uid} has ended, or is neither a worker of an app nor in the group \
                 {ROUNDSMAN}",
                pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
            )
        })
    }

    fn decide(&self, peer: &Peer, standing: Standing) -> Option<Identity> {
        match standing {
            Standing::Worker(worker) => Some(Identity::Worker(worker.app)),
            Standing::Hidden | Standing::Nobody => None,
            Standing::Elsewhere | Standing::Confined => {
                let is_own = peer.uid == 0 || peer.uid == self.own_uid;
                let is_admin = is_own || peer.is_member(self.accounts, &standing);
                is_admin.then_some(Identity::Admin)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut peer = Peer::of(&near).unwrap();
        (peer.uid, peer.gid, peer.groups) = (uid, gid, groups.to_vec());
        peer
    }

    #[test]
    fn a_process_is_looked_at_once_in_a_turn_and_no_other_is_taken_for_it() {
        let trust = Trust::from_system();
        let (near, _far) = UnixStream::pair().unwrap();
        let own = trust.identify(&near, &mut Acquaintances::default()).unwrap();
        let shop = || Some(Identity::Worker("shop".to_owned()));
        let turn = |known| Acquaintances { known, looked_at: 0 };
        let mut one = turn(vec![(Peer::of(&near).unwrap(), shop())]);
        assert_eq!(trust.identify(&near, &mut one).ok(), shop(), "as it was then");
        assert_eq!(one.looked_at, 0);
        let others = (0..MOST).map(|_| (peer(12345, 12345, &[]), shop()));
        let mut turn = turn(others.collect());
        for _ in 0..LOOKED_AT {
            assert_eq!(trust.identify(&near, &mut turn).as_ref(), Ok(&own));
        }
        assert_eq!((turn.known.len(), turn.looked_at), (MOST, 1));
        turn.known.clear();
        turn.looked_at = LOOKED_AT - 1;
        assert!(trust.identify(&near, &mut turn).is_ok() && turn.are_many());
    }

    #[test]
    fn workers_see_their_own_members_see_all_and_the_front_sees_nothing() {
        let trust = Trust { own_uid: 991, accounts: Some(Accounts { front: 990, group: 980 }) };
        let shop = || Standing::Worker("shop:1".parse().unwrap());
        assert_eq!(trust.decide(&peer(0, 0, &[]), Standing::Elsewhere), Some(Identity::Admin));
        assert_eq!(trust.decide(&peer(991, 991, &[]), Standing::Elsewhere), Some(Identity::Admin));
        assert_eq!(
            trust.decide(&peer(1001, 100, &[980]), Standing::Elsewhere),
            Some(Identity::Admin)
        );
        assert_eq!(trust.decide(&peer(990, 980, &[980]), Standing::Elsewhere), None, "the front");
        assert_eq!(trust.decide(&peer(1002, 100, &[]), Standing::Elsewhere), None);
        let worker = Some(Identity::Worker("shop".to_owned()));
        assert_eq!(trust.decide(&peer(61234, 61234, &[]), shop()), worker);
        // Whatever else it may be, an app's worker is an app's worker.
        assert_eq!(trust.decide(&peer(0, 0, &[980]), shop()), worker);
        assert_eq!(trust.decide(&peer(0, 0, &[]), Standing::Confined), Some(Identity::Admin));
        assert_eq!(trust.decide(&peer(1001, 100, &[980]), Standing::Confined), None);
        for nobody in [Standing::Hidden, Standing::Nobody] {
            assert_eq!(trust.decide(&peer(1001, 100, &[980]), nobody), None, "a worker's child");
        }
    }
}
