//! Users and groups of the machine, by NSS: those of `/etc/passwd`, of a directory service, of
//! systemd.
//!
//! Not from the generator: systemd waits for it, and NSS may ask systemd.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid};

/// The user that the front runs as, and the group whose members administer Roundsman.
pub(crate) const ROUNDSMAN: &str = "roundsman";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

// === impl User ===

impl User {
    /// The user with this name.
    ///
    /// # Errors
    /// When those who know the users cannot be asked.
    pub(crate) fn named(name: &str) -> io::Result<Option<Self>> {
        Ok(nix::unistd::User::from_name(name)?.map(Self::from))
    }

    /// The user with this number.
    ///
    /// # Errors
    /// When those who know the users cannot be asked.
    pub(crate) fn numbered(uid: u32) -> io::Result<Option<Self>> {
        Ok(nix::unistd::User::from_uid(Uid::from_raw(uid))?.map(Self::from))
    }
}

impl From<nix::unistd::User> for User {
    fn from(user: nix::unistd::User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
    }
}

/// The number of the group with this name.
///
/// # Errors
/// When those who know the groups cannot be asked.
pub(crate) fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// The name of the group with this number.
///
/// # Errors
/// When those who know the groups cannot be asked.
pub(crate) fn group_name(gid: u32) -> io::Result<Option<String>> {
    Ok(Group::from_gid(Gid::from_raw(gid))?.map(|group| group.name))
}

/// The numbers of all groups that a user is in.
///
/// # Errors
/// When those who know the groups cannot be asked.
pub(crate) fn groups_of(user: &User) -> io::Result<Vec<u32>> {
    let name = CString::new(user.name.as_str())?;
    let groups = nix::unistd::getgrouplist(&name, Gid::from_raw(user.gid))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// The names of those who are in a group beside the users whose own it is.
///
/// # Errors
/// When those who know the groups cannot be asked.
pub(crate) fn members(gid: u32) -> io::Result<Vec<String>> {
    Ok(Group::from_gid(Gid::from_raw(gid))?.map(|group| group.mem).unwrap_or_default())
}

/// The numbers of all users whose first group this is, as far as those who know the users list them
/// (a directory service may list none).
///
/// # Errors
/// When they cannot be asked.
pub(crate) fn with_group(gid: u32) -> io::Result<Vec<u32>> {
    let users = crate::sys::every_user()?;
    Ok(users.into_iter().filter_map(|(uid, first)| (first == gid).then_some(uid)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let root = User::named("root").unwrap().expect("every machine has root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(User::numbered(0).unwrap(), Some(root));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(group_name(0).unwrap().as_deref(), Some("root"));
    }

    #[test]
    fn a_group_has_those_in_it_whose_first_one_it_is() {
        assert_eq!(with_group(0).unwrap(), [0]);
        assert!(members(0).unwrap().is_empty(), "a group does not name those");
    }

    #[test]
    fn a_name_is_a_whole_name() {
        for name in ["roo", "root:x", "root\n", "", "no-such-user"] {
            assert_eq!(User::named(name).unwrap(), None, "{name:?}");
            assert_eq!(group(name).unwrap(), None, "{name:?}");
        }
        assert!(User::named("a\0b").is_err() || User::named("a\0b").unwrap().is_none());
    }
}
