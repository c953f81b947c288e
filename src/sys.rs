//! The only module that may use `unsafe`: the few calls for which no safe wrapper exists.
#![expect(unsafe_code, reason = "the one place for it; every block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The state of a listener in the kernel's `enum tcp_state`.
const TCP_LISTEN: u8 = 10;

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

/// Has the kernel hand a connection over when its first bytes are there, or after about so many
/// seconds without any.
pub fn set_defer_accept(socket: &impl AsRawFd, seconds: i32) -> io::Result<()> {
    let length = size_of_val(&seconds) as libc::socklen_t;
    // SAFETY: the option takes an int, and `seconds` is one that lives through the call; the
    // descriptor is open because `socket` owns it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many connections wait to be accepted from a TCP listener, where the kernel says so.
pub fn waiting_connections(listener: &impl AsRawFd) -> Option<usize> {
    // SAFETY: the structure is one of plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    // No more than is looked at.
    let mut length =
        (std::mem::offset_of!(libc::tcp_info, tcpi_unacked) + size_of::<u32>()) as libc::socklen_t;
    let asked = length;
    // SAFETY: the call writes at most `length` bytes of `info`, which has more and lives through
    // it; the descriptor is open because `listener` owns it.
    let result = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    // Of a listener it is the length of the queue, in a field that connections use otherwise.
    let known = result == 0 && length == asked && info.tcpi_state == TCP_LISTEN;
    known.then_some(info.tcpi_unacked as usize)
}

/// Whether somebody has read from a TCP connection: whether more bytes have come than wait.
/// Of another socket nothing is known, and nobody is taken to have.
pub fn was_read_from(socket: &impl AsRawFd) -> bool {
    // SAFETY: the structure is one of plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    let mut waiting: libc::c_int = 0;
    // SAFETY: both calls write at most the size of what they are given, which lives through them;
    // the descriptor is open because `socket` owns it.
    let (result, asked) = unsafe {
        (
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            ),
            libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut waiting),
        )
    };
    let waiting = u64::from(waiting.unsigned_abs());
    // The end of a stream is counted as a byte that has come, and not as one that waits.
    result == 0 && asked == 0 && info.tcpi_bytes_received > waiting + 1
}

/// Bytes written to a socket that the other end has not acknowledged yet, where the kernel says so.
pub fn unacknowledged(socket: &impl AsRawFd) -> Option<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one int, which lives through it; the descriptor is open because
    // `socket` owns or borrows it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    (result == 0).then_some(u64::from(count.unsigned_abs()))
}

/// The supplementary groups of the process at the other end of a UNIX socket, as they were when it
/// connected.
pub fn peer_groups(socket: &impl AsRawFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: `groups` lives through the call and has `length` bytes, of which the kernel
        // writes as many as it says; the descriptor is open because `socket` owns it.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// Has the runtime watch a listening socket that it shall not accept from itself.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays the same and open until it is dropped, and it is dropped
    // by the `AsyncFd` after that has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
