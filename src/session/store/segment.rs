//! One file of the log. It begins with a header that says which segment it is and how long its file
//! must be, so that one which was cut, emptied, or is something else is told from one that nobody has
//! written to.
//!
//! Header: `magic (8) · number (8) · length (8) · checksum (4)`. A length of 0 says that the file system
//! could not reserve the room.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::base::file::{self, Links};

/// The segment that is being written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Where it lies, or will lie once it has its header.
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// What the header says of the length.
    length: u64,
    /// Whether it has its header and its name.
    ready: bool,
}

/// Whether a segment may be had without the room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// No: the one before can be gone on with.
    Reserved,
    /// There is no other.
    IfThereIs,
}

/// What a file of the log is, by its header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Contents<'a> {
    /// The segment of this number: its records, and whether a part of the file is missing.
    Segment {
        /// From the first record on.
        records: &'a [u8],
        /// The file is shorter than it was made.
        cut: bool,
    },
    /// It has not the header that it must have.
    Foreign,
}

/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 28;
const MAGIC: &[u8; 8] = b"roundlog";
/// What a segment is called until it has its header.
const UNREADY: &str = "next-log";

impl Segment {
    /// Makes segment `number`, out of a spare one if there is one.
    pub(super) fn create(
        directory: &Path,
        number: u64,
        size: u64,
        spares: &mut VecDeque<PathBuf>,
        room: Room,
    ) -> io::Result<Self> {
        let unready = directory.join(UNREADY);
        match spares.pop_front() {
            Some(spare) => fs::rename(&spare, &unready)?,
            None => drop(fs::remove_file(&unready)), // one that was not needed, if any
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&unready)?;
        let mut length = file.metadata()?.len();
        if length < size {
            length = match fallocate(&file, FallocateFlags::empty(), 0, size) {
                Ok(()) => size,
                // A file system that cannot reserve room gives it when it is written to.
                Err(Errno::OPNOTSUPP) => 0,
                Err(Errno::NOSPC) if room == Room::IfThereIs => 0,
                Err(error) => {
                    let _ = fs::remove_file(&unready);
                    return Err(error.into());
                }
            };
        }
        let mut segment = Self {
            number,
            path: path(directory, number),
            file: Arc::new(file),
            offset: HEADER_BYTES as u64,
            length,
            ready: false,
        };
        match segment.make_ready() {
            // On a full disk: it is made so before its first record.
            Err(error) if room == Room::IfThereIs && is_want_of_room(&error) => Ok(segment),
            Err(error) => Err(error),
            Ok(()) => Ok(segment),
        }
    }

    /// Appends records.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if !self.ready {
            self.make_ready()?;
        }
        self.file.write_all_at(records, self.offset)?;
        self.offset += records.len() as u64;
        Ok(())
    }

    /// Whether it has no record.
    pub(super) fn is_empty(&self) -> bool {
        self.offset == HEADER_BYTES as u64
    }

    /// Gives it its header, and then its name. Both must survive a power failure before a record in the
    /// file may be counted on.
    fn make_ready(&mut self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        self.file.write_all_at(&header(self.number, self.length), 0)?;
        self.file.sync_all()?;
        fs::rename(directory.join(UNREADY), &self.path)?;
        File::open(directory)?.sync_all()?;
        self.ready = true;
        Ok(())
    }
}

fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The header of segment `number`.
pub(super) fn header(number: u64, length: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&length.to_le_bytes());
    let sum = crc32fast::hash(&header[..24]);
    header[24..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// What the bytes of a file of this size are that is called segment `number`. Those at its end that nobody has written
/// need not be among them.
pub(super) fn contents(bytes: &[u8], size: u64, number: u64) -> Contents<'_> {
    let Some((head, records)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Contents::Foreign;
    };
    let length = head[16..].first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    if *head != header(number, length) {
        return Contents::Foreign;
    }
    Contents::Segment { records, cut: size < length }
}

/// Where segment `number` lies.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("log-{number:012}"))
}

/// The most that is read of a segment, which is made much smaller.
const MOST: u64 = 1024 * 1024 * 1024;

/// A segment that is read: a file, and nothing that a link leads to.
#[derive(Debug)]
pub(super) struct Written {
    file: File,
    /// Of the file.
    pub(super) size: u64,
}

