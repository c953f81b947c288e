//! Who may ask a shim for what.
//!
//! The shim runs as the app's user, so it cannot give its socket to the group `roundsman`: anybody
//! may connect, and the kernel says who it is. Siblings are known by their unit, since the workers
//! of an app without a `user` have a dynamic user each.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::net::UnixStream;

use crate::base::user::{ROUNDSMAN, User};

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rights {
    /// Send messages, follow events, ask for the state.
    pub(super) manage: bool,
    /// Send what a sibling broadcasts.
    pub(super) sibling: bool,
    /// Hand connections in.
    pub(super) hand_in: bool,
}

/// What the kernel says of a peer.
#[derive(Debug, Clone, Default)]
struct Peer {
    user: u32,
    groups: Vec<u32>,
    unit: Option<String>,
}

/// Decides.
#[derive(Debug, Clone)]
pub(super) struct Access {
    app: String,
    own_user: u32,
    /// User and group of the front; `None` on a machine where the package is not installed.
    front: Option<(u32, u32)>,
}

impl Access {
    /// For the workers of `app`.
    pub(super) fn new(app: &str) -> Self {
        let front = User::named(ROUNDSMAN).ok().flatten();
        Self {
            app: app.to_owned(),
            own_user: rustix::process::geteuid().as_raw(),
            front: front.map(|front| (front.uid, front.gid)),
        }
    }

    /// What the process at the other end may do.
    pub(super) fn of(&self, stream: &UnixStream) -> Rights {
        let Ok(credentials) = stream.peer_cred() else {
            return Rights { manage: false, sibling: false, hand_in: false };
        };
        let mut groups = crate::sys::peer_groups(stream).unwrap_or_default();
        groups.push(credentials.gid());
        let user = credentials.uid();
        let unit = credentials.pid().and_then(|pid| unit(pid, user));
        self.rights(&Peer { user, groups, unit })
    }

    fn rights(&self, peer: &Peer) -> Rights {
        let own = peer.user == self.own_user;
        let root = peer.user == 0;
        let member = self.front.is_some_and(|(_, group)| peer.groups.contains(&group));
        let prefix = format!("roundsman-worker@{}:", self.app);
        let sibling = peer.unit.as_ref().is_some_and(|unit| unit.starts_with(&prefix));
        let front = match self.front {
            Some((user, _)) => peer.user == user,
            None => own, // nothing is installed: a developer runs both
        };
        Rights {
            manage: own || root || member,
            sibling: own || root || sibling,
            hand_in: root || front,
        }
    }
}

/// The systemd unit that a process of this user is in.
fn unit(pid: i32, user: u32) -> Option<String> {
    let process = Path::new("/proc").join(pid.to_string());
    let text = fs::read_to_string(process.join("cgroup")).ok()?;
    // The number may have been given to another process since: to one of the same user, then.
    if fs::metadata(&process).ok()?.uid() != user {
        return None;
    }
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let unit = path.split('/').rfind(|part| part.ends_with(".service"))?;
    Some(unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access { app: "shop".into(), own_user: 1000, front: Some((990, 980)) }
    }

    fn rights(user: u32, group: u32, unit: &str) -> [bool; 3] {
        let peer = Peer { user, groups: vec![group], unit: Some(unit.into()) };
        let rights = access().rights(&peer);
        [rights.manage, rights.sibling, rights.hand_in]
    }

    #[test]
    fn each_peer_may_do_what_it_is_for() {
        let worker = "roundsman-worker@shop:2.service";
        assert_eq!(rights(0, 0, "ssh.service"), [true, true, true], "root");
        assert_eq!(rights(990, 980, "roundsman.service"), [true, false, true], "the front");
        assert_eq!(rights(1001, 980, "ssh.service"), [true, false, false], "a member of the group");
        assert_eq!(rights(1000, 1000, worker), [true, true, false], "the app's own user");
        assert_eq!(rights(61234, 61234, worker), [false, true, false], "a dynamic sibling");
        assert_eq!(rights(61234, 61234, "roundsman-worker@shop-2:1.service"), [false; 3]);
        assert_eq!(rights(1001, 1001, "ssh.service"), [false; 3]);
    }

    #[test]
    fn without_a_package_the_developer_is_the_front() {
        let access = Access { front: None, ..access() };
        let peer = Peer { user: 1000, ..Peer::default() };
        assert!(access.rights(&peer).hand_in);
        assert!(!access.rights(&Peer { user: 1001, ..Peer::default() }).hand_in);
    }
}
