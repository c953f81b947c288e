//! systemd over D-Bus: what it says of units, and what it is asked to do with them.
//!
//! Every call is made through [`link`], with a limit of time; every signal is heard by [`hearing`],
//! which knows who it is from.

mod error;
#[cfg(test)]
mod fake;
mod hearing;
mod interface;
mod job_table;
mod link;
mod manager;
mod unit;
pub mod workers;

pub use error::SystemdError;
pub use manager::{Systemd, Verb};
pub use unit::{Unit, UnitState};
