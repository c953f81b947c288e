//! Which server gets a request.
//!
//! The algorithms are pure: one small file each, from numbers to a number, without I/O, clock or
//! randomness of their own. [`Upstream`] feeds them from what the threads know about its servers.

/// What [`gate`] is built of; its tests use others.
mod atomics {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
}
pub mod access;
mod conduct;
mod draw;
mod gate;
mod in_flight;
mod input;
pub mod ip_hash;
pub mod ketama;
pub mod key;
mod latency;
pub mod least_connections;
pub mod maglev;
pub mod modulo;
pub mod peak_ewma;
mod pick;
pub(crate) mod poison;
pub mod round_robin;
mod row;
mod server;
mod shared;
pub mod smooth;
pub mod split;
mod status;
pub(crate) mod sticky;
mod upstream;
mod view;

pub use in_flight::{InFlight, ServerFailure, Suspicion};
pub use input::{NoKeys, PickInput, RequestKeys};
pub use pick::{Explanation, Picked};
pub use server::{Counts, Server, State};
pub use status::{FULL, HealthReason, Status, Verdict};
pub use upstream::Upstream;
pub use view::Reason;
