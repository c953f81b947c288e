//! The store, or any server that speaks its protocol, seen from outside: for the tools that count,
//! copy and move sessions while apps use them.

#[cfg(any(test, fuzzing))]
mod canned;
mod client;
mod copy;
mod item;
mod target;
mod tls;
mod url;

pub(crate) use client::{Client, RemoteError, Value};
pub(crate) use copy::{Copy, Pass, Rule, each_batch};
pub(crate) use item::{Item, read, write};
pub(crate) use target::Target;
pub(crate) use url::{Address, Url, UrlError};
