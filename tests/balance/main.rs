//! Balancing: every algorithm, its promises, and what threads share.

#[path = "../common/algorithms.rs"]
mod algorithms;
mod allocations;
mod examples;
mod explain;
mod golden;
#[path = "../common/guide.rs"]
mod guide;
mod names;
mod properties;
mod reload;
mod split;
mod threads;
mod upstream;
