//! A thread's HTTP/2 connections to servers, each of which carries many requests at once.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tracing::debug;

use super::super::local::Local;
use super::super::server::ServerStream;
use super::{CONNECTION_WINDOW, Exchange, SEND_BUFFER, STREAM_WINDOW, broken};
use crate::balance::Server;

/// Requests at once on one connection, when the server would take more. Beyond them another
/// connection is opened: all of one connection wait for its one window and its lost packets.
const STREAMS: usize = 128;

/// A thread's connections, in no order: there are few.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

struct Link {
    server: u32,
    incarnation: u32,
    handle: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Cell<usize>,
    ended: Cell<bool>,
    /// When it is closed unless it is used again, in the thread's milliseconds.
    until: Cell<u64>,
    /// How long after its last request that is.
    idle: Cell<u64>,
    now: Cell<u64>,
}

/// One request's part of a connection.
#[derive(Debug)]
pub(super) struct Share(Rc<State>);

impl Links {
    /// A stream on a connection that is there and has room.
    pub(crate) fn take(&mut self, server: &Server) -> Option<Box<Exchange>> {
        let incarnation = server.incarnation();
        let link = self.0.iter().find(|link| {
            link.server == server.id
                && link.incarnation == incarnation
                && !link.state.ended.get()
                && link.state.open.get() < STREAMS.min(link.handle.current_max_send_streams())
        })?;
        Some(link.exchange())
    }

    /// Lets go of every connection to this server; requests on them finish.
    pub(crate) fn forget(&mut self, id: u32) {
        self.0.retain(|link| link.server != id);
    }

    /// Lets go of those that ended, and of those that nobody has used for a while.
    pub(crate) fn sweep(&mut self, now: u64) {
        self.0.retain(|link| {
            link.state.now.set(now);
            let used = link.state.open.get() > 0 || link.state.until.get() > now;
            used && !link.state.ended.get()
        });
    }
}

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
    let state = Rc::new(State::default());
    state.now.set(local.deadlines.now());
    state.idle.set(idle.max(Duration::from_millis(1)).as_millis() as u64);
    state.touch();
    let link = Link { server: server.id, incarnation, handle, state: Rc::clone(&state) };
    let name = server.name.clone();
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            debug!(roundsman_worker = name, "HTTP/2 connection to a server: {error}");
        }
        state.ended.set(true);
    });
    let exchange = link.exchange();
    local.links.borrow_mut().0.push(link);
    Ok(ServerStream::Http2(exchange))
}

impl Link {
    fn exchange(&self) -> Box<Exchange> {
        self.state.open.set(self.state.open.get() + 1);
        Box::new(Exchange::new(self.handle.clone(), Share(Rc::clone(&self.state))))
    }
}

impl State {
    fn touch(&self) {
        self.until.set(self.now.get().saturating_add(self.idle.get()));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.touch();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}
