//! Balancing: every algorithm, its promises, and what threads share.

mod allocations;
mod examples;
mod explain;
mod golden;
mod names;
mod properties;
mod reload;
mod split;
mod threads;
mod upstream;

use crate::common::guide;

use crate::common::algorithms;
