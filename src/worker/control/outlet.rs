//! A bounded queue of lines to somebody who may read slowly, or not at all.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What may wait for one reader at most. A line that is longer goes out alone.
const LIMIT: usize = 8 * 1024 * 1024;

/// What an emptied buffer may keep.
const IDLE_CAPACITY: usize = 64 * 1024;

/// A reader that takes nothing for so long is none any more.
const UNREAD: Duration = Duration::from_mins(5);

/// The queue. Whoever pushes never waits; lines for which there is no room are dropped and counted.
#[derive(Debug)]
pub(crate) struct Outlet {
    room: usize,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    /// Dropped since the last line that was taken.
    gap: u64,
    dropped: u64,
    closed: bool,
}

impl Default for Outlet {
    fn default() -> Self {
        Self::with_room(LIMIT)
    }
}

impl Outlet {
    /// One in which at most this many bytes wait, if that is less than what may wait anyway.
    pub(crate) fn with_room(room: usize) -> Self {
        Self { room: room.min(LIMIT), state: Mutex::default(), wake: Notify::default() }
    }

    /// Queues the line that is made of `parts`. Returns how many were dropped before it if it was
    /// taken, and `None` if it was dropped, too.
    pub(crate) fn push(&self, parts: &[&[u8]]) -> Option<u64> {
        let mut state = self.state();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if !state.buffer.is_empty() && state.buffer.len() + length > self.room {
            state.gap += 1;
            state.dropped += 1;
            return None;
        }
        for part in parts {
            state.buffer.extend_from_slice(part);
        }
        state.buffer.push(b'\n');
        let gap = std::mem::take(&mut state.gap);
        drop(state);
        self.wake.notify_one();
        Some(gap)
    }

    /// How many lines were dropped in all.
    pub(crate) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Takes nothing more; what waits is still written.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_one();
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Writes what is queued until the end of the outlet or of the reader, which has ended, too, when
    /// it has not read for minutes.
    pub(crate) async fn write_to(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let closed = {
                let mut state = self.state();
                buffer.clear();
                buffer.shrink_to(IDLE_CAPACITY);
                std::mem::swap(&mut buffer, &mut state.buffer);
                state.closed
            };
            if !buffer.is_empty() {
                let written = write(writer, &buffer).await;
                if written.is_err() {
                    self.close();
                    return written;
                }
            } else if closed {
                return Ok(());
            } else {
                self.wake.notified().await;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A queue of bytes is whole whatever panicked beside it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(UNREAD, writer.write(bytes)).await;
        match written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_and_the_next_line_says_so() {
        let outlet = Outlet::default();
        let half = vec![b'x'; LIMIT / 2];
        assert_eq!(outlet.push(&[&half]), Some(0));
        assert_eq!(outlet.push(&[&half]), None);
        assert_eq!(outlet.push(&[&half]), None);
        assert_eq!(outlet.push(&[b"small"]), Some(2));
        assert_eq!(outlet.push(&[b"small"]), Some(0));
        assert_eq!(outlet.dropped(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_is_let_go() {
        let outlet = Outlet::with_room(8);
        outlet.push(&[b"more than fits"]);
        assert_eq!(outlet.push(&[b"dropped"]), None);
        let (mut writer, _reader) = tokio::io::duplex(4);
        let error = outlet.write_to(&mut writer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(outlet.is_closed());
    }

    #[tokio::test]
    async fn lines_are_written_in_order_and_to_the_end() {
        let outlet = Outlet::default();
        let huge = vec![b'x'; 2 * LIMIT];
        outlet.push(&[&huge]);
        outlet.push(&[b"dropped"]);
        let mut written = Vec::new();
        outlet.close();
        outlet.write_to(&mut written).await.unwrap();
        assert_eq!(written.len(), 2 * LIMIT + 1, "one line may be longer than the limit");
        let outlet = Outlet::default();
        outlet.push(&[b"a", b"b"]);
        outlet.push(&[b"c"]);
        outlet.close();
        let mut written = Vec::new();
        outlet.write_to(&mut written).await.unwrap();
        assert_eq!(written, b"ab\nc\n");
    }
}
