//! Health: the state machine, the monitor that feeds it, and simulated hours of both.

mod group;
mod machine;
mod monitor;
mod simulation;
