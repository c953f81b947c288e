//! Connections over a restart of the service: systemd keeps them (`FileDescriptorStoreMax=`), the next
//! process goes on with them, and the client notices nothing but a pause.
//!
//! The last descriptor that is given to systemd is a file in memory that says what each of the others
//! is. Without it, or when it does not make sense (after a downgrade, say), they are closed, as they
//! would have been without all this.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::session::command::Memento;
use crate::systemd::activation::{KEPT, Kept};
use crate::systemd::notify;

/// A connection between two processes.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The connection.
    pub socket: OwnedFd,
    /// What the client has said so far.
    pub memento: Memento,
    /// The beginning of a request that is not whole.
    pub input: Vec<u8>,
}

/// More of a request than this is not taken along: such a client is closed and connects anew.
pub(super) const MOST_INPUT: usize = 64 * 1024;
/// systemd has other things to do at times, but a stop must not hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    name: String,
    memento: Memento,
    input: Vec<u8>,
}

/// Gives connections to systemd; an error says why their clients must connect anew.
pub(crate) fn keep(connections: Vec<Handover>) -> io::Result<()> {
    if connections.is_empty() || std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let mut descriptions = Vec::with_capacity(connections.len());
    for (number, Handover { socket, memento, input }) in connections.into_iter().enumerate() {
        let name = format!("{KEPT}{number}");
        notify::keep(&name, socket.as_fd())?;
        descriptions.push(Description { name, memento, input });
    }
    let memory = rustix::fs::memfd_create("session-handover", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    serde_json::to_writer(&mut file, &descriptions)?;
    file.flush()?;
    notify::keep(&name_of_file(), file.as_fd())?;
    notify::barrier(PATIENCE)
}

/// Takes over what an earlier process has given to systemd, which then keeps it no longer.
pub(crate) fn take(kept: Vec<Kept>) -> Vec<Handover> {
    for (name, _) in &kept {
        if let Err(error) = notify::forget(name) {
            tracing::warn!(%error, name, "systemd keeps a connection that is no longer needed");
        }
    }
    let (files, mut sockets): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|(name, _)| *name == name_of_file());
    let Some((_, file)) = files.into_iter().next() else { return Vec::new() };
    let descriptions = match read(file) {
        Ok(descriptions) => descriptions,
        Err(error) => {
            tracing::warn!(%error, "the connections of the process before are closed");
            return Vec::new();
        }
    };
    descriptions
        .into_iter()
        .filter_map(|Description { name, memento, input }| {
            // systemd has dropped those whose clients are gone.
            let at = sockets.iter().position(|(kept, _)| *kept == name)?;
            let (_, socket) = sockets.swap_remove(at);
            Some(Handover { socket, memento, input })
        })
        .collect()
}

fn name_of_file() -> String {
    format!("{KEPT}description")
}

fn read(file: OwnedFd) -> io::Result<Vec<Description>> {
    let mut file = File::from(file);
    file.rewind()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
