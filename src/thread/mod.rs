//! The front's worker threads: one per core, each with its own runtime.
