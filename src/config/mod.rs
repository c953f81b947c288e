//! The configuration: files → fragments → inputs → settings.
//!
//! - [`Sources`] says which files count: three directories that override each other as systemd's
//!   do, or one given directory;
//! - fragments are these files as trees that remember where everything was written;
//! - inputs are the fragments of one thing (an app, the front), merged, read under the rules of
//!   [`schema`];
//! - [`Settings`] are complete, valid, consistent across files, and all that the runtime sees.
//!
//! [`load`] never fails: it gives the settings of what is right and [`Problems`] about the rest.

pub(crate) mod account;
pub(crate) mod addresses;
mod app;
mod background;
mod borrowed;
pub(crate) mod calendar;
pub(crate) mod copy;
pub(crate) mod cores;
mod diagnostic;
mod dns;
pub(crate) mod fingerprint;
mod foreign;
mod fragment;
mod front;
mod handoff;
mod input;
mod listener;
mod load;
pub(crate) mod machine;
mod net;
pub(crate) mod networks;
pub(crate) mod pattern;
mod route;
#[cfg(test)]
pub(crate) mod sample;
pub mod schema;
pub(crate) mod secrecy;
pub mod settings;
mod sharing;
mod source;
mod supervision;
mod units;
mod upstream;
pub(crate) mod user_record;
pub(crate) mod valkey;

pub use diagnostic::{Place, Problem, Problems, Severity};
pub use load::{Loaded, load};
pub(crate) use net::host;
pub use settings::Settings;
pub use source::Sources;
pub use valkey::Limits as ValkeyLimits;
