//! The control API over the admin socket: status, drain, reload. `docs/admin-api.md` describes it.

pub mod client;
pub mod explain;
pub mod model;
