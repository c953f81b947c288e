//! A connection to a server, and the idle ones that a thread keeps.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::net::{TcpStream, UnixStream};

use super::http2::Exchange;
use crate::balance::Server;
use crate::base::worker_socket;
use crate::config::settings::Address;
use crate::io::stream::{ByteStream, forward_to_variants};

/// How much earlier than the server we stop using an idle connection: the request must arrive
/// there before the server's own timer runs out.
const MARGIN: Duration = Duration::from_secs(1);
/// A UNIX listener whose backlog is full refuses at once; this is how soon it is asked again.
const FULL_BACKLOG: Duration = Duration::from_millis(10);

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
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
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

    /// Whether the server closed this idle connection, or said something on it unasked.
    ///
    /// Costs no system call unless an event came in.
    pub(crate) fn is_stale(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
            Self::Http2(_) => return false,
        };
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, by asking the kernel: for requests that cannot be sent twice.
    pub(crate) fn is_stale_now(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = match self {
            Self::Tcp(stream) => rustix::net::recv(stream, &mut byte[..], flags),
            Self::Unix(stream) => rustix::net::recv(stream, &mut byte[..], flags),
            Self::Http2(_) => return false,
        };
        !matches!(peeked, Err(rustix::io::Errno::AGAIN))
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

/// A thread's idle connections, by server.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Sorted by the server's id: there are few servers, and looking one up is all that is done.
    servers: Vec<(u32, Vec<Idle>)>,
}

#[derive(Debug)]
struct Idle {
    stream: ServerStream,
    incarnation: u32,
    /// The only client whose requests may go here.
    client: Option<IpAddr>,
    /// When it is closed, in the thread's milliseconds.
    until: u64,
}

impl Pool {
    /// The connection that was used last, if one can be used again.
    ///
    /// `client` is whom the server was told that a connection comes from, if it was told.
    pub(crate) fn take(
        &mut self,
        server: &Server,
        client: Option<IpAddr>,
        now: u64,
    ) -> Option<ServerStream> {
        let at = self.find(server.id).ok()?;
        let idle = &mut self.servers[at].1;
        let incarnation = server.incarnation();
        while let Some(at) = idle.iter().rposition(|idle| idle.client == client) {
            let connection = idle.remove(at);
            if connection.incarnation == incarnation
                && connection.until > now
                && !connection.stream.is_stale()
            {
                return Some(connection.stream);
            }
        }
        None
    }

    /// Keeps a connection for `idle`, or for less when the server said so.
    pub(crate) fn put(
        &mut self,
        server: &Server,
        (incarnation, client): (u32, Option<IpAddr>),
        stream: ServerStream,
        limits: (Duration, usize),
        servers_own: Option<u64>,
        now: u64,
    ) {
        let (idle, most) = limits;
        let own = servers_own.map(|s| Duration::from_secs(s).saturating_sub(MARGIN));
        let idle = own.map_or(idle, |own| own.min(idle));
        if idle.is_zero() || most == 0 || incarnation != server.incarnation() {
            return;
        }
        let until = now.saturating_add(idle.as_millis() as u64);
        let at = self.find(server.id).unwrap_or_else(|at| {
            self.servers.insert(at, (server.id, Vec::new()));
            at
        });
        let list = &mut self.servers[at].1;
        if list.len() >= most {
            list.remove(0); // the one that would time out first
        }
        list.push(Idle { stream, incarnation, client, until });
    }

    /// Closes every idle connection to this server.
    pub(crate) fn forget(&mut self, id: u32) {
        if let Ok(at) = self.find(id) {
            self.servers.remove(at);
        }
    }

    /// Closes those whose time is up and those that the server closed.
    pub(crate) fn sweep(&mut self, now: u64) {
        for (_, list) in &mut self.servers {
            list.retain(|idle| idle.until > now && !idle.stream.is_stale());
        }
        self.servers.retain(|(_, list)| !list.is_empty());
    }

    fn find(&self, id: u32) -> Result<usize, usize> {
        self.servers.binary_search_by_key(&id, |(id, _)| *id)
    }
}
