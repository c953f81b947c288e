//! The shim: the main process of a worker unit.
