//! Looking after an app's workers while nobody deploys: changed files, too much memory, too great an
//! age. One process for each app that asks for it, `roundsman-watch@APP.service`.
//!
//! It replaces nothing itself: [`agent`] runs `roundsman reload`, so that all there is to know about
//! replacing workers without losing a request, one at a time and never two commands at once, is in
//! one place. What to replace when is decided without I/O by [`debounce`] and [`replace`].

pub(crate) mod agent;
pub(crate) mod debounce;
mod error;
pub(crate) mod files;
mod inotify;
pub(crate) mod memory;
pub(crate) mod replace;
