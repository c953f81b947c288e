//! The beginning of a connection: from an accepted socket to whoever speaks its protocol.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::mpsc::UnboundedSender;

use super::accept::Accepted;
use super::lazy::{LazyTcp, LazyUnix};
use super::worker::Batch;
use crate::config::settings::ListenProtocol;
use crate::proxy::connection::{ClientStream, serve, serve_holding};
use crate::proxy::forwarded::Origin;
use crate::proxy::http2;
use crate::proxy::local::Local;

/// The versions of HTTP that a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "for TLS, which agrees on one")]
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
    let ListenProtocol::Http = listener.protocol;
    for Accepted { socket, peer } in batch.connections {
        counters.accepted.add(1);
        counters.open.add(1);
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let origin = Origin { peer, secure: false, http2: false, port: batch.source.port };
        let open = Open { local: Rc::clone(local), gone: peer.map(|peer| (gone.clone(), peer)) };
        let local = Rc::clone(local);
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

/// Serves a connection in the version of HTTP that was agreed on.
#[expect(dead_code, reason = "for TLS, which agrees on one")]
pub(super) async fn speak<C: ClientStream>(
    local: Rc<Local>,
    stream: C,
    origin: Origin,
    version: Version,
) {
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