impl Written {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = file::open(path, Links::Refuse)?;
        let size = file.metadata()?.len();
        if size > MOST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "no segment is so large"));
        }
        Ok(Self { file, size })
    }

    /// So many bytes of its beginning, or all.
    pub(super) fn beginning(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.size.min(most)).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Everything, but for the end that nobody has written to: a segment is made at its full size, and most of a
    /// young one is only room.
    pub(super) fn all(&self) -> io::Result<Vec<u8>> {
        self.beginning(self.end_of_data())
    }

    fn end_of_data(&self) -> u64 {
        let mut end = 0;
        // Whoever writes leaves no gaps but those of the file system's.
        while let Ok(data) = seek(&self.file, SeekFrom::Data(end)) {
            match seek(&self.file, SeekFrom::Hole(data)) {
                Ok(hole) if hole > end => end = hole,
                _ => return self.size,
            }
        }
        // Where nothing is known of gaps, all of it is data.
        if end == 0 { self.size } else { end }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_or_is_something_else_is_noticed() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut spares = VecDeque::new();
        let create = |number, spares: &mut VecDeque<PathBuf>| {
            Segment::create(directory.path(), number, 4096, spares, Room::Reserved)
        };
        let mut segment = create(7, &mut spares).expect("there is room");
        segment.append(b"records").expect("there is room");
        let bytes = fs::read(&segment.path).expect("it is there");
        let Contents::Segment { records, cut } = contents(&bytes, bytes.len() as u64, 7) else {
            panic!("foreign")
        };
        assert!(!cut && records.starts_with(b"records\0"));
        for length in HEADER_BYTES..bytes.len() {
            let cut = &bytes[..length];
            assert!(
                matches!(contents(cut, length as u64, 7), Contents::Segment { cut: true, .. }),
                "{length}"
            );
        }
        for length in 0..HEADER_BYTES {
            assert_eq!(contents(&bytes[..length], length as u64, 7), Contents::Foreign, "{length}");
        }
        assert_eq!(contents(&bytes, bytes.len() as u64, 8), Contents::Foreign, "another's name");
        assert_eq!(contents(&[0; 4096], 4096, 7), Contents::Foreign, "emptied");
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(contents(&flipped, flipped.len() as u64, 7), Contents::Foreign, "bit {bit}");
        }
        // Used again, it is another one.
        spares.push_back(segment.path.clone());
        let again = create(9, &mut spares).expect("there is room");
        let bytes = fs::read(&again.path).expect("it is there");
        assert!(matches!(
            contents(&bytes, bytes.len() as u64, 9),
            Contents::Segment { cut: false, .. }
        ));
        assert_eq!(segments(directory.path()).expect("a directory").len(), 1);
    }
    #[test]
    fn of_what_is_read_nothing_is_that_was_never_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let size = 8 * 1024 * 1024;
        let create = |spares: &mut VecDeque<PathBuf>| {
            Segment::create(directory.path(), 1, size, spares, Room::Reserved)
        };
        let mut spares = VecDeque::new();
        let mut segment = create(&mut spares).expect("there is room");
        for length in [0, 1, 5000, 3 * 1024 * 1024] {
            segment.append(&vec![b'x'; length]).expect("there is room");
            let written = Written::open(&segment.path).expect("it is there");
            let bytes = written.all().expect("it can be read");
            assert_eq!(written.size, size);
            assert!(bytes[HEADER_BYTES..segment.offset as usize].iter().all(|byte| *byte == b'x'));
            assert!((bytes.len() as u64) < segment.offset + 1024 * 1024, "{} bytes", bytes.len());
        }
        // Whoever has read what nobody has written has pages of it, which may count as data.
        let whole = fs::read(&segment.path).expect("it is there");
        let bytes = Written::open(&segment.path).expect("it is there").all().expect("it is read");
        assert!(whole.starts_with(&bytes) && whole[bytes.len()..].iter().all(|byte| *byte == 0));
        // One without a gap is read to its end.
        fs::write(&segment.path, vec![b'y'; 10_000]).unwrap();
        assert_eq!(Written::open(&segment.path).unwrap().all().unwrap().len(), 10_000);
        fs::write(&segment.path, "").unwrap();
        assert!(Written::open(&segment.path).unwrap().all().unwrap().is_empty());
    }
}
