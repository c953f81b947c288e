//! What all threads of the front share: the configuration at work, the servers it leads to, and what
//! is counted. Not how HTTP is spoken: that is `proxy`.

/// Those of `presence`, which `tests/balance/threads.rs` includes with others.
mod atomics {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}
pub(crate) mod counters;
pub(crate) mod current;
pub mod found;
pub(crate) mod path;
pub(crate) mod presence;
mod reason;
pub(crate) mod router;
mod shared;
mod snapshot;

pub use counters::{ByReason, Totals};
pub use reason::{Fault, REASONS, Reason};
pub use router::Router;
pub use shared::Front;
pub use snapshot::Snapshot;
