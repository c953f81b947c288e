//! The store, or any server that speaks its protocol, seen from outside: for the tools that count,
//! copy and move sessions while apps use them.

mod client;
mod copy;
mod item;
mod url;

pub use client::{Client, RemoteError, Value};
pub use copy::{Copy, Pass, Rule, each_batch};
pub use item::{Content, Item, read, write};
pub use url::{Address, Url, UrlError};
