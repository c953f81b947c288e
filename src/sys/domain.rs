//! Landlock domains, which keep a process from those that it has not started.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// What the processes of a Landlock domain may not do, as the kernel has it (landlock(7)).
#[repr(C)]
#[derive(Default)]
struct DomainRules {
    files: u64,
    network: u64,
    scope: u64,
}

/// Making block devices, which nobody can without `CAP_MKNOD`.
const MAKE_BLOCK_DEVICES: u64 = 1 << 11;

/// Connecting to abstract UNIX sockets of processes outside.
const ABSTRACT_SOCKETS: u64 = 1 << 0;

/// The first version with scopes (Linux 6.12).
const DOMAIN_SCOPES: libc::c_long = 6;

/// Makes a domain that can be entered, or, without rules, asks for the version of domains (the number
/// is the same as of any system call since Linux 5.1).
fn landlock(rules: Option<(&DomainRules, usize)>) -> io::Result<libc::c_long> {
    const ASK_FOR_VERSION: libc::c_uint = 1;
    let (rules, length, flags) = match rules {
        Some((rules, length)) => (std::ptr::from_ref(rules), length, 0),
        None => (std::ptr::null(), 0, ASK_FOR_VERSION),
    };
    // SAFETY: the call reads `length` bytes, which is at most the size of what is lent, or none.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, rules, length, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether this process can enter a domain of its own.
///
/// # Errors
/// When the kernel has no domains, a filter of system calls does not let it, or it could gain rights.
pub(crate) fn can_be_alone() -> io::Result<()> {
    landlock(None)?;
    if rustix::thread::no_new_privs()? {
        Ok(())
    } else {
        Err(io::Error::other("the unit has no NoNewPrivileges="))
    }
}

/// From here on this thread, and all that it starts, can neither trace a process that it has not
/// started, nor see it in `/proc`, nor get at its memory, descriptors and root directory: those of the
/// same user outside of the domain are as far away as another user's. Nothing else changes, but that
/// older kernels let nobody in a domain mount file systems, and that newer ones let it connect to no
/// abstract socket outside. To be called before there is a second thread.
pub(crate) fn be_alone() -> io::Result<()> {
    let rules = if landlock(None)? < DOMAIN_SCOPES {
        // A domain has to forbid something.
        DomainRules { files: MAKE_BLOCK_DEVICES, ..DomainRules::default() }
    } else {
        DomainRules { scope: ABSTRACT_SOCKETS, ..DomainRules::default() }
    };
    // What an older kernel does not know it wants to be told nothing of.
    let length = if rules.scope == 0 { size_of::<u64>() } else { size_of::<DomainRules>() };
    let made = landlock(Some((&rules, length)))?;
    let number = RawFd::try_from(made).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us.
    let domain = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: it takes numbers only, and the descriptor is open because `domain` owns it.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, domain.as_raw_fd(), 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
