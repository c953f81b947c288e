//! From a command line to an app's file: what `roundsman start` infers, and how files are edited
//! without losing their comments.

pub(crate) mod diff;
pub(crate) mod file;
pub(crate) mod infer;
