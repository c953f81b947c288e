//! The ground floor: what every other part may use, and what uses nothing of ours but `sys`.

pub mod dial;
pub mod exit;
pub mod file;
pub mod lock;
pub mod origin;
pub mod paths;
pub mod peer;
pub mod places;
pub mod replace;
pub mod rights;
pub mod text;
pub mod unit;
pub mod user;
