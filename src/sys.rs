//! The only module that may use `unsafe`: the few calls for which no safe wrapper exists.
#![expect(unsafe_code, reason = "the one place for it; every block says why it is sound")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that this process inherited.
///
/// # Panics
/// When `fd` is one of the standard streams or not open: the caller must have learnt the number
/// from the service manager.
pub fn adopt_inherited_fd(fd: RawFd) -> OwnedFd {
    assert!(fd > 2, "descriptor {fd} is a standard stream, not an inherited socket");
    assert!(
        std::path::Path::new(&format!("/proc/self/fd/{fd}")).exists(),
        "descriptor {fd} is not open"
    );
    // SAFETY: the descriptor is open (checked above) and was handed to this process by its parent
    // through an environment variable that names it, so nothing else in this process owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
