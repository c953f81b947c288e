//! HTTP/2 from clients.

use std::rc::Rc;

use super::connection::ClientStream;
use super::forwarded::Origin;
use super::local::Local;

/// Serves a client connection that speaks HTTP/2 to its end.
#[expect(clippy::unused_async, reason = "nobody is offered HTTP/2 yet")]
pub(crate) async fn serve<C: ClientStream>(local: Rc<Local>, stream: C, origin: Origin) {
    drop((local, stream, origin));
}
