//! Everything that is systemd's: activation, D-Bus, journal.

pub mod activation;
pub(crate) mod anchor;
pub(crate) mod dbus;
pub(crate) mod journal;
pub(crate) mod message;
pub(crate) mod notify;
pub(crate) mod watchdog;
