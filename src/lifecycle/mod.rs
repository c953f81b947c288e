//! The life of the front as a service: readiness, watchdog, reload, drain.

pub mod lock;
pub mod watchdog;
