//! Where the servers of an upstream come from when they are not listed.

pub mod dns;
