//! Who wrote a configuration, when that is not root: no more comes out of it than they may do
//! themselves.

use std::io;

use crate::base::user::{self, User};

/// The one user who could have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    user: String,
    groups: Vec<String>,
}

impl Author {
    /// # Errors
    /// When those who know the groups cannot be asked.
    pub(crate) fn of(user: &User) -> io::Result<Self> {
        let mut groups = Vec::new();
        for gid in user::groups_of(user)? {
            groups.extend(user::group_name(gid)?);
        }
        Ok(Self { user: user.name.clone(), groups })
    }

    /// Their name.
    pub(super) fn name(&self) -> &str {
        &self.user
    }

    /// Whether an app may run as this `user` or `group` because they say so.
    pub(super) fn may_name(&self, option: &str, name: &str) -> bool {
        match option {
            "user" => self.user == name,
            _ => self.groups.iter().any(|group| group == name),
        }
    }
}
