//! Reading the PROXY header that a proxy in front begins each connection with.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use crate::front::Reason;
use crate::io::LazySocket;
use crate::io::buf::poll_read;
use crate::io::preface::{self, Malformed, Said};
use crate::proxy::forwarded::Origin;
use crate::proxy::local::{About, Local};

/// Why a connection has no header.
enum ProxyProtocolError {
    /// It ended before it began.
    Silent,
    Gone,
    Malformed(Malformed),
}

/// Where the connection really comes from; `None` when it is to be closed, which is counted and
/// logged here.
///
/// Nothing behind the header is taken off the socket: what follows may be TLS.
pub(super) async fn introduced(
    local: &Rc<Local>,
    socket: &mut LazySocket,
    origin: Origin,
) -> Option<Origin> {
    let snapshot = local.snapshot();
    let front = &snapshot.settings.front;
    let refused = |reason, detail: &str| {
        local.refused(reason, &About { client: origin.peer, detail, ..About::default() });
        None
    };
    // Who may open our UNIX sockets is up to their permissions.
    if origin.peer.is_some() && !origin.is_trusted(&front.trusted_proxies) {
        return refused(Reason::ProxyUntrusted, "");
    }
    let deadline = local.deadlines.add();
    let mut header = pin!(read(socket));
    let read = deadline.within(front.timeouts.client_header, |cx| header.as_mut().poll(cx)).await;
    match read {
        Some(Ok(Said::From(from, to))) => Some(Origin {
            peer: Some(from.ip().to_canonical()),
            peer_port: from.port(),
            local: Some(to.ip().to_canonical()),
            port: Some(to.port()),
            ..origin
        }),
        Some(Ok(Said::Nothing)) => Some(Origin { nameless: true, ..origin }),
        Some(Err(ProxyProtocolError::Silent)) => None,
        Some(Err(ProxyProtocolError::Gone)) => {
            refused(Reason::ProxyMalformed, "the connection ended in it")
        }
        Some(Err(ProxyProtocolError::Malformed(why))) => refused(Reason::ProxyMalformed, why.0),
        None => refused(Reason::ProxyTimeout, ""),
    }
}

async fn read(socket: &mut LazySocket) -> Result<Said, ProxyProtocolError> {
    let mut header = Vec::new();
    loop {
        let before = header.len();
        let mut piece = [0; 512];
        let peeked = poll_fn(|cx| socket.poll_peek(cx, &mut piece)).await;
        let count = match peeked {
            Ok(count @ 1..) => count,
            _ if header.is_empty() => return Err(ProxyProtocolError::Silent),
            _ => return Err(ProxyProtocolError::Gone),
        };
        header.extend_from_slice(&piece[..count]);
        let parsed = preface::parse(&header).map_err(ProxyProtocolError::Malformed)?;
        // An incomplete header is nothing but header: all of it can go.
        let mut left = parsed.map_or(header.len(), |(_, len)| len) - before;
        while left > 0 {
            let read = poll_fn(|cx| poll_read(socket, cx, &mut piece[..left])).await;
            left -= read.ok().filter(|count| *count > 0).ok_or(ProxyProtocolError::Gone)?;
        }
        if let Some((said, _)) = parsed {
            return Ok(said);
        }
    }
}
