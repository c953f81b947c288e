//! A client's TCP or UNIX socket that is registered with the runtime only when it has to wait.
//!
//! With deferred accepts the request is there when the connection is, so a client that asks once
//! and goes costs no registration at all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::stream::{ByteStream, forward_to_variants};

/// A non-blocking socket, perhaps not registered yet.
#[derive(Debug)]
pub(crate) enum Lazy<R, S> {
    Raw(R),
    Registered(S),
    /// Registering it failed.
    Broken,
}

/// A client's TCP connection.
pub(crate) type LazyTcp = Lazy<std::net::TcpStream, TcpStream>;
/// A client's connection to a UNIX socket.
pub(crate) type LazyUnix = Lazy<std::os::unix::net::UnixStream, UnixStream>;

impl<R: From<OwnedFd>, S> From<OwnedFd> for Lazy<R, S> {
    fn from(socket: OwnedFd) -> Self {
        Self::Raw(socket.into())
    }
}

/// A client's connection of either kind.
#[derive(Debug)]
pub(crate) enum LazySocket {
    Tcp(LazyTcp),
    Unix(LazyUnix),
}

/// A socket that the runtime can take over.
pub(crate) trait Register<S> {
    fn register(self) -> io::Result<S>;
    fn shutdown_write(&self) -> io::Result<()>;
    fn poll_read_ready(stream: &S, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Runs this, which finds out that the stream is not ready after all when it is not.
    fn try_read(stream: &S, read: impl FnMut() -> io::Result<usize>) -> io::Result<usize>;
}

/// Copies what is there, and leaves it there.
fn peek(socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(socket, into, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// The two kinds of streams have the same methods, and no trait of theirs says so.
macro_rules! register {
    ($raw:ty, $stream:ty) => {
        impl Register<$stream> for $raw {
            fn register(self) -> io::Result<$stream> {
                <$stream>::from_std(self)
            }

            fn shutdown_write(&self) -> io::Result<()> {
                self.shutdown(std::net::Shutdown::Write)
            }

            fn poll_read_ready(stream: &$stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                stream.poll_read_ready(cx)
            }

            fn try_read(
                stream: &$stream,
                read: impl FnMut() -> io::Result<usize>,
            ) -> io::Result<usize> {
                stream.try_io(Interest::READABLE, read)
            }
        }
    };
}

register!(std::net::TcpStream, TcpStream);
register!(std::os::unix::net::UnixStream, UnixStream);

impl<R: Register<S> + AsFd, S: AsFd> Lazy<R, S> {
    /// Copies what has come, and leaves it there for the next read; zero bytes are the end.
    fn poll_peek(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Self::Raw(raw) = self
            && let Some(result) = std::task::ready!(in_turn(cx, || peek(raw, into)))
        {
            return Poll::Ready(result);
        }
        let stream = self.registered()?;
        loop {
            std::task::ready!(R::poll_read_ready(stream, cx))?;
            if let Some(result) = ready(R::try_read(stream, || peek(&*stream, into))) {
                return Poll::Ready(result);
            }
        }
    }
}

impl<R: AsFd, S: AsFd> Lazy<R, S> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Raw(raw) => Some(raw.as_fd()),
            Self::Registered(stream) => Some(stream.as_fd()),
            Self::Broken => None,
        }
    }
}

impl ByteStream for LazyTcp {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor()
    }

    fn is_watched(&self) -> Option<bool> {
        Some(matches!(self, Self::Registered(_)))
    }

    fn is_plain_tcp(&self) -> bool {
        true
    }

    fn plain_tcp(&mut self) -> Option<&TcpStream> {
        self.registered().ok().map(|stream| &*stream)
    }

    fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Registered(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Raw(_) | Self::Broken => Poll::Ready(()),
        }
    }

    /// What fills no segment waits for the end, and goes out in one packet with it.
    fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
            Ok(rustix::net::send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?)
        }
        if let Self::Raw(raw) = self
            && let Some(result) = std::task::ready!(in_turn(cx, || send(raw, bytes)))
        {
            return Poll::Ready(result);
        }
        let stream = self.registered()?;
        loop {
            std::task::ready!(stream.poll_write_ready(cx))?;
            let written = stream.try_io(Interest::WRITABLE, || send(&*stream, bytes));
            if let Some(result) = ready(written) {
                return Poll::Ready(result);
            }
        }
    }

    fn end(&self) {
        // Where that fails, the connection has ended.
        let _ = match self {
            Self::Raw(raw) => raw.shutdown_write(),
            Self::Registered(stream) => {
                rustix::net::shutdown(stream, rustix::net::Shutdown::Write).map_err(Into::into)
            }
            Self::Broken => Ok(()),
        };
    }
}

