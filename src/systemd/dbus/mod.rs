//! systemd over D-Bus: what it says of units, and what it is asked to do with them.
//!
//! Every call is made through [`link`], with a limit of time; every signal is heard by [`hearing`],
//! which knows who it is from.

mod direct;
mod error;
#[cfg(test)]
mod fake;
mod hearing;
mod interface;
mod job_limit;
mod job_table;
mod jobs;
mod link;
mod manager;
mod trouble;
mod unit;
mod verb;
pub(crate) mod workers;

pub(crate) use error::SystemdError;
pub(crate) use manager::Systemd;
pub(crate) use unit::{Unit, UnitState};
pub(crate) use verb::Verb;
