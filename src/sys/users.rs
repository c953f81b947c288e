//! The users of this machine.

use std::io;

/// Every user that can be listed: their number, and that of their first group.
pub(crate) fn every_user() -> io::Result<Vec<(u32, u32)>> {
    static LISTING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = LISTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut users = Vec::new();
    // SAFETY: the list and its place in it are the process's; nobody else here asks for it, and one
    // thread at a time does (see the lock). What it returns is null or an entry that lives until the
    // next call, and only two numbers are copied from it.
    unsafe {
        libc::setpwent();
        loop {
            *libc::__errno_location() = 0;
            let entry = libc::getpwent();
            if entry.is_null() {
                break;
            }
            users.push(((*entry).pw_uid, (*entry).pw_gid));
        }
        let error = io::Error::last_os_error();
        libc::endpwent();
        match error.raw_os_error() {
            // Of none of the places where users are, more is known.
            Some(0 | libc::ENOENT) => Ok(users),
            _ => Err(error),
        }
    }
}
