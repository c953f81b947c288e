//! The exit statuses of every command, after sysexits(3).

/// It did what it was asked to.
pub(crate) const OK: u8 = 0;
/// It did not, for a reason that was printed.
pub(crate) const FAILURE: u8 = 1;
/// The command line is wrong (clap's own number for it is 2).
pub(crate) const USAGE: u8 = 2;
/// It did, and something of what was to be carried over is lost or closed.
pub(crate) const WITH_LOSSES: u8 = 3;
/// Nothing could be carried over.
pub(crate) const NOTHING: u8 = 4;
/// The front cannot be reached, or a service that is needed is not there.
pub(crate) const UNAVAILABLE: u8 = 69;
/// An error of the operating system: a socket, a thread, a descriptor.
pub(crate) const OS: u8 = 71;
/// Somebody else is doing something that does not go together with it; try again (`EX_TEMPFAIL`).
pub(crate) const BUSY: u8 = 75;
/// It is not allowed; another user may (`EX_NOPERM`).
pub(crate) const DENIED: u8 = 77;
/// It was interrupted, and can be resumed (128 and SIGINT, as shells count).
pub(crate) const INTERRUPTED: u8 = 130;
/// The configuration has errors (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;
/// Of a worker: its app ended with one of its `stop-exit-codes`; the unit does not start it again.
pub(crate) const WORKER_DONE: u8 = 79;
/// Of a worker: it crashed too often in a row; the unit does not start it again.
pub(crate) const WORKER_GIVEN_UP: u8 = 80;
/// Of a worker: it runs as somebody else than its app's file says, or no file asks for it; the unit
/// does not start it again.
pub(crate) const WORKER_REFUSED: u8 = 81;
