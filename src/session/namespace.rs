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

impl Trust {
    /// From this process and the group database.
    pub(crate) fn from_system() -> Self {
        Self { own_uid: rustix::process::getuid().as_raw(), accounts: Accounts::find() }
    }

    /// Who is at the other end of a UNIX socket; an error says why it may not come in.
    pub(crate) fn identify(&self, socket: impl AsFd) -> Result<Identity, String> {
        let peer = Peer::of(socket)
            .map_err(|error| format!("the kernel does not say who connects: {error}"))?;
        self.decide(&peer, peer.standing()).ok_or_else(|| {
            format!(
                "process {} of user {} has ended, or is neither a worker of an app nor in the group \
                 {ROUNDSMAN}",
                peer.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
                peer.uid
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
