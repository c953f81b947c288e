//! HTTP/2 at the wire: what clients get, what servers see, and what hostile ones come to.

mod clients;
mod forward;
mod hostile;
mod lifecycle;
mod servers;
mod support;
mod websocket;
