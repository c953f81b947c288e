//! A client's stream under TLS.
//!
//! A write is done when the kernel has all of it, as with a socket: nothing that was written is
//! ever held back here, so nobody needs to flush. In return a write that had to wait must be
//! tried again with the same bytes, which is what polling until all is written does anyway.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::ByteStream;
use crate::io::buf::{Buf, Input, LARGE, poll_read};

/// The server's end of a TLS connection over `S`.
#[derive(Debug)]
pub(crate) struct TlsStream<S: AsyncRead + AsyncWrite + Unpin> {
    io: S,
    /// In a box, because a stream is moved about.
    connection: Box<ServerConnection>,
    /// What came and was not decrypted yet.
    input: Input,
    /// Bytes that were encrypted for a write that is not done.
    owed: usize,
    closed: bool,
}

/// A stream as the blocking one that rustls writes to: what would have to wait says so.
struct Blocking<'a, 'c, S>(&'a mut S, &'a mut Context<'c>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// A stream whose handshake has not begun.
    pub(super) fn new(config: Arc<ServerConfig>, io: S) -> Result<Self, rustls::Error> {
        let connection = Box::new(ServerConnection::new(config)?);
        Ok(Self { io, connection, input: Input::new(0), owed: 0, closed: false })
    }

    /// The protocol that was agreed on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The certificates that the client has shown and that were found good, its own first.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Reads what the handshake waits for, without looking at it; zero bytes are the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        pending(self.connection.read_tls(&mut Blocking(&mut self.io, cx)))
    }

    /// Works on what was read. After an error, what tells the client about it is to be sent.
    pub(super) fn process(&mut self) -> Result<(), rustls::Error> {
        self.connection.process_new_packets().map(drop)
    }

    /// Sends all that is to be sent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            let sent = self.connection.write_tls(&mut Blocking(&mut self.io, cx));
            if ready!(pending(sent))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.owed)))
    }

    /// Takes in some of what came from the network, or its end.
    fn poll_network(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            let two_records = || Buf::for_bytes(LARGE);
            ready!(self.input.poll_fill(cx, &mut self.io, two_records, LARGE))?;
        }
        loop {
            // An empty piece is how rustls is told of the end.
            let count = self.connection.read_tls(&mut self.input.bytes())?;
            self.input.consume(count);
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    let _ = self.poll_send(cx); // the alert; there is nothing to wait for any more
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            };
            // It takes no more than a record before that was read.
            if self.input.is_empty() || state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        // Answers to key updates. What does not go now goes with the next write.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

fn pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl<S: ByteStream> ByteStream for TlsStream<S> {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.io.socket()
    }

    fn is_watched(&self) -> Option<bool> {
        self.io.is_watched()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let read = io::Read::read(&mut this.connection.reader(), buffer.initialize_unfilled());
            if let Poll::Ready(result) = pending(read) {
                return Poll::Ready(result.map(|count| buffer.advance(count)));
            }
            ready!(this.poll_network(cx))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.owed == 0 {
            this.owed = io::Write::write_vectored(&mut this.connection.writer(), bytes)?;
        }
        this.poll_owed(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.closed, true) {
            this.connection.send_close_notify();
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for TlsStream<S> {
    /// Says that nothing more comes, if that can be said without waiting: without it a client
    /// cannot tell the end from a connection that was cut.
    fn drop(&mut self) {
        let whole = self.owed == 0 && !self.connection.wants_write();
        if self.closed || !whole || self.is_handshaking() {
            return;
        }
        if tokio::runtime::Handle::try_current().is_ok() {
            self.connection.send_close_notify();
            let _ = self.poll_send(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl<S: AsyncRead + Unpin> io::Read for Blocking<'_, '_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match poll_read(self.0, self.1, into) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> io::Write for Blocking<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let stream = Pin::new(&mut *self.0);
        let written = match bytes {
            [one] => stream.poll_write(self.1, one),
            several => stream.poll_write_vectored(self.1, several),
        };
        match written {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
