//! The admin API over the admin socket: status, drain, reload. `docs/admin-api.md` describes it.

pub(crate) mod client;
pub(crate) mod explain;
pub(crate) mod model;
