//! What requests mean: one table of commands, one file per family.

#![expect(clippy::unnecessary_wraps, reason = "all handlers have one signature")]

#[cfg(test)]
mod bounds;
mod catalogue;
mod client;
mod connection;
mod counters;
mod glob;
mod guesses;
mod hashes;
mod info;
mod keys;
mod long_double;
mod number;
mod scan;
mod server;
mod sets;
mod strings;
mod table;
mod transactions;
mod watching;

use thiserror::Error;

use super::protocol::{Arguments, Reply};
use super::store::value::{Kind, MOST_BYTES, MOST_ELEMENTS, Value};
use super::store::{Found, Op, Store, StoreError, Task, TooMuch, key};

pub use client::{Client, Identity, Memento};
pub use connection::is_namespace;
pub use guesses::Guesses;
pub use server::ServerInfo;
pub use table::{COMMANDS, Command, Flags, NOT_SUPPORTED, dispatch, may_write};

/// Why a command was not carried out. The text begins with the code that clients look at.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The arguments do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// The key holds another kind of value.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// An argument or a value is no 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// A cursor that no scan gave out.
    #[error("ERR invalid cursor")]
    Cursor,
    /// A value would become larger than a client may send.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    /// A collection would become larger than it may be.
    #[error(
        "ERR the hash or set would become larger than {MOST_ELEMENTS} elements or {MOST_BYTES} bytes; \
         use several keys"
    )]
    TooLarge,
    /// It would keep everybody else waiting.
    #[error("ERR {0}")]
    TooMuch(#[from] TooMuch),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
    /// The store could not do it.
    #[error("ERR {0}")]
    Store(#[from] StoreError),
}

/// What handlers return.
pub type Outcome = Result<(), CommandError>;

/// What handlers work with.
#[derive(Debug)]
pub struct Context<'a> {
    /// The data.
    pub store: &'a mut Store,
    /// The connection's own state.
    pub client: &'a mut Client,
    /// Facts about the server.
    pub server: &'a ServerInfo,
    /// Milliseconds since 1970. It stands still within a transaction.
    pub now: u64,
    /// The stored form of the key at hand; kept to spare an allocation for each command.
    pub scratch: Vec<u8>,
}

/// Bytes that a string may grow to: no more than a client may send at once.
const LONGEST_STRING: usize = 32 * 1024 * 1024;

/// So many keys are changed by one request without a look at all of them before.
const FEW: usize = 8;

/// Databases of a namespace, as many as Redis has by default.
const DATABASES: u8 = 16;

impl CommandError {
    fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }
}

impl Context<'_> {
    /// The stored form of a key of the client's namespace and database.
    fn key(&mut self, name: &[u8]) -> Vec<u8> {
        let mut key = std::mem::take(&mut self.scratch);
        key::build(&mut key, self.client.space, name);
        key
    }

    /// Gives the buffer back for the next key.
    fn done(&mut self, key: Vec<u8>) {
        self.scratch = key;
    }

    /// As [`Context::key`], with an entry removed whose time is over: before a change.
    fn key_to_change(&mut self, name: &[u8]) -> Result<Vec<u8>, CommandError> {
        Ok(self.key_with_expiry(name)?.0)
    }

    /// As [`Context::key_to_change`], with the expiry of what is there.
    fn key_with_expiry(&mut self, name: &[u8]) -> Result<(Vec<u8>, Option<u64>), CommandError> {
        let key = self.key(name);
        let expires = self.store.remove_if_expired(&key, self.now)?;
        Ok((key, expires))
    }

    /// Reads an entry for a command that only reads.
    fn read<T>(
        &mut self,
        name: &[u8],
        read: impl FnOnce(Option<Found<'_>>) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let key = self.key(name);
        if let Some(tracker) = &self.client.tracker {
            self.store.track(&key, tracker);
        }
        let result = read(self.store.look_up(&key, self.now)?);
        self.done(key);
        result
    }

    /// The kind of an entry; `None` when there is none.
    fn kind(&self, key: &[u8]) -> Result<Option<Kind>, CommandError> {
        Ok(self.store.find(key, self.now)?.map(|found| found.kind()))
    }

    /// Fails when the key holds another kind; false when it holds nothing.
    fn expect_kind(&self, key: &[u8], kind: Kind) -> Result<bool, CommandError> {
        match self.kind(key)? {
            None => Ok(false),
            Some(found) if found == kind => Ok(true),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// The collection of a key that is about to change, of this kind or none, read once for all that the
    /// request does with it.
    fn collection(&mut self, key: &[u8], kind: Kind) -> Result<Option<&Value>, CommandError> {
        if !self.expect_kind(key, kind)? {
            return Ok(None);
        }
        self.store.bring_into_memory(key)?;
        let found = self.store.find(key, self.now)?;
        Ok(found.and_then(Found::into_memory))
    }

    /// Looks for many keys that a request is about to change, before it changes one: what all of them take is
    /// known then.
    fn find_all<'n>(
        &mut self,
        names: impl ExactSizeIterator<Item = &'n [u8]>,
    ) -> Result<(), CommandError> {
        self.store.work().spend(Task::Find, names.len())?;
        if names.len() <= FEW {
            return Ok(());
        }
        for name in names {
            let key = self.key(name);
            self.store.find(&key, self.now)?;
            self.done(key);
            self.store.work().go_on(Task::Find)?;
        }
        Ok(())
    }

    fn apply(&mut self, op: Op<'_>) -> Result<(), CommandError> {
        Ok(self.store.apply(op)?)
    }
}

/// Compares an argument with a word, as clients write it in any case.
fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// An unknown subcommand, in the words that Redis uses.
fn unknown_subcommand(command: &str, arguments: Arguments<'_>) -> CommandError {
    let name = String::from_utf8_lossy(arguments.at(1));
    let name: String = name.chars().take(128).collect();
    CommandError::Other(format!("ERR unknown subcommand '{name}'. Try {command} HELP."))
}

/// The error for a wrong number of arguments.
fn wrong_arity(name: &str) -> CommandError {
    CommandError::Other(format!("ERR wrong number of arguments for '{name}' command"))
}

/// A part of the protocol that this store does not have, said so that people understand it.
fn not_supported(reply: &mut Reply<'_>, name: &str) {
    reply.error(&format!(
        "ERR {name} is not supported by the Roundsman session store; see \
         /usr/share/doc/roundsman/sessions.md for what is"
    ));
}
