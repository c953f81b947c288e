//! Filters of system calls: what this process, and what it starts, cannot ask of the kernel any more.

use std::io;

use super::socket::PASS_RIGHTS;

/// From here on no thread of this process gets a socket over IP that is neither TCP nor UDP, or one of
/// netlink but for questions about sockets: the kernel has a dozen other protocols of each (SCTP, MPTCP,
/// routes, audit, …), and unit files cannot tell them apart. To be called before there is a second thread.
pub(crate) fn only_needed_protocols() -> io::Result<()> {
    const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT.cast_unsigned();
    filter(&mut [
        step(LOAD, 0), // the number of the call
        equals(libc::SYS_socket as i32, 0, 17),
        step(LOAD, argument(0)), // the family
        equals(libc::AF_INET, 2, 0),
        equals(libc::AF_INET6, 1, 0),
        equals(libc::AF_NETLINK, 10, 13),
        step(LOAD, argument(1)), // the type, with flags above its four bits
        step(AND, 0xf),
        equals(libc::SOCK_STREAM, 1, 0),
        equals(libc::SOCK_DGRAM, 3, 8),
        step(LOAD, argument(2)), // the protocol
        equals(0, 7, 0),
        equals(libc::IPPROTO_TCP, 6, 5),
        step(LOAD, argument(2)),
        equals(0, 4, 0),
        equals(libc::IPPROTO_UDP, 3, 2),
        step(LOAD, argument(2)),
        equals(libc::NETLINK_SOCK_DIAG, 1, 0),
        step(RETURN, DENY),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
    ])
}

// The steps of a filter of system calls (seccomp(2)).
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where the lower half of an argument is in `struct seccomp_data`.
fn argument(number: u32) -> u32 {
    16 + 8 * number + u32::from(cfg!(target_endian = "big")) * 4
}

fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// Passes over so many steps: `jt` if it is equal, `jf` if not.
fn equals(k: i32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: EQUAL, jt, jf, k: k.cast_unsigned() }
}

/// Has the kernel ask this about every system call from here on.
fn filter(steps: &mut [libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: steps.len() as libc::c_ushort, filter: steps.as_mut_ptr() };
    // The kernel takes filters only from those who cannot gain rights any more.
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: the program points at as many steps as it says, and both live through the call, which
    // copies them.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From here on no thread of this process, and nothing that it starts, sets how long closing a connection waits
/// (`SO_LINGER`), or whether a socket takes descriptors (`SO_PASSRIGHTS`): it is told that it did, and the kernel
/// closes as it does by itself.
///
/// A socket that lingers makes whoever closes it last wait for hours, whether it blocks or not. Descriptors
/// can be sent to anybody who reads from a UNIX socket, and who does not want them closes them: so one
/// message would stop the thread that gets it. Who has queued some at a listener that systemd has, too, would
/// stop that. To be called before there is a second thread.
///
/// # Errors
/// When the kernel has no filters of system calls, or this process could gain rights.
pub(crate) fn hold_nobody_up() -> io::Result<()> {
    filter(&mut [
        step(LOAD, 0), // the number of the call
        equals(libc::SYS_setsockopt as i32, 0, 5),
        step(LOAD, argument(1)), // the level
        equals(libc::SOL_SOCKET, 0, 3),
        step(LOAD, argument(2)), // the option
        equals(libc::SO_LINGER, 2, 0),
        equals(PASS_RIGHTS, 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        step(RETURN, libc::SECCOMP_RET_ERRNO), // 0: as if done
    ])
}
