//! The ground floor: what every other part may use, and what uses nothing of ours but `sys`.

pub(crate) mod access_list;
pub(crate) mod control_groups;
pub(crate) mod dial;
pub(crate) mod exit;
pub(crate) mod file;
pub(crate) mod holder;
pub(crate) mod interrupts;
pub(crate) mod limiter;
pub(crate) mod listeners;
pub(crate) mod lock;
pub(crate) mod nearest;
pub(crate) mod origin;
mod own_port;
pub mod paths;
pub(crate) mod peer;
pub(crate) mod places;
pub(crate) mod program;
pub(crate) mod replace;
pub(crate) mod rights;
mod sock_diag;
pub(crate) mod text;
pub(crate) mod unit;
pub(crate) mod user;
pub(crate) mod want;
pub(crate) mod worker_address;
pub(crate) mod worker_socket;
