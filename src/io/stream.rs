//! What connections are made of: TCP and UNIX sockets, TLS over them, and streams within others.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream of bytes in both directions, and what can be known of it or done to it beyond reading
/// and writing. Who knows nothing more of itself leaves everything as it is here.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The socket beneath, if it is this stream's alone.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Has the kernel throw away at the end what the peer has not taken. It would keep it,
    /// megabytes perhaps, for as long as a peer that does not read says that it is there.
    fn discard_unread(&self) {
        if let Some(socket) = self.socket() {
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }

    /// It ends early because of the server behind it: that is not held against its peer.
    fn server_failed(&self) {}

    /// Whether reading it, while nothing has come, asks the kernel for nothing: then its peer may be
    /// watched all the time. `None` where the end of what is read says nothing about the peer.
    fn is_watched(&self) -> Option<bool> {
        None
    }

    /// Whether it is TCP with nothing over it.
    fn is_plain_tcp(&self) -> bool {
        false
    }

    /// The TCP socket that it is, with nothing over it.
    fn plain_tcp(&mut self) -> Option<&TcpStream> {
        None
    }

    /// Pending when it is known without asking that there is nothing to read; the task is woken
    /// when there is. Costs less than a read that comes to nothing, and something where it comes to
    /// more.
    fn poll_may_read(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Writes what [`ByteStream::end`] follows at once: over plain TCP both go out in one packet
    /// where they fit.
    fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Sends what was held back for it and the end of our side, where that is plain TCP; closing
    /// does that, too, but throws away what waits to be sent when the peer has sent more than was
    /// read.
    fn end(&self) {}
}

/// Reading and writing for an enum of streams: each does it by the one that it is.
macro_rules! forward_to_variants {
    ($name:ident: $($variant:ident),+) => {
        impl tokio::io::AsyncRead for $name {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => std::pin::Pin::new(stream).poll_read(cx, buffer),)+
                }
            }
        }

        impl tokio::io::AsyncWrite for $name {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => std::pin::Pin::new(stream).poll_write(cx, bytes),)+
                }
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                parts: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => {
                        std::pin::Pin::new(stream).poll_write_vectored(cx, parts)
                    })+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => std::pin::Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => std::pin::Pin::new(stream).poll_shutdown(cx),)+
                }
            }
        }
    };
}
pub(crate) use forward_to_variants;

#[cfg(test)]
mod tests {
    use super::ByteStream;

    impl ByteStream for tokio::io::Empty {}
    impl ByteStream for tokio::io::DuplexStream {}
}
