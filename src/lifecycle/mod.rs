//! The life of the front as a service: readiness, watchdog, reload, drain.
