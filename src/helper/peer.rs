//! Who may ask the helper: root, and members of the group `roundsman`. Never the front, which is in
//! that group for its admin socket, and which speaks with the internet.

use std::io;
use std::os::fd::AsFd;

use crate::base::user::{self, User};

/// Who is at the other end, as the kernel knows it from the moment of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// All groups of the process.
    pub groups: Vec<u32>,
}

/// The numbers that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The user of the front.
    pub front: u32,
    /// The group whose members may ask.
    pub group: u32,
}

// === impl Peer ===

impl Peer {
    /// Of a connected UNIX socket.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn of(socket: &(impl AsFd + std::os::fd::AsRawFd)) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        let mut groups = crate::sys::peer_groups(socket)?;
        groups.push(credentials.gid.as_raw());
        Ok(Self { uid: credentials.uid.as_raw(), groups })
    }

    /// Whether it may have something done. Where the front's user or the group are not known, root
    /// alone may.
    pub fn may_ask(&self, known: Option<Known>) -> bool {
        let member = |known: Known| self.uid != known.front && self.groups.contains(&known.group);
        self.uid == 0 || known.is_some_and(member)
    }
}

// === impl Known ===

impl Known {
    /// From the machine's users and groups.
    pub fn find() -> Option<Self> {
        let front = User::named(user::ROUNDSMAN).ok()??.uid;
        let group = user::group(user::ROUNDSMAN).ok()??;
        Some(Self { front, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_members_may_ask_and_the_front_may_not() {
        let known = Some(Known { front: 990, group: 980 });
        let may = |uid, groups: &[u32], known| Peer { uid, groups: groups.to_vec() }.may_ask(known);
        assert!(may(0, &[0], known));
        assert!(may(0, &[], None));
        assert!(may(1000, &[1000, 980], known));
        assert!(!may(1000, &[1000, 990], known), "the front's number is no group");
        assert!(!may(1000, &[], known));
        assert!(!may(990, &[980], known), "the front");
        assert!(!may(1000, &[980], None), "nobody knows who the front is");
    }
}
