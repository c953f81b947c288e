//! Which server gets a request.

mod server;
mod upstream;

pub use server::{InFlight, Server, State};
pub use upstream::{Picked, Upstream};
