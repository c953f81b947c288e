//! What a connection reads and writes, and what it holds meanwhile.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connection::{Connection, STANDSTILL};
use super::stream::Stream;
use crate::session::protocol::Reply;

/// What a new connection reads into.
const SMALL_BUFFER: usize = 4 * 1024;
/// A buffer grows by no more than this ahead of the bytes that arrive: a length is only a promise.
const GROWTH: usize = 256 * 1024;

impl<S: Stream> Connection<'_, S> {
    /// Sends the replies. When the service stops, what a client has not taken of them stays, for the next
    /// process.
    pub(super) async fn write(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            let written = self.write_all().await?;
            if written < self.output.len() {
                self.output.drain(..written);
                return Ok(());
            }
        }
        self.server.outputs.give(std::mem::take(&mut self.output));
        Ok(())
    }

    /// Writes all, or until the service stops: so many bytes.
    async fn write_all(&mut self) -> io::Result<usize> {
        // Nearly always the socket takes all of it at once, and no timer is needed.
        let mut written = match self.stream.write_now(&self.output) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            now => now?,
        };
        while written < self.output.len() {
            // A stranger has no longer for this than for all the rest.
            let limit = STANDSTILL.min(self.patience());
            let writing = timeout(limit, self.stream.write(&self.output[written..]));
            let Some(wrote) = self.server.unless_stopping(writing).await else { break };
            match wrote {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(count)) => written += count,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(written)
    }

    /// Reads what is there, into a buffer that grows only as far as bytes arrive.
    pub(super) async fn read(&mut self, limit: Duration) -> io::Result<ControlFlow<()>> {
        let room = self.input.capacity() - self.input.len();
        if room < SMALL_BUFFER / 4 {
            let wanted = self.parser.wanted().saturating_sub(self.input.len() - self.start);
            let growth = wanted.clamp(SMALL_BUFFER, GROWTH.max(self.input.len()));
            self.input.reserve_exact(growth);
        }
        if let Err(reason) = self.account() {
            Reply::new(&mut self.output, self.client.version).error(reason);
            self.write().await?;
            return Ok(ControlFlow::Break(()));
        }
        let reading = self.stream.read_buf(&mut self.input);
        let read = if limit == Duration::MAX {
            reading.await?
        } else {
            timeout(limit, reading)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
        };
        Ok(if read == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Counts all that the connection holds on its account; an error says that it is too much. What was
    /// to be answered is dropped then.
    pub(super) fn account(&mut self) -> Result<(), &'static str> {
        let held = self.input.capacity()
            + self.output.capacity()
            + self.scratch.capacity()
            + self.parser.memory()
            + self.client.memory();
        if self.share.set(held) {
            return Ok(());
        }
        let info = &self.server.info;
        info.refused.set(info.refused.get() + 1);
        self.output = Vec::new();
        Err("ERR the requests of all clients together are too large; try again later")
    }

    /// Drops what has been carried out, and buffers that a large request has left behind.
    pub(super) fn tidy(&mut self) {
        self.input.drain(..self.start);
        self.start = 0;
        if self.input.is_empty() && self.input.capacity() > super::budget::FREE {
            self.input = Vec::with_capacity(SMALL_BUFFER);
        }
        if self.scratch.capacity() > SMALL_BUFFER {
            self.scratch = Vec::new();
        }
    }
}
