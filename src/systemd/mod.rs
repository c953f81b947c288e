//! Everything that is systemd's: activation, D-Bus, journal.

pub mod activation;
pub mod dbus;
pub mod journal;
pub mod message;
pub mod notify;
pub mod watchdog;
