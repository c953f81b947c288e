//! Everything that is systemd's: activation, bus, journal, generator.

pub mod activation;
pub mod bus;
pub mod jobs;
pub mod journal;
pub mod message;
pub mod notify;
pub mod watchdog;
