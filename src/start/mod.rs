//! From a command line to an app's file: what `roundsman start` infers, and how files are edited
//! without losing their comments.

pub mod diff;
pub mod file;
pub mod infer;
