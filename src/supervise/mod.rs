//! What is kept of a worker between its runs, and while it runs: how often it crashed, since when it
//! has been ready.
//!
//! systemd restarts a worker at once, whatever its `RestartSec=`, when a connection comes for its
//! socket; and before version 254 it knows no growing delay. So the worker itself waits, before it
//! starts the app, with its socket in hand: see [`crashes`].

pub(crate) mod crashes;
pub(crate) mod leftovers;
pub(crate) mod life;

/// The most that is read of a file here.
const MOST: u64 = 64 * 1024;
