//! The only module that may use `unsafe`: the few calls for which no safe wrapper exists.
#![expect(unsafe_code, reason = "the one place for it; every block says why it is sound")]

mod domain;
mod filter;
mod memory;
mod process;
mod socket;
mod users;

pub(crate) use self::domain::{be_alone, can_be_alone};
pub(crate) use self::filter::{hold_nobody_up, only_needed_protocols};
pub(crate) use self::memory::{forget_code, give_memory_back};
pub(crate) use self::process::{
    end_after, end_by, exec_with_stdin_as_three, fork, set_apart, take_passed,
};
pub(crate) use self::socket::{
    peer_credentials, peer_groups, peer_process, refuse_descriptors, set_defer_accept,
    unacknowledged, waiting_connections, was_read_from, watch,
};
pub(crate) use self::users::every_user;

#[cfg(test)]
mod tests;
