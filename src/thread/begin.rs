//! The beginning of a connection: from an accepted socket to whoever speaks its protocol.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::batch::{Accepted, Batch};
use super::introduce::introduced;
use crate::config::settings::{ForwardedCertificate, ListenProtocol, PerClient};
use crate::front::{Reason, Snapshot};
use crate::io::{ByteStream, LazySocket, LazyTcp, LazyUnix};
use crate::proxy::connection::{serve, serve_holding};
use crate::proxy::forwarded::Origin;
use crate::proxy::local::{About, Local};
use crate::proxy::{http2, identity};
use crate::tls::{self, TlsStream};

/// The versions of HTTP that a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Starts a task for each connection. They are counted as open already.
pub(super) fn begin(local: &Rc<Local>, batch: Batch, gone: &UnboundedSender<IpAddr>) {
    local.deadlines.tick(); // the thread may have rested
    local.roused.notify_one();
    let counters = &local.counters;
    let snapshot = local.snapshot();
    let listener = snapshot.settings.front.listener(&batch.source.name);
    let plain = listener.protocol == ListenProtocol::Http && !listener.proxy_protocol;
    for Accepted { socket, peer } in batch.connections {
        counters.accepted.add(1);
        let address = peer.map(|peer| peer.ip().to_canonical());
        let origin = Origin {
            peer: address,
            peer_port: peer.map_or(0, |peer| peer.port()),
            local: arrived_at(&snapshot, &socket),
            port: batch.source.port,
            ..Origin::default()
        };
        let gone = address.map(|address| (gone.clone(), address));
        let open = Open { local: Rc::clone(local), gone };
        let local = Rc::clone(local);
        if !plain {
            let tls = snapshot.tls.config(&batch.source.name).cloned();
            if listener.protocol == ListenProtocol::Https && tls.is_none() {
                let about = About { client: address, ..About::default() };
                local.refused(Reason::NoCertificate, &about);
                continue;
            }
            let setup = ConnectionSetup {
                proxied: listener.proxy_protocol,
                tls,
                http2: listener.http2,
                identity: listener.forward_client_certificate,
            };
            let socket = if batch.source.unix {
                LazySocket::Unix(LazyUnix::from(socket))
            } else {
                LazySocket::Tcp(LazyTcp::from(socket))
            };
            tokio::task::spawn_local(async move {
                let _open = open;
                establish(local, socket, origin, setup).await;
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

/// What stands between a socket and its HTTP.
struct ConnectionSetup {
    proxied: bool,
    tls: Option<Arc<ServerConfig>>,
    http2: bool,
    /// What servers are told of the client's certificate.
    identity: ForwardedCertificate,
}

/// Sets the connection up and serves what it carries.
async fn establish(
    local: Rc<Local>,
    mut socket: LazySocket,
    mut origin: Origin,
    setup: ConnectionSetup,
) {
    // In boxes: what the beginning needs is not needed afterwards.
    if setup.proxied {
        let origin_of_proxy = Box::pin(introduced(&local, &mut socket, origin)).await;
        let Some(introduced) = origin_of_proxy else { return };
        origin = introduced;
    }
    let Some(config) = setup.tls else {
        return if setup.http2 {
            http2::serve_either(local, socket, origin).await;
        } else {
            serve(local, socket, origin).await;
        };
    };
    let Some(stream) = Box::pin(shake_hands(&local, config, socket, &origin)).await else { return };
    let identity = identity::fields(stream.peer_certificates(), setup.identity);
    speak(local, stream, Origin { secure: true, identity, ..origin }).await;
}

/// The address at which a connection arrived, if an upstream's servers are to be told. Asking the
/// kernel costs a call.
fn arrived_at(snapshot: &Snapshot, socket: &OwnedFd) -> Option<IpAddr> {
    if !snapshot.introduces {
        return None;
    }
    let address = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
    Some(address.ip().to_canonical())
}

/// Takes the TLS connection that a client opens; counts and logs why there is none.
async fn shake_hands<S: ByteStream>(
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
        Some(Err(tls::HandshakeError::Silent)) => return None,
        Some(Err(failed)) => (Reason::TlsFailed, failed.to_string()),
        None => (Reason::TlsTimeout, String::new()),
    };
    local.refused(reason, &About { client: origin.peer, detail: &detail, ..About::default() });
    None
}

/// Serves a connection in the version of HTTP that was agreed on.
async fn speak<S: ByteStream>(local: Rc<Local>, stream: TlsStream<S>, origin: Origin) {
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
        self.local.counters.connections.close();
        if let Some((gone, peer)) = &self.gone
            && self.local.snapshot().settings.front.limits.connections_per_client
                != PerClient::Unlimited
        {
            let _ = gone.send(*peer);
        }
    }
}
