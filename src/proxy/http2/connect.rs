//! HTTP/2 on a new connection to a server.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::client;
use tracing::debug;

use super::super::local::Local;
use super::super::server::ServerStream;
use super::share::State;
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW, broken};
use crate::balance::Server;

/// Begins HTTP/2 on a new connection to a server.
pub(crate) async fn connect(
    local: &Rc<Local>,
    server: &Server,
    stream: ServerStream,
) -> io::Result<ServerStream> {
    let incarnation = server.incarnation();
    let idle = local.snapshot().settings.front.timeouts.upstream_idle;
    let limits = local.snapshot().settings.front.limits.clone();
    let (handle, connection) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(limits.header_bytes as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(broken)?;
    let state = State::new(idle, local.deadlines.now());
    let of_task = Rc::clone(&state);
    let name = server.name.clone();
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            debug!(roundsman_worker = name, "HTTP/2 connection to a server: {error}");
        }
        of_task.ended.set(true);
    });
    let exchange = local.links.borrow_mut().add((server.id, incarnation), handle, state);
    Ok(ServerStream::Http2(exchange))
}
