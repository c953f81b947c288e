//! Who may ask a shim for what, and how much of it.
//!
//! The shim runs as the app's user, so it cannot give its socket to the group `roundsman`: anybody
//! may connect, and the kernel says who it is, before the first byte is read.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::base::peer::{Accounts, Peer, Standing};
use crate::base::places::{Place, Places};
use crate::worker::channel::MAX_LINE;

/// The longest message of a member, who has some connections and no claim to the app's memory.
const MEMBERS_LINE: usize = 1024 * 1024;

/// Connections of one member, and of all.
const OF_MEMBER: usize = 32;
const OF_MEMBERS: usize = 128;

/// Connections of the app's user and of siblings together: what they exhaust is the app's.
const OF_APP: usize = 1024;

/// Connections of one of the others, and of all of them, until it is known that they are no siblings.
const OF_OTHER: usize = 8;
const OF_OTHERS: usize = 64;

/// Connections of the front: one, and those of its predecessors that have not ended yet.
const OF_FRONT: usize = 16;

/// What a peer may do; whoever may do nothing has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rights {
    /// Send messages, follow events, ask for the state.
    pub(super) manage: bool,
    /// Send what a sibling broadcasts.
    pub(super) sibling: Option<Sibling>,
    /// Hand connections in.
    pub(super) hand_in: bool,
    /// The longest line it may send.
    pub(super) longest: usize,
}

/// As which sibling a peer may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sibling {
    /// As the worker that it is.
    Number(u16),
    /// As any: it could be any.
    Any,
}

/// By which connections are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not at all.
    Root,
    App,
    Front,
    Member,
    Other,
}

/// Decides.
#[derive(Debug, Clone)]
pub(super) struct Access {
    app: String,
    own_user: u32,
    accounts: Option<Accounts>,
    of_app: Places,
    of_front: Places,
    of_members: Places,
    of_others: Places,
    looks: Arc<Mutex<()>>,
}

impl Access {
    /// For the workers of `app`.
    pub(super) fn new(app: &str) -> Self {
        Self {
            app: app.to_owned(),
            own_user: rustix::process::geteuid().as_raw(),
            accounts: Accounts::find(),
            of_app: Places::new(OF_APP, OF_APP),
            of_front: Places::new(OF_FRONT, OF_FRONT),
            of_members: Places::new(OF_MEMBER, OF_MEMBERS),
            of_others: Places::new(OF_OTHER, OF_OTHERS),
            looks: Arc::default(),
        }
    }

    /// A place for the process at the other end, before anything is done for it: `Err` when there is
    /// none left. Root needs none.
    pub(super) fn place(&self, peer: &Peer) -> Result<Option<Place>, ()> {
        let places = match self.kind(peer) {
            Kind::Root => return Ok(None),
            Kind::App => &self.of_app,
            Kind::Front => &self.of_front,
            Kind::Member => &self.of_members,
            Kind::Other => &self.of_others,
        };
        places.take(peer.uid).map(Some).ok_or(())
    }

    /// What it may do. Who it is is not looked up in the thread that serves the others, and for one at
    /// a time: whoever connects again and again takes none of the app's cores for that but one.
    pub(super) async fn of(&self, peer: Peer) -> Option<Rights> {
        if let Kind::Root | Kind::Front = self.kind(&peer) {
            return self.rights(&peer, || Standing::Nobody); // which nobody asks for
        }
        let _only = self.looks.lock().await;
        let access = self.clone();
        let looked_up = tokio::task::spawn_blocking(move || {
            access.rights(&peer, || match access.kind(&peer) {
                Kind::App | Kind::Member => peer.standing(),
                // A stranger has nobody search for it.
                Kind::Root | Kind::Front | Kind::Other => peer.standing_shown(),
            })
        });
        looked_up.await.ok()?
    }

    fn kind(&self, peer: &Peer) -> Kind {
        if peer.uid == 0 {
            Kind::Root
        } else if peer.uid == self.own_user {
            Kind::App
        } else if peer.is_front(self.accounts) {
            Kind::Front
        } else if peer.has_group(self.accounts) {
            Kind::Member
        } else {
            Kind::Other
        }
    }

