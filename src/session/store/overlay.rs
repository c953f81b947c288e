//! The database file where it can be read and not written to, on a disk that has gone read-only: what it
//! takes to open it stays in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// A file, and what was written over it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    length: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

const BLOCK: usize = 4096;

impl Overlay {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, over: Mutex::new(Over { length, blocks: BTreeMap::new() }) })
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a part of a block, zeros behind the end of the file.
    fn read_part(&self, over: &Over, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (block, within) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
        if let Some(bytes) = over.blocks.get(&block) {
            out.copy_from_slice(&bytes[within..within + out.len()]);
            return Ok(());
        }
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], offset + done as u64) {
                Ok(0) => {
                    out[done..].fill(0);
                    return Ok(());
                }
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The parts of a range that lie in one block each: where, and how many bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let room = BLOCK - (at % BLOCK as u64) as usize;
        let part = room.min(length - done);
        done += part;
        (part > 0).then_some((at, part))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over();
        if offset + out.len() as u64 > over.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut out = out;
        for (at, part) in parts(offset, out.len()) {
            let (now, rest) = out.split_at_mut(part);
            self.read_part(&over, at, now)?;
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut over = self.over();
        over.length = length;
        let _beyond = over.blocks.split_off(&length.div_ceil(BLOCK as u64));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over();
        over.length = over.length.max(offset + data.len() as u64);
        let mut data = data;
        for (at, part) in parts(offset, data.len()) {
            let (block, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let mut bytes = vec![0; BLOCK].into_boxed_slice();
            self.read_part(&over, block * BLOCK as u64, &mut bytes)?;
            let (now, rest) = data.split_at(part);
            bytes[within..within + part].copy_from_slice(now);
            over.blocks.insert(block, bytes);
            data = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_a_file_is_read_and_the_file_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let before: Vec<u8> = (0..3 * BLOCK + 100).map(|at| at as u8).collect();
        std::fs::write(&path, &before).expect("written");
        let overlay = Overlay::open(&path).expect("it is there");
        let mut expected = before.clone();
        for (offset, length) in [(0, 10), (BLOCK - 5, 10), (BLOCK, 2 * BLOCK), (3 * BLOCK, 100)] {
            let bytes = vec![0xaa; length];
            overlay.write(offset as u64, &bytes).expect("taken");
            expected[offset..offset + length].copy_from_slice(&bytes);
            let mut all = vec![0; expected.len()];
            overlay.read(0, &mut all).expect("there");
            assert!(all == expected, "after {length} bytes at {offset}");
        }
        overlay.set_len(5 * BLOCK as u64).expect("taken");
        let mut tail = vec![1; BLOCK];
        overlay.read(4 * BLOCK as u64, &mut tail).expect("there");
        assert!(tail.iter().all(|byte| *byte == 0));
        assert!(overlay.read(5 * BLOCK as u64 - 1, &mut [0; 2]).is_err());
        assert_eq!(std::fs::read(&path).expect("there"), before);
    }
}
