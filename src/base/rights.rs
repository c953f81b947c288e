//! Root doing something with the rights of somebody else, and no more than those: so that what
//! others have put in its way leads to nothing that they could not reach themselves.

use std::io;
use std::thread;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::user::User;

/// With whose rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

// === impl Rights ===

impl Rights {
    /// A user's.
    ///
    /// # Errors
    /// When those who know the groups cannot be asked.
    pub(crate) fn of(user: &User) -> io::Result<Self> {
        Ok(Self { uid: user.uid, gid: user.gid, groups: super::user::groups_of(user)? })
    }

    /// Those of the user with this number, who need have no name.
    ///
    /// # Errors
    /// When those who know the users and groups cannot be asked.
    pub(crate) fn of_owner(uid: u32) -> io::Result<Self> {
        User::numbered(uid)?.map_or_else(|| Ok(Self::of_number(uid)), |user| Self::of(&user))
    }

    /// Of a number that no user has.
    pub(crate) fn of_number(uid: u32) -> Self {
        Self { uid, gid: NOBODY, groups: Vec::new() }
    }

    /// Those that everybody has.
    pub(crate) fn of_nobody() -> Self {
        Self { uid: NOBODY, gid: NOBODY, groups: Vec::new() }
    }

    /// The same with this as the group.
    #[must_use]
    pub(crate) fn in_group(self, gid: u32) -> Self {
        Self { gid, ..self }
    }

    /// Does `work` with these rights, in a thread of its own that ends with it. Whoever is not root
    /// has none but their own, and does it with those.
    ///
    /// # Errors
    /// When root may not take them, as within a sandbox.
    pub(crate) fn with<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if !rustix::process::geteuid().is_root() || self.uid == 0 {
            return Ok(work());
        }
        let done = thread::scope(|scope| {
            let thread = thread::Builder::new().name("rights".to_owned()).spawn_scoped(
                scope,
                || -> io::Result<T> {
                    self.take()?;
                    Ok(work())
                },
            )?;
            thread.join().map_err(|_| io::Error::other("a thread has panicked"))?
        });
        done.map_err(|error| {
            let reason = format!("cannot take the rights of user number {}: {error}", self.uid);
            io::Error::new(error.kind(), reason)
        })
    }

    /// For this thread and for good. Only what decides about files: by the real and the saved user
    /// it stays root's, so that nobody may send it signals who could not before.
    fn take(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        set_thread_res_gid(None, Gid::from_raw(self.gid), None)?;
        set_thread_res_uid(None, Uid::from_raw(self.uid), None)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn what_root_may_read_nobody_may_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let read = Rights::of_nobody().with(|| fs::read(&file)).unwrap();
        if !rustix::process::geteuid().is_root() {
            assert!(read.is_ok(), "one's own rights");
            return;
        }
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(fs::read(&file).is_ok(), "this thread has kept its own");
        let made = directory.path().join("made");
        Rights::of_nobody().with(|| fs::write(&made, "")).unwrap().unwrap();
        assert_eq!(fs::metadata(&made).unwrap().uid(), NOBODY);
    }
}
