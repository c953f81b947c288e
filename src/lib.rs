//! Roundsman, a systemd-native HTTP application cluster.
//!
//! The crate is a library with a thin binary; each module is one part of the product, and
//! `docs/architecture.md` shows how they work together.

pub mod admin;
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod deploy;
pub mod front;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod generator;
mod handoff;
pub mod health;
pub mod helper;
pub mod import;
pub mod io;
pub mod lifecycle;
pub mod proxy;
pub mod registry;
pub mod session;
pub mod start;
pub mod supervise;
pub mod sys;
pub mod systemd;
pub mod thread;
pub mod tls;
pub mod watch;
pub mod worker;
