//! Who speaks: the fields that every log entry of a worker has.

use std::fmt;
use std::sync::Arc;

/// The app and instance that a shim belongs to; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    app: Arc<str>,
    instance: Arc<str>,
}

impl Identity {
    pub(crate) fn new(app: &str, number: u16) -> Self {
        Self { app: app.into(), instance: format!("{app}:{number}").into() }
    }

    /// The app's name.
    pub(crate) fn app(&self) -> &str {
        &self.app
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.instance)
    }
}

/// Writes a log entry with the worker's fields: `report!(info, identity, "text {}", x)`, or with one
/// of the identifiers in `systemd::message`: `report!(info, identity; WORKER_READY, "text")`.
macro_rules! report {
    ($level:ident, $who:expr; $id:expr, $($text:tt)+) => {
        tracing::$level!(
            roundsman_app = %$who.app(),
            roundsman_worker = %$who,
            message_id = $id,
            $($text)+
        )
    };
    ($level:ident, $who:expr, $($text:tt)+) => {
        tracing::$level!(roundsman_app = %$who.app(), roundsman_worker = %$who, $($text)+)
    };
}
pub(crate) use report;
