//! What the kernel tells of directories: inotify(7).

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::error::WatchError;
use crate::sys;

/// Events that are read at once, as many as the kernel keeps; where there are more, all is looked at
/// anew.
const MOST_EVENTS: usize = 16_384;

/// The watches of one descriptor.
#[derive(Debug)]
pub(super) struct Inotify(AsyncFd<OwnedFd>);

/// What has happened in a directory.
#[derive(Debug)]
pub(super) struct Event {
    /// The watch that it is told by.
    pub(super) watch: i32,
    /// What it is.
    pub(super) what: ReadFlags,
    /// Of what in the directory; of itself without one.
    pub(super) name: Option<OsString>,
}

// === impl Inotify ===

impl Inotify {
    /// Without watches yet; `directory` is what an error names.
    pub(super) fn new(directory: &Path) -> Result<Self, WatchError> {
        let at = |source| WatchError::Io { path: directory.to_owned(), source };
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).map_err(|error| match error {
            Errno::MFILE => WatchError::Kernel { what: "fs.inotify.max_user_instances" },
            error => at(error.into()),
        })?;
        Ok(Self(sys::watch(inotify).map_err(at)?))
    }

    /// Waits until there is something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// What has happened; `None` when it comes faster than it is read. What is left of it then goes
    /// with the descriptor.
    pub(super) fn read(&self) -> io::Result<Option<Vec<Event>>> {
        let mut events = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(self.0.get_ref(), &mut buffer);
        while events.len() < MOST_EVENTS {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let (watch, what) = (event.wd(), event.events());
                    events.push(Event { watch, what, name: name.map(OsStr::to_owned) });
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Some(events)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Watches a directory; `None` where there is nothing to watch, and that may be so.
    pub(super) fn add(
        &self,
        directory: &Path,
        flags: WatchFlags,
        may_be_gone: bool,
    ) -> Result<Option<i32>, WatchError> {
        let flags = flags | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(self.0.get_ref(), directory, flags) {
            Ok(descriptor) => Ok(Some(descriptor)),
            Err(Errno::NOSPC) => Err(WatchError::Kernel { what: "fs.inotify.max_user_watches" }),
            Err(
                Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG,
            ) if may_be_gone => Ok(None),
            Err(error) => Err(WatchError::Io { path: directory.to_owned(), source: error.into() }),
        }
    }

    /// Ends a watch, which may be gone already.
    pub(super) fn remove(&self, watch: i32) {
        let _ = inotify::remove_watch(self.0.get_ref(), watch);
    }
}
