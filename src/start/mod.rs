//! From a command line to an app's file: what `roundsman start` infers, and how files are edited
//! without losing their comments.

pub(crate) mod command;
pub(crate) mod diff;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod infer;
mod meant;
mod python;
pub(crate) mod servers;
