//! The sockets that clients are at the other end of.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A stream that a client may be at the other end of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Writes what the socket takes at once.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Whether nobody can read what is written to it any more, as far as the kernel knows.
    fn is_gone(&self) -> bool;
    /// The socket, for another process.
    fn into_descriptor(self) -> Option<OwnedFd>;
}

impl Stream for UnixStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn is_gone(&self) -> bool {
        has_hung_up(self)
    }

    fn into_descriptor(self) -> Option<OwnedFd> {
        Some(self.into_std().ok()?.into())
    }
}

impl Stream for TcpStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn is_gone(&self) -> bool {
        has_hung_up(self) // over TCP it is known when the first reply has met a closed socket
    }

    fn into_descriptor(self) -> Option<OwnedFd> {
        Some(self.into_std().ok()?.into())
    }
}

fn has_hung_up(socket: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
}
