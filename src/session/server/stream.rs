//! The sockets that clients are at the other end of.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A stream that a client may be at the other end of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Writes what the socket takes at once.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The socket, for another process; `None` when its client must connect anew.
    fn into_descriptor(self) -> Option<OwnedFd>;
}

impl Stream for UnixStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn into_descriptor(self) -> Option<OwnedFd> {
        Some(self.into_std().ok()?.into())
    }
}

impl Stream for TcpStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn into_descriptor(self) -> Option<OwnedFd> {
        None
    }
}
