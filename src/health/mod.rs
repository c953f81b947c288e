//! Health: which servers deserve requests, from what systemd, requests and checks say.
//!
//! [`machine`] decides for one server and [`group`] for the servers of an upstream, both pure;
//! [`access`](crate::balance::access) turns what they say into whom requests may go to; [`run`] feeds them.

pub(crate) mod active;
pub mod group;
pub mod machine;
mod monitor;
pub(crate) mod outlier;
pub(crate) mod probe;

pub use machine::Transition;
pub use monitor::run;
