//! A server that answers the same whatever it is asked.

use std::io::{self, Read, Write};

/// Its answer, in pieces of at most `step` bytes.
#[derive(Debug)]
pub(super) struct Canned {
    pub(super) answer: io::Cursor<Vec<u8>>,
    pub(super) step: usize,
}

impl Read for Canned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.step);
        self.answer.read(&mut buffer[..room])
    }
}

impl Write for Canned {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
