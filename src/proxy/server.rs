//! A connection to a server.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::net::{TcpStream, UnixStream};

use super::http2::Exchange;
use super::pool::{Seen, Unused};
use crate::balance::Server;
use crate::base::{worker_address, worker_socket};
use crate::config::settings::Address;
use crate::io::stream::{ByteStream, forward_to_variants};
use crate::sys;

/// A UNIX listener whose backlog is full refuses at once; this is how soon it is asked again.
const FULL_BACKLOG: Duration = Duration::from_millis(10);

/// Bytes of a response that say its status.
const BEGINNING: usize = b"HTTP/1.1 408".len();

/// A stream to a server.
#[derive(Debug)]
pub(crate) enum ServerStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// One request of an HTTP/2 connection.
    Http2(Box<Exchange>),
}

impl ServerStream {
    /// Connects; the caller bounds the time.
    pub(crate) async fn connect(server: &Server) -> io::Result<Self> {
        match &server.address {
            Address::Tcp(address) => {
                let stream = worker_address::connect(*address, server.worker.as_ref()).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => loop {
                match worker_socket::server(path).await {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(FULL_BACKLOG).await;
                    }
                    other => return other.map(Self::Unix),
                }
            },
        }
    }

    /// Whether the server has taken all that was written, of a connection that it has ended: one that it
    /// closed before is reset by what comes then, and so is one that ends with something unread.
    pub(crate) fn was_taken(&self) -> bool {
        match self {
            Self::Tcp(stream) => {
                stream.take_error().is_ok_and(|error| error.is_none())
                    && sys::unacknowledged(stream) == Some(0)
            }
            Self::Unix(_) | Self::Http2(_) => true,
        }
    }

    /// Whether nobody has read anything of so many bytes that were written, as far as the kernel of this machine
    /// says.
    pub(crate) fn is_unread(&self, sent: usize) -> bool {
        match self {
            Self::Tcp(stream) => worker_address::is_unread(stream, sent),
            Self::Unix(stream) => {
                sys::unacknowledged(stream).is_some_and(|left| left >= sent as u64)
            }
            Self::Http2(_) => false,
        }
    }

    /// What the kernel has for this unused connection, by asking it: for requests that cannot be sent
    /// twice.
    pub(crate) fn look_now(&self) -> Seen {
        let mut bytes = [0; BEGINNING];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = match self {
            Self::Tcp(stream) => rustix::net::recv(stream, &mut bytes[..], flags),
            Self::Unix(stream) => rustix::net::recv(stream, &mut bytes[..], flags),
            Self::Http2(_) => return Seen::Nothing,
        };
        seen(peeked.map(|(count, _)| count).map_err(Into::into), &bytes)
    }
}

impl Unused for ServerStream {
    /// Costs no system call unless an event came in.
    fn look(&self) -> Seen {
        let mut bytes = [0; BEGINNING];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut bytes),
            Self::Unix(stream) => stream.try_read(&mut bytes),
            Self::Http2(_) => return Seen::Nothing,
        };
        seen(read, &bytes)
    }
}

fn seen(read: io::Result<usize>, bytes: &[u8; BEGINNING]) -> Seen {
    match read {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Seen::Nothing,
        // Says that nobody has asked in time, and is the only thing that may be said unasked (RFC 9110
        // 15.5.9).
        Ok(1..) if bytes.starts_with(b"HTTP/1.") && bytes[8..] == *b" 408" => Seen::End,
        Ok(1..) => Seen::Bytes,
        Ok(0) | Err(_) => Seen::End,
    }
}

forward_to_variants!(ServerStream: Tcp, Unix, Http2);

impl ByteStream for ServerStream {
    fn is_plain_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn plain_tcp(&mut self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) | Self::Http2(_) => None,
        }
    }

    fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Unix(_) | Self::Http2(_) => Poll::Ready(()),
        }
    }
}
