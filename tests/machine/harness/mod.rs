//! What the tests speak: machines that boot, commands on them, and load against them.

mod apps;
mod client;
mod command;
mod costs;
#[path = "../../common/event.rs"]
mod event;
mod host;
mod http;
mod http2;
mod installed;
mod load;
mod machine;
mod package;
mod programs;
mod stopwatch;
#[expect(dead_code, reason = "a machine has some of it as methods")]
#[path = "../../common/waiting.rs"]
mod waiting;
mod websocket;
#[expect(dead_code, reason = "a load asks and does not answer")]
#[path = "../../common/http.rs"]
mod wire;

pub(crate) use client::Kind;
pub(crate) use command::Said;
pub(crate) use host::repository;
pub(crate) use http::{Connection, Failure};
pub(crate) use http2::Http2;
pub(crate) use load::{Clients, Failed, Load, Tally};
pub(crate) use machine::{Debian, Machine};
pub(crate) use package::Package;
pub(crate) use programs::Under;
pub(crate) use websocket::{Heard, WebSocket};
pub(crate) use wire::Message;

/// What those below have in common: how a machine is made, and what the test on Debian 12 is called.
macro_rules! scenario {
    (
        $boot:ident, $bookworm:ident;
        $(#[$meta:meta])* fn $name:ident($machine:ident: &Machine) $body:block
    ) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            fn scenario($machine: &Machine) $body

            #[test]
            fn $bookworm() {
                scenario(&Machine::$boot(crate::harness::Debian::Bookworm));
            }

            #[test]
            fn trixie() {
                scenario(&Machine::$boot(crate::harness::Debian::Trixie));
            }
        }
    };
}
pub(crate) use scenario;

/// Declares a test for every release of Debian that the package is for, each on a machine of its own
/// that has the package installed.
macro_rules! on_every_debian {
    ($($test:tt)*) => { crate::harness::scenario! { boot, bookworm; $($test)* } };
}
pub(crate) use on_every_debian;

/// The same on machines that have never had the package.
macro_rules! on_every_pristine_debian {
    ($($test:tt)*) => { crate::harness::scenario! { boot_pristine, bookworm; $($test)* } };
}
pub(crate) use on_every_pristine_debian;

/// The same for a scenario that takes long and is about our code, not about a release's systemd:
/// `make test` runs it on Debian 13 only, `make soak` on both (`.config/nextest.toml`, by the name).
macro_rules! on_every_debian_in_soak {
    ($($test:tt)*) => { crate::harness::scenario! { boot, bookworm_in_soak; $($test)* } };
}
pub(crate) use on_every_debian_in_soak;

/// The same on machines that have never had the package.
macro_rules! on_every_pristine_debian_in_soak {
    ($($test:tt)*) => { crate::harness::scenario! { boot_pristine, bookworm_in_soak; $($test)* } };
}
pub(crate) use on_every_pristine_debian_in_soak;
