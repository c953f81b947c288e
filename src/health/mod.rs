//! Health: which servers deserve requests, from what systemd, requests and checks say.

pub mod access;
mod status;

pub use status::{FULL, Status, Verdict};
