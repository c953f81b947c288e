//! The request path: connection, request, route, forward, response.

mod front;

pub use front::{Front, Snapshot};
