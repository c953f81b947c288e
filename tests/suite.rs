//! Every test that needs no booted machine, in one program: what they all link is linked once.

mod balance;
mod balance_wire;
mod common;
mod config;
mod deploy_roll;
mod docs;
mod front;
mod health;
mod http;
mod packaging;
mod session;
mod simulated;
mod worker;
