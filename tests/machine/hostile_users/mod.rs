//! Users of the machine who want more than they were given: a `member` of the group `roundsman`, a
//! `stranger` in no group, the users of apps. `docs/security.md` says what each may.

mod apps;
mod bus;
mod crowds;
mod files;
mod helper;
mod members;
mod peers;
mod units;
mod ways_out;
