//! Health: which servers deserve requests, from what systemd, requests and checks say.

pub mod access;
pub mod group;
pub mod machine;
pub mod outlier;
mod status;

pub use machine::{Reason, Transition};
pub use status::{FULL, Status, Verdict};
