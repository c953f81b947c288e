//! The way to the server: a connection that is kept, or a new one.

use std::net::IpAddr;

use tokio::io::AsyncWriteExt as _;

use super::super::http2;
use super::super::server::ServerStream;
use super::{Attempt, FailedAttempt};
use crate::config::settings::ServerProtocol;
use crate::front::Reason;
use crate::io::{ByteStream, preface};

impl<C: ByteStream> Attempt<'_, C> {
    pub(super) fn take_pooled(&self) -> Option<ServerStream> {
        let local = &self.connection.local;
        let now = local.deadlines.now();
        let server = self.in_flight.server();
        if server.protocol == ServerProtocol::H2c {
            return local.links.borrow_mut().take(server).map(ServerStream::Http2);
        }
        loop {
            let stream = local.pool.borrow_mut().take(server, self.told(), now)?;
            // What cannot be sent twice is worth a system call to know better.
            if self.request.idempotent && self.upload.is_finished() || !stream.is_stale_now() {
                return Some(stream);
            }
            local.counters.stale.add(1);
        }
    }

    pub(super) fn keep(&self, stream: ServerStream, incarnation: u32, idle: Option<u64>) {
        if matches!(stream, ServerStream::Http2(_)) {
            return; // its connection is kept elsewhere
        }
        let front = &self.request.snapshot.settings.front;
        let limits = (front.timeouts.upstream_idle, front.limits.upstream_idle_connections);
        let local = &self.connection.local;
        let now = local.deadlines.now();
        let server = self.in_flight.server();
        let of = (incarnation, self.told());
        local.pool.borrow_mut().put(server, of, stream, limits, idle, now);
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
        let failed =
            |detail| FailedAttempt { reason: Reason::ConnectFailed, retryable: true, detail };
        let server = self.in_flight.server();
        let address = &server.address;
        let mut connect = std::pin::pin!(async {
            let mut stream = ServerStream::connect(address).await?;
            self.introduce(&mut stream).await?;
            match server.protocol {
                ServerProtocol::Http1 => Ok(stream),
                ServerProtocol::H2c => http2::connect(&self.connection.local, server, stream).await,
            }
        });
        let timeout = self.timeouts().connect;
        let deadline = &self.connection.deadline;
        match deadline.within(timeout, |cx| connect.as_mut().poll(cx)).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(failed(format!("connecting to {address}: {error}"))),
            None => Err(failed(format!("connecting to {address} took too long"))),
        }
    }
}
