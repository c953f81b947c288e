//! The log: every change is in it before its client hears of success.
//!
//! `write(2)` puts a record into the kernel's page cache, from where `kill -9` cannot take it;
//! [`Syncer`](super::syncer::Syncer) brings it to the disk. A segment belongs to one memtable and
//! is recycled when that table is in the database file: writing over blocks that a file already
//! has is much cheaper to sync than appending, because no metadata changes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame;
use super::segment::{Room, Segment};

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

    /// Bytes of records to write.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Writes what is pending. After an error everything is still there to be written again.
    pub(super) fn write(&mut self) -> io::Result<()> {
        debug_assert!(self.open.is_none(), "a record is written when it is whole");
        if self.pending.is_empty() {
            return Ok(());
        }
        self.segment.append(&self.pending)?;
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
        debug_assert!(self.segment.is_empty() && self.pending.is_empty());
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
