//! The life of the front as a service: readiness, watchdog, reload, drain.

pub mod control;
pub mod last_good;
pub mod server;
pub mod state;
mod worker_units;
