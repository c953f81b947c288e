//! The life of the front as a service: readiness, watchdog, reload, drain.

pub(crate) mod absence;
pub(crate) mod control;
pub(crate) mod earlier;
pub(crate) mod ending;
pub(crate) mod held;
pub(crate) mod last_good;
pub(crate) mod server;
pub(crate) mod state;
mod worker_units;
