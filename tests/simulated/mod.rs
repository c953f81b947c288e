//! What commands do to a machine, on a simulated one: the real program, with files of its own,
//! against a systemd and a front that do what the test says, and wait where it says.
//!
//! What a real systemd makes of it is in `tests/machine`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apply;
mod changes;
mod deploy;
mod events;
mod front;
mod history;
mod interrupts;
mod journal;
mod machine;
mod put_back;
mod rollback;
mod starting;
mod systemd;
mod words;

use machine::{Machine, service};
use systemd::Fate;
