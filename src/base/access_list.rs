//! A group more that a directory lets in, by its access list (acl(5)).

use std::io;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};

/// Where the kernel keeps the list.
const ATTRIBUTE: &str = "system.posix_acl_access";

/// The version of its form (`linux/posix_acl_xattr.h`).
const VERSION: u32 = 2;

/// For lines that name nobody.
const NAMELESS: u32 = u32::MAX;

// Whom a line is about.
const OWNER: u16 = 0x01;
const OWN_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

// What they may do.
const ALL: u16 = 0o7;
const ENTER_AND_LIST: u16 = 0o5;
const NOTHING: u16 = 0;

/// Lets the owner, its group and this one into a directory, and nobody else: as mode 0750 does, with one group
/// more.
///
/// # Errors
/// When the file system has no such lists, or it is another's directory.
pub(crate) fn let_in(directory: &Path, group: u32) -> io::Result<()> {
    let lines = [
        (OWNER, ALL, NAMELESS),
        (OWN_GROUP, ENTER_AND_LIST, NAMELESS),
        (GROUP, ENTER_AND_LIST, group),
        (MASK, ENTER_AND_LIST, NAMELESS),
        (OTHERS, NOTHING, NAMELESS),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (whom, what, who) in lines {
        list.extend(whom.to_le_bytes());
        list.extend(what.to_le_bytes());
        list.extend(who.to_le_bytes());
    }
    Ok(setxattr(directory, ATTRIBUTE, &list, XattrFlags::empty())?)
}

/// Whether a directory has such a list.
pub(crate) fn has(directory: &Path) -> bool {
    getxattr(directory, ATTRIBUTE, &mut [0_u8; 0]).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::base::rights::Rights;

    #[test]
    fn one_group_more_is_let_in_and_others_are_not() {
        if !rustix::process::geteuid().is_root() {
            return; // others' rights are root's to take
        }
        let above = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(above.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let directory = above.path().join("worker");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("socket"), "").unwrap();
        assert!(!has(&directory));
        let_in(&directory, 4711).unwrap();
        assert!(has(&directory));
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o750);
        let finds = |rights: Rights| {
            rights.with(|| fs::metadata(directory.join("socket")).is_ok()).unwrap()
        };
        assert!(finds(Rights::of_number(12_345).in_group(4711)));
        assert!(!finds(Rights::of_number(12_345)));
        assert!(!finds(Rights::of_nobody().in_group(4712)));
    }
}
