//! The bytes of a client connection, in clear or under TLS.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::Result;
use rustls::{ClientConnection, StreamOwned};

use crate::identity;

/// A connection that does not block.
pub(super) enum Stream {
    Plain(TcpStream),
    /// Shakes hands with the first bytes that are written or read.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

// === impl Stream ===

impl Stream {
    /// The same under TLS, with a handshake that resumes nothing.
    pub(super) fn tls(socket: TcpStream) -> Result<Self> {
        let config = Arc::clone(identity::client());
        let connection = ClientConnection::new(config, identity::name())?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Whether a short read says nothing about the socket.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(data),
            Self::Tls(stream) => stream.write(data),
        }
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(data),
            Self::Tls(stream) => stream.write_vectored(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
