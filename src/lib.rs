//! Roundsman, a systemd-native HTTP application cluster.
//!
//! The crate is a library with a thin binary; each module is one part of the product, and
//! `docs/internals/architecture.md` shows how they work together.

// They panic when what reads them is gone, as in `roundsman status | head -1`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod admin;
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
mod helper;
pub mod import;
pub mod io;
mod lifecycle;
mod proxy;
pub mod registry;
pub mod session;
mod start;
mod supervise;
mod sys;
pub mod systemd;
pub mod thread;
pub mod tls;
mod watch;
pub mod worker;
