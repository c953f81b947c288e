//! HTTP/2 at the wire: what clients get, what servers see, and what hostile ones come to.

mod clients;
mod forward;
pub(super) mod hostile;
mod lifecycle;
mod servers;
pub(super) mod support;
mod websocket;
