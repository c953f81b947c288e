//! The shim with real apps: Node as cluster workers, Python by the other ways of listening.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod answering;
mod background;
mod binding;
mod handoff;
mod harness;
mod listening;
mod matrix;
mod messaging;
mod process;
mod socket_io;
mod starting;
mod stopping;
mod traffic;
