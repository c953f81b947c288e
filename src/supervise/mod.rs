//! What is kept of a worker between its runs, and while it runs: how often it crashed, since when it
//! has been ready.
//!
//! systemd restarts a worker at once, whatever its `RestartSec=`, when a connection comes for its
//! socket; and before version 254 it knows no growing delay. So the worker itself waits, before it
//! starts the app, with its socket in hand: see [`crashes`].

pub mod crashes;
pub mod life;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The most that is read of a file here.
const MOST: u64 = 64 * 1024;

/// Reads a small file that others may have tampered with: no link, nothing that blocks.
fn read(path: &Path) -> io::Result<String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}
