//! What sockets are told, and what they say of themselves and of the other end.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The state of a listener in the kernel's `enum tcp_state`.
const TCP_LISTEN: u8 = 10;

/// `SO_PASSRIGHTS`, which libc does not name yet.
pub(super) const PASS_RIGHTS: libc::c_int = 83;

/// Has the kernel refuse descriptors that somebody sends to this UNIX socket, or to one that is accepted from it;
/// before Linux 6.16 they come, and are closed where nobody wants them.
pub(crate) fn refuse_descriptors(socket: impl AsFd) {
    let no: libc::c_int = 0;
    let length = size_of_val(&no) as libc::socklen_t;
    // SAFETY: the option takes an int, and `no` is one that lives through the call; the descriptor is open
    // because `socket` lends it. Where the option is not known nothing changes.
    unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            PASS_RIGHTS,
            std::ptr::from_ref(&no).cast(),
            length,
        )
    };
}

/// Has the kernel hand a connection over when its first bytes are there, or after about so many
/// seconds without any.
pub(crate) fn set_defer_accept(socket: impl AsFd, seconds: i32) -> io::Result<()> {
    let length = size_of_val(&seconds) as libc::socklen_t;
    // SAFETY: the option takes an int, and `seconds` is one that lives through the call; the
    // descriptor is open because `socket` lends it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many connections wait to be accepted from a TCP listener, where the kernel says so.
pub(crate) fn waiting_connections(listener: impl AsFd) -> Option<usize> {
    // SAFETY: the structure is one of plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    // No more than is looked at.
    let mut length =
        (std::mem::offset_of!(libc::tcp_info, tcpi_unacked) + size_of::<u32>()) as libc::socklen_t;
    let asked = length;
    // SAFETY: the call writes at most `length` bytes of `info`, which has more and lives through
    // it; the descriptor is open because `listener` lends it.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
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
pub(crate) fn was_read_from(socket: impl AsFd) -> bool {
    // SAFETY: the structure is one of plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    let mut waiting: libc::c_int = 0;
    // SAFETY: both calls write at most the size of what they are given, which lives through them;
    // the descriptor is open because `socket` lends it.
    let (result, asked) = unsafe {
        (
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            ),
            libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut waiting),
        )
    };
    let waiting = u64::from(waiting.unsigned_abs());
    // The end of a stream is counted as a byte that has come, and not as one that waits.
    result == 0 && asked == 0 && info.tcpi_bytes_received > waiting + 1
}

/// Bytes written to a socket that the other end has not acknowledged yet, where the kernel says so.
pub(crate) fn unacknowledged(socket: impl AsFd) -> Option<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one int, which lives through it; the descriptor is open because
    // `socket` lends it.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    (result == 0).then_some(u64::from(count.unsigned_abs()))
}

/// Who was at the other end of a UNIX socket when it connected, by its effective user and group. The
/// number of the process is 0 where it has none here.
pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the call writes at most the size of `peer`, which is of plain numbers and lives
    // through it; the descriptor is open because `socket` lends it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}

/// The process at the other end of a UNIX socket, which cannot be taken for another one that has got
/// its number. `None` where the kernel (before Linux 6.5) cannot say.
pub(crate) fn peer_process(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut descriptor: RawFd = -1;
    let mut length = size_of_val(&descriptor) as libc::socklen_t;
    // SAFETY: the call writes one int, which lives through it; the descriptor is open because
    // `socket` lends it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if result == 0 && descriptor >= 0 {
        // SAFETY: the kernel has just made it for us.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(None) } else { Err(error) }
}

/// The supplementary groups of the process at the other end of a UNIX socket, as they were when it
/// connected.
pub(crate) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: `groups` lives through the call and has `length` bytes, of which the kernel
        // writes as many as it says; the descriptor is open because `socket` lends it.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
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
pub(crate) fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays the same and open until it is dropped, and it is dropped
    // by the `AsyncFd` after that has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