    /// `standing` is looked up for those only whom it can give a right.
    fn rights(&self, peer: &Peer, standing: impl FnOnce() -> Standing) -> Option<Rights> {
        let all =
            Rights { manage: true, sibling: Some(Sibling::Any), hand_in: true, longest: MAX_LINE };
        let nothing = Rights { manage: false, sibling: None, hand_in: false, ..all };
        let kind = self.kind(peer);
        match kind {
            Kind::Root => return Some(all),
            Kind::Front => return Some(Rights { hand_in: true, longest: 0, ..nothing }),
            Kind::App | Kind::Member | Kind::Other => {}
        }
        let own = kind == Kind::App;
        let standing = standing();
        let is_member = peer.is_member(self.accounts, &standing);
        let sibling = match standing {
            Standing::Worker(worker) if worker.app == self.app => {
                Some(Sibling::Number(worker.number))
            }
            Standing::Worker(_) => None,
            // It may have been another app's of the same user.
            Standing::Nobody => return None,
            Standing::Elsewhere | Standing::Confined | Standing::Hidden => {
                Some(Sibling::Any).filter(|_| own)
            }
        };
        if own {
            // Where nothing is installed a developer runs both.
            let hand_in = peer.is_front(self.accounts) || self.accounts.is_none();
            return Some(Rights { sibling, hand_in, ..all });
        }
        if is_member {
            return Some(Rights { manage: true, longest: MEMBERS_LINE, ..nothing });
        }
        sibling.map(|sibling| Rights { sibling: Some(sibling), ..nothing })
    }
}

impl Sibling {
    /// Whether it may speak as this worker.
    pub(super) fn is(self, number: u64) -> bool {
        match self {
            Self::Number(own) => u64::from(own) == number,
            Self::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn access() -> Access {
        Access {
            own_user: 1000,
            accounts: Some(Accounts { front: 990, group: 980 }),
            ..Access::new("shop")
        }
    }

    fn peer(uid: u32, gid: u32) -> Peer {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut peer = Peer::of(&near).unwrap();
        (peer.uid, peer.gid, peer.groups) = (uid, gid, vec![gid]);
        peer
    }

    /// Whether it may manage, as whom it may speak, whether it may hand in, and its longest line.
    fn rights(user: u32, group: u32, worker: &str) -> Option<(bool, Option<Sibling>, bool, usize)> {
        let standing = || worker.parse().map_or(Standing::Elsewhere, Standing::Worker);
        let rights = access().rights(&peer(user, group), standing)?;
        Some((rights.manage, rights.sibling, rights.hand_in, rights.longest))
    }

    #[test]
    fn each_peer_may_do_what_it_is_for() {
        use Sibling::{Any, Number};
        assert_eq!(rights(0, 0, ""), Some((true, Some(Any), true, MAX_LINE)), "root");
        assert_eq!(rights(990, 980, ""), Some((false, None, true, 0)), "the front");
        assert_eq!(rights(1001, 980, ""), Some((true, None, false, MEMBERS_LINE)), "a member");
        assert_eq!(rights(1000, 1000, ""), Some((true, Some(Any), false, MAX_LINE)), "the app's");
        let worker = Some((true, Some(Number(2)), false, MAX_LINE));
        assert_eq!(rights(1000, 1000, "shop:2"), worker, "a worker speaks for itself");
        let other = Some((true, None, false, MAX_LINE));
        assert_eq!(rights(1000, 1000, "other:2"), other, "another app of the user is no sibling");
        let sibling = Some((false, Some(Number(2)), false, MAX_LINE));
        assert_eq!(rights(61234, 61234, "shop:2"), sibling, "one with another user");
        assert_eq!(rights(61234, 61234, "shop-2:1"), None, "another app's");
        assert_eq!(rights(1001, 1001, ""), None, "a stranger");
        assert_eq!(rights(1001, 980, "other:1"), None, "a member's worker");
        for standing in [Standing::Nobody, Standing::Hidden] {
            let rights = access().rights(&peer(1001, 980), || standing);
            assert_eq!(rights, None, "a member's worker that has ended");
        }
        let ended = access().rights(&peer(1000, 1000), || Standing::Nobody);
        assert_eq!(ended, None, "another app of the same user");
        assert!(Any.is(7) && Number(7).is(7) && !Number(7).is(8));
    }

    #[test]
    fn without_a_package_the_developer_is_the_front() {
        let access = Access { accounts: None, ..access() };
        assert!(
            access
                .rights(&peer(1000, 1000), || Standing::Elsewhere)
                .is_some_and(|rights| rights.hand_in)
        );
        assert_eq!(access.rights(&peer(1001, 980), || Standing::Elsewhere), None);
    }

    #[test]
    fn nobody_takes_the_places_of_root_the_front_or_the_app() {
        let access = access();
        let take = |user, group| access.place(&peer(user, group));
        let mut taken: Vec<_> = (0..OF_MEMBER).map(|_| take(1001, 980).unwrap()).collect();
        assert!(take(1001, 980).is_err(), "a member has so many");
        taken.push(take(1002, 980).expect("another member has its own"));
        taken.extend((0..OF_OTHER).map(|_| take(1003, 1003).unwrap()));
        assert!(take(1003, 1003).is_err(), "a stranger is counted before anybody looks who it is");
        for (user, group) in [(0, 0), (990, 980), (1000, 1000)] {
            assert!(take(user, group).is_ok(), "user {user}");
        }
    }
}
