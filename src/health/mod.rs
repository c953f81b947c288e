//! Health: which servers deserve requests, from what systemd, requests and checks say.
//!
//! [`machine`] decides for one server and [`group`] for the servers of an upstream, both pure;
//! [`access`] turns what they say into whom requests may go to; [`run`] feeds them.

pub mod access;
pub mod active;
pub mod group;
pub mod machine;
mod monitor;
pub mod outlier;
pub mod probe;
mod status;

pub use machine::{Reason, Transition};
pub use monitor::run;
pub use status::{FULL, Status, Verdict};
