//! The beginning of a connection: from an accepted socket to whoever speaks its protocol.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::accept::Accepted;
use super::lazy::{LazySocket, LazyTcp, LazyUnix};
use super::worker::Batch;
use crate::config::settings::ListenProtocol;
use crate::proxy::connection::{ClientStream, serve, serve_holding};
use crate::proxy::forwarded::Origin;
use crate::proxy::local::{About, Local};
use crate::proxy::{Reason, http2};
use crate::tls::{self, TlsStream};

/// The versions of HTTP that a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Starts a task for each connection.
pub(super) fn begin(local: &Rc<Local>, batch: Batch, gone: &UnboundedSender<IpAddr>) {
    local.deadlines.tick(); // the clock may be half a second old
    let counters = &local.counters;
    let snapshot = local.snapshot();
    let listener = snapshot.settings.front.listener(&batch.source.name);
    let protocol = listener.protocol;
    let tls = snapshot.tls.config(&batch.source.name);
    for Accepted { socket, peer } in batch.connections {
        counters.accepted.add(1);
        counters.open.add(1);
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let origin = Origin { peer, secure: false, http2: false, port: batch.source.port };
        let open = Open { local: Rc::clone(local), gone: peer.map(|peer| (gone.clone(), peer)) };
        let local = Rc::clone(local);
        if protocol == ListenProtocol::Https {
            let Some(config) = tls.cloned() else {
                let about = About { client: peer, ..About::default() };
                local.refused(Reason::NoCertificate, &about);
                continue;
            };
            let socket = if batch.source.unix {
                LazySocket::Unix(LazyUnix::from(socket))
            } else {
                LazySocket::Tcp(LazyTcp::from(socket))
            };
            tokio::task::spawn_local(async move {
                let _open = open;
                // In a box: what the handshake needs is not needed afterwards.
                let handshake = Box::pin(shake_hands(&local, config, socket, &origin)).await;
                let Some(stream) = handshake else { return };
                let origin = Origin { secure: true, ..origin };
                speak(local, stream, origin).await;
            });
            continue;
        }
        // The common case goes straight to its server: every step between would make the task of
        // an idle connection larger.
        if listener.http2 {
            begin_either(open, local, socket, batch.source.unix, origin);
        } else if batch.source.unix {
            tokio::task::spawn_local(serve_holding(open, local, LazyUnix::from(socket), origin));
        } else {
            tokio::task::spawn_local(serve_holding(open, local, LazyTcp::from(socket), origin));
        }
    }
}

/// The same where the client may begin with HTTP/2.
fn begin_either(open: Open, local: Rc<Local>, socket: OwnedFd, unix: bool, origin: Origin) {
    tokio::task::spawn_local(async move {
        let _open = open;
        if unix {
            http2::serve_either(local, LazyUnix::from(socket), origin).await;
        } else {
            http2::serve_either(local, LazyTcp::from(socket), origin).await;
        }
    });
}

/// Takes the TLS connection that a client opens; counts and logs why there is none.
async fn shake_hands<S: ClientStream>(
    local: &Rc<Local>,
    config: Arc<ServerConfig>,
    socket: S,
    origin: &Origin,
) -> Option<TlsStream<S>> {
    let timeout = local.snapshot().settings.front.timeouts.tls_handshake;
    let deadline = local.deadlines.add();
    let mut handshake = pin!(tls::accept(config, socket, &local.handshakes));
    let (reason, detail) = match deadline.within(timeout, |cx| handshake.as_mut().poll(cx)).await {
        Some(Ok(stream)) => return Some(stream),
        Some(Err(tls::Failed::Silent)) => return None,
        Some(Err(failed)) => (Reason::TlsFailed, failed.to_string()),
        None => (Reason::TlsTimeout, String::new()),
    };
    local.refused(reason, &About { client: origin.peer, detail: &detail, ..About::default() });
    None
}

/// Serves a connection in the version of HTTP that was agreed on.
async fn speak<S: ClientStream>(local: Rc<Local>, stream: TlsStream<S>, origin: Origin) {
    let version = match stream.alpn() {
        Some(b"h2") => Version::Http2,
        _ => Version::Http1,
    };
    match version {
        Version::Http1 => serve(local, stream, origin).await,
        Version::Http2 => http2::serve(local, stream, origin).await,
    }
}

/// An open connection; dropping it counts it out.
struct Open {
    local: Rc<Local>,
    gone: Option<(UnboundedSender<IpAddr>, IpAddr)>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.local.counters.open.sub(1);
        if let Some((gone, peer)) = &self.gone
            && self.local.snapshot().settings.front.limits.connections_per_client.is_some()
        {
            let _ = gone.send(*peer);
        }
    }
}
