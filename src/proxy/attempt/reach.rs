//! The way to the server: a connection that is kept, or a new one.

use std::net::IpAddr;
use std::task::Poll;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::super::http2;
use super::super::pool::{self, Seen, Usable};
use super::super::server::ServerStream;
use super::{Attempt, FailedAttempt};
use crate::base::want;
use crate::config::settings::ServerProtocol;
use crate::front::Reason;
use crate::io::{ByteStream, preface};

impl<C: ByteStream> Attempt<'_, C> {
    pub(super) fn take_pooled(&self) -> Option<ServerStream> {
        let local = &self.connection.local;
        let server = self.in_flight.server();
        if server.protocol == ServerProtocol::H2c {
            return local.links.borrow_mut().take(server).map(ServerStream::Http2);
        }
        let now = Instant::now();
        loop {
            let stream = local.pool.borrow_mut().take(server, self.told(), now)?;
            // What cannot be sent twice is worth a system call to know better.
            if self.request.idempotent && self.upload.is_finished() {
                return Some(stream);
            }
            match stream.look_now() {
                Seen::Nothing => return Some(stream),
                Seen::End => local.counters.stale.add(1),
                Seen::Bytes => pool::distrust(server, now),
            }
        }
    }

    pub(super) fn keep(&self, stream: ServerStream, incarnation: u32, usable: Usable) {
        if matches!(stream, ServerStream::Http2(_)) {
            return; // its connection is kept elsewhere
        }
        let front = &self.request.snapshot.settings.front;
        let limits = (front.timeouts.upstream_idle, front.limits.upstream_idle_connections);
        let server = self.in_flight.server();
        let of = (incarnation, self.told());
        let mut pool = self.connection.local.pool.borrow_mut();
        pool.put(server, of, (stream, usable), limits, Instant::now());
    }

    /// Whom a server that is told of clients is told of.
    fn told(&self) -> Option<IpAddr> {
        self.in_flight.server().proxy_protocol.and(self.request.client)
    }

    /// Tells a server where its connection comes from, if it is to be told.
    async fn introduce(&self, stream: &mut ServerStream) -> std::io::Result<()> {
        let server = self.in_flight.server();
        let Some(version) = server.proxy_protocol else { return Ok(()) };
        let addresses = self.connection.origin.ends(self.request.client);
        let mut header = Vec::with_capacity(108);
        preface::write(&mut header, version, addresses);
        stream.write_all(&header).await
    }

    pub(super) async fn connect(&self) -> Result<ServerStream, FailedAttempt> {
        let server = self.in_flight.server();
        let address = &server.address;
        let failed = |reason, detail| {
            let (free, taken) = (reason == Reason::ConnectFailed, self.taken);
            Err(FailedAttempt { reason, retryable: free, taken, free, detail })
        };
        let timeout = self.timeouts().connect;
        let deadline = &self.connection.deadline;
        let mut again = true;
        loop {
            let mut connect = std::pin::pin!(self.open());
            let reached = deadline.within(timeout, |cx| match connect.as_mut().poll(cx) {
                Poll::Pending if self.connection.is_out_of_time() => Poll::Ready(None),
                reached => reached.map(Some),
            });
            match reached.await {
                Some(None) => return failed(Reason::ShutdownTimeout, String::new()),
                Some(Some(Ok(stream))) => return Ok(stream),
                Some(Some(Err(error))) if want::is_ours(&error) => {
                    // What nobody uses just now takes the same room.
                    let freed = self.connection.local.pool.borrow_mut().clear();
                    if !freed || !std::mem::take(&mut again) {
                        let detail = format!("connecting to {address}: {error}");
                        return failed(Reason::Exhausted, detail);
                    }
                }
                Some(Some(Err(error))) => {
                    let detail = format!("connecting to {address}: {error}");
                    return failed(Reason::ConnectFailed, detail);
                }
                None => {
                    let detail = format!("connecting to {address} took too long");
                    return failed(Reason::ConnectFailed, detail);
                }
            }
        }
    }

    async fn open(&self) -> std::io::Result<ServerStream> {
        let server = self.in_flight.server();
        let mut stream = ServerStream::connect(server).await?;
        self.introduce(&mut stream).await?;
        match server.protocol {
            ServerProtocol::Http1 => Ok(stream),
            ServerProtocol::H2c => http2::connect(&self.connection.local, server, stream).await,
        }
    }
}
