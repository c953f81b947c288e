//! A thread's HTTP/2 connections to servers, each of which carries many requests at once.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;

use super::Exchange;
use super::share::State;
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

    /// Keeps a new connection, and gives the first stream on it.
    pub(super) fn add(
        &mut self,
        (server, incarnation): (u32, u32),
        handle: SendRequest<Bytes>,
        state: Rc<State>,
    ) -> Box<Exchange> {
        let link = Link { server, incarnation, handle, state };
        let exchange = link.exchange();
        self.0.push(link);
        exchange
    }

    /// Lets go of every connection to this server; requests on them finish.
    pub(crate) fn forget(&mut self, id: u32) {
        self.0.retain(|link| link.server != id);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
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

impl Link {
    fn exchange(&self) -> Box<Exchange> {
        Box::new(Exchange::new(self.handle.clone(), self.state.share()))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}
