//! The log: every change is in it before its client hears of success.
//!
//! `write(2)` puts a record into the kernel's page cache, from where `kill -9` cannot take it;
//! [`Syncer`](super::syncer::Syncer) brings it to the disk. A segment belongs to one memtable and
//! is recycled when that table is in the database file: writing over blocks that a file already
//! has is much cheaper to sync than appending, because no metadata changes.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame;
use crate::base::file::{self, Links};

/// Segments kept for recycling.
const SPARES: usize = 1;
/// A buffer larger than this is given back after it was written.
const KEPT_BUFFER: usize = 1024 * 1024;

/// The log of one store.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    /// A segment is made this large at once. Also the amount of log that a start has to replay.
    size: u64,
    segment: Segment,
    /// Segments whose memtable is frozen and not in the database file yet.
    frozen: Vec<PathBuf>,
    spares: VecDeque<PathBuf>,
    /// Records that are not written yet.
    pending: Vec<u8>,
    /// Where the record begins that is being built.
    open: Option<usize>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    file: Arc<File>,
    offset: u64,
}

/// Whether a segment may be had without the room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// No: the one before can be gone on with.
    Reserved,
    /// There is no other.
    IfThereIs,
}

// === impl Log ===

impl Log {
    /// Starts a new segment of `size` bytes in `directory`.
    pub(super) fn start(
        directory: &Path,
        number: u64,
        size: u64,
        next_sequence: u64,
    ) -> io::Result<Self> {
        let mut spares = VecDeque::new();
        Ok(Self {
            directory: directory.to_path_buf(),
            size,
            // On a full disk too: reads can be served, and writes are refused with the reason.
            segment: Segment::create(directory, number, size, &mut spares, Room::IfThereIs)?,
            frozen: Vec::new(),
            spares,
            pending: Vec::new(),
            open: None,
            next_sequence,
        })
    }

    /// The sequence of the record that is being built, or will be built next.
    pub(super) fn sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Adds to the record that is being built.
    pub(super) fn add(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.open.is_none() {
            self.open = Some(frame::begin(&mut self.pending));
        }
        encode(&mut self.pending);
    }

    /// Ends the record that is being built; its changes come into force together or not at all.
    pub(super) fn end_record(&mut self) {
        if let Some(at) = self.open.take() {
            frame::end(&mut self.pending, at, self.next_sequence);
            self.next_sequence += 1;
        }
    }

    /// Whether there are records to write.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what is pending. After an error everything is still there to be written again.
    pub(super) fn write(&mut self) -> io::Result<()> {
        debug_assert!(self.open.is_none(), "a record is written when it is whole");
        if self.pending.is_empty() {
            return Ok(());
        }
        self.segment.file.write_all_at(&self.pending, self.segment.offset)?;
        self.segment.offset += self.pending.len() as u64;
        self.pending.clear();
        if self.pending.capacity() > KEPT_BUFFER {
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// The last sequence that is written.
    pub(super) fn written(&self) -> u64 {
        self.next_sequence - 1
    }

    /// The file that records go to.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.segment.file)
    }

    /// Bytes in the current segment.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment.offset
    }

    /// Whether it is time for another segment.
    pub(super) fn is_full(&self) -> bool {
        self.segment.offset >= self.size
    }

    /// Goes on in a new segment; the one before stays until [`Log::recycle`].
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let number = self.segment.number + 1;
        let next = self.create(number, Room::Reserved)?;
        self.frozen.push(std::mem::replace(&mut self.segment, next).path);
        Ok(())
    }

    /// Everything of the segments before the current one is in the database file.
    pub(super) fn recycle(&mut self) {
        self.spares.extend(self.frozen.drain(..));
        self.limit_spares();
    }

    /// Takes over the segments of an earlier process: those that the first checkpoint replaces,
    /// and those that can be recycled at once.
    pub(super) fn adopt(&mut self, replayed: Vec<PathBuf>, old: Vec<PathBuf>) {
        self.frozen.extend(replayed);
        self.spares.extend(old);
        self.limit_spares();
    }

    /// Numbers records on from here; only before the first one.
    pub(super) fn resume_after(&mut self, last: u64) {
        debug_assert!(self.segment.offset == 0 && self.pending.is_empty());
        self.next_sequence = last + 1;
    }

    /// Begins a new segment because the one at hand has been moved away.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        let number = self.segment.number + 1;
        self.segment = self.create(number, Room::IfThereIs)?;
        Ok(())
    }

    fn create(&mut self, number: u64, room: Room) -> io::Result<Segment> {
        Segment::create(&self.directory, number, self.size, &mut self.spares, room)
    }

    fn limit_spares(&mut self) {
        while self.spares.len() > SPARES {
            if let Some(path) = self.spares.pop_front()
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old log segment");
            }
        }
    }
}

// === impl Segment ===

impl Segment {
    /// Makes segment `number`, out of a spare one if there is one.
    fn create(
        directory: &Path,
        number: u64,
        size: u64,
        spares: &mut VecDeque<PathBuf>,
        room: Room,
    ) -> io::Result<Self> {
        let path = path(directory, number);
        if let Some(spare) = spares.pop_front() {
            fs::rename(&spare, &path)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        let metadata = file.metadata()?;
        if metadata.len() < size {
            use rustix::fs::{FallocateFlags, fallocate};
            match fallocate(&file, FallocateFlags::empty(), 0, size) {
                // A file system that cannot reserve room gives it when it is written to.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(rustix::io::Errno::NOSPC) if room == Room::IfThereIs => {}
                Err(error) => {
                    let _ = fs::remove_file(&path);
                    return Err(error.into());
                }
            }
        }
        // The name must survive a power failure before a record in the file may be counted on.
        File::open(directory)?.sync_all()?;
        Ok(Self { number, path, file: Arc::new(file), offset: 0 })
    }
}

/// Where segment `number` lies.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("log-{number:012}"))
}

/// The most that is read of a segment, which is made much smaller.
const MOST: u64 = 1024 * 1024 * 1024;

/// The content of a segment: of a file, and nothing that a link leads to.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    file::read(path, Links::Refuse, MOST)
}

/// All segments in `directory`, oldest first.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("log-")?.parse::<u64>().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}