impl ByteStream for LazyUnix {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor()
    }

    fn is_watched(&self) -> Option<bool> {
        Some(matches!(self, Self::Registered(_)))
    }
}

impl ByteStream for LazySocket {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(socket) => socket.socket(),
            Self::Unix(socket) => socket.socket(),
        }
    }

    fn is_watched(&self) -> Option<bool> {
        match self {
            Self::Tcp(socket) => socket.is_watched(),
            Self::Unix(socket) => socket.is_watched(),
        }
    }

    fn is_plain_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn plain_tcp(&mut self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(socket) => socket.plain_tcp(),
            Self::Unix(_) => None,
        }
    }
}

forward_to_variants!(LazySocket: Tcp, Unix);

impl LazySocket {
    /// Copies what has come, and leaves it there for the next read; zero bytes are the end.
    pub(crate) fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => socket.poll_peek(cx, into),
            Self::Unix(socket) => socket.poll_peek(cx, into),
        }
    }
}

impl<R: Register<S>, S> Lazy<R, S> {
    /// The stream, registered now if it was not.
    fn registered(&mut self) -> io::Result<&mut S> {
        if let Self::Raw(_) = self
            && let Self::Raw(raw) = std::mem::replace(self, Self::Broken)
        {
            *self = Self::Registered(raw.register()?);
        }
        match self {
            Self::Registered(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The same of a call that counts as the runtime counts those on registered sockets: who always finds
/// something to do lets the others have their turn after so many of them.
fn in_turn<T>(
    cx: &mut Context<'_>,
    call: impl FnOnce() -> io::Result<T>,
) -> Poll<Option<io::Result<T>>> {
    let share = std::task::ready!(tokio::task::coop::poll_proceed(cx));
    let result = ready(call());
    if result.is_some() {
        share.made_progress();
    }
    Poll::Ready(result)
}

/// The result of a call on the raw socket, unless it would have had to wait.
fn ready<T>(result: io::Result<T>) -> Option<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        result => Some(result),
    }
}

impl<R, S> AsyncRead for Lazy<R, S>
where
    R: Register<S> + io::Read + Unpin,
    S: AsyncRead + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Self::Raw(raw) = this
            && let Some(result) =
                std::task::ready!(in_turn(cx, || raw.read(buffer.initialize_unfilled())))
        {
            return Poll::Ready(result.map(|count| buffer.advance(count)));
        }
        Pin::new(this.registered()?).poll_read(cx, buffer)
    }
}

impl<R, S> AsyncWrite for Lazy<R, S>
where
    R: Register<S> + io::Write + Unpin,
    S: AsyncWrite + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Self::Raw(raw) = this
            && let Some(result) = std::task::ready!(in_turn(cx, || raw.write(bytes)))
        {
            return Poll::Ready(result);
        }
        Pin::new(this.registered()?).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Self::Raw(raw) = this
            && let Some(result) = std::task::ready!(in_turn(cx, || raw.write_vectored(bytes)))
        {
            return Poll::Ready(result);
        }
        Pin::new(this.registered()?).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // sockets do not buffer
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Raw(raw) => Poll::Ready(raw.shutdown_write()),
            Self::Registered(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Broken => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_last_words_arrive_also_when_the_other_side_says_more() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for registered in [false, true] {
            let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (near, _) = listener.accept().unwrap();
            near.set_nonblocking(true).unwrap();
            let mut lazy = LazyTcp::Raw(near);
            if registered {
                lazy.registered().unwrap();
            }
            // Nobody reads it, so that closing alone would throw away what waits to be sent.
            far.write_all(b"more").unwrap();
            let last = |cx: &mut Context<'_>| lazy.poll_write_last(cx, b"goodbye");
            assert_eq!(std::future::poll_fn(last).await.unwrap(), 7);
            lazy.end();
            drop(lazy);
            let mut said = [0; 7];
            std::io::Read::read_exact(&mut far, &mut said).unwrap();
            assert_eq!(&said, b"goodbye");
        }
    }

    #[tokio::test]
    async fn what_is_there_needs_no_registration() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut lazy = LazyUnix::Raw(near);
        far.write_all(b"ask").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(lazy.read(&mut buffer).await.unwrap(), 3);
        lazy.write_all(b"answer").await.unwrap();
        assert!(matches!(lazy, Lazy::Raw(_)));

        // The next read has to wait.
        let read = tokio::spawn(async move {
            let count = lazy.read(&mut buffer).await.unwrap();
            (count, matches!(lazy, Lazy::Registered(_)))
        });
        tokio::task::yield_now().await;
        far.write_all(b"again").unwrap();
        assert_eq!(read.await.unwrap(), (5, true));
    }
}
