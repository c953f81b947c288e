//! A journal: what services log by its own protocol, entry by entry.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::common::event::id;
use crate::common::waiting::poll;

/// The fields of an entry.
pub(super) type Entry = BTreeMap<String, String>;

/// The journal.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<Entry>>>);

// === impl Journal ===

impl Journal {
    /// Listens at this path.
    pub(super) fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("the directory is new");
        let journal = Self::default();
        let writes = journal.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(size) = socket.recv(&mut buffer) {
                let entry = entry(&buffer[..size]);
                writes.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            }
        });
        journal
    }

    /// Forgets what it has been told.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for an entry of this event, of whose fields these are some.
    #[track_caller]
    pub(super) fn has(&self, event: &str, fields: &[(&str, &str)]) -> Entry {
        let id = id(event);
        let is = |entry: &Entry, name: &str, value: &str| {
            entry.get(name).is_some_and(|field| field == value)
        };
        poll(&format!("{event} with {fields:?}"), || {
            let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut entries = entries.iter();
            let found = entries.find(|entry| {
                is(entry, "MESSAGE_ID", id) && fields.iter().all(|(n, v)| is(entry, n, v))
            });
            found.cloned()
        })
    }
}

/// Fields are `NAME=value` on a line, or `NAME`, a length, and as many bytes.
fn entry(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            entry.insert(text(&line[..equals]), text(&line[equals + 1..]));
            bytes = rest;
        } else {
            let (length, rest) = rest.split_first_chunk().expect("a length");
            let length = usize::try_from(u64::from_le_bytes(*length)).expect("it fits");
            entry.insert(text(line), text(&rest[..length]));
            bytes = &rest[length + 1..];
        }
    }
    entry
}
