//! One connection: read what is there, carry out what is whole, make it safe, answer.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::budget::Share;
use super::handover::{Handover, MOST_INPUT};
use super::shared::Server;
use super::shares::Holder;
use crate::config::settings::SessionSync;
use crate::session::command::{self, Client, Context};
use crate::session::protocol::{Parser, Reply, Version};

/// A stream that a client may be at the other end of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Writes what the socket takes at once.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The socket, for another process; `None` when its client must connect anew.
    fn into_descriptor(self) -> Option<OwnedFd>;
}

/// What a new connection reads into.
const SMALL_BUFFER: usize = 4 * 1024;
/// A buffer grows by no more than this ahead of the bytes that arrive: a length is only a promise.
const GROWTH: usize = 256 * 1024;
/// Replies that are collected before they are written: a client that sends and does not read is
/// not read from any more.
const REPLIES: usize = 256 * 1024;
/// Requests of one connection before the others have their turn.
const TURN: usize = 256;
/// Half a request, or a reply that the client does not take, may stand still for so long.
const STANDSTILL: Duration = Duration::from_mins(1);
/// So long may a client take to authenticate.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// What a client reads that is one too many of its namespace, of those who have not authenticated,
/// or of all.
pub(super) const NO_SEAT: &str = "ERR max number of clients reached";

struct Connection<'a, S> {
    server: &'a Server,
    stream: S,
    client: Client,
    parser: Parser,
    input: Vec<u8>,
    /// Where the first request begins that has not been carried out.
    start: usize,
    output: Vec<u8>,
    scratch: Vec<u8>,
    share: Share<'a>,
    /// On whose account the connection is.
    holder: Holder,
    /// Since when it has been a stranger's, if it is one's.
    stranger_since: Instant,
}

/// How serving a client ended.
enum End {
    /// There is nothing more to say.
    Closed,
    /// The service stops, and the client waits for nothing.
    Stopped,
}

/// What stopped a turn.
enum Turn {
    /// Nothing whole is left in the buffer.
    NeedsInput,
    /// There is more to carry out.
    HasMore,
    /// A write must wait for the checkpoint.
    Stalled,
}

/// Serves a client until it goes, misbehaves, or the service stops. `input` is what was read of it
/// before. Returns on whose account the connection was in the end.
pub(super) async fn run<S: Stream>(
    server: &Server,
    stream: S,
    client: Client,
    input: Vec<u8>,
) -> Holder {
    let mut connection = Connection::new(server, stream, client, input);
    let end = connection.serve().await;
    let holder = connection.holder.clone();
    match end {
        Ok(End::Closed) => {}
        Ok(End::Stopped) => {
            if let Some(handover) = connection.into_handover() {
                server.handovers.borrow_mut().push(handover);
            }
        }
        Err(error) => tracing::debug!(%error, "a connection ended"),
    }
    holder
}

/// Says why a connection is not served; the client reads it as the answer to its first request.
pub(super) fn refuse<S: Stream>(stream: &S, reason: &str) {
    let mut output = Vec::new();
    Reply::new(&mut output, Version::default()).error(reason);
    let _ = stream.write_now(&output);
}

impl<'a, S: Stream> Connection<'a, S> {
    fn new(server: &'a Server, stream: S, client: Client, input: Vec<u8>) -> Self {
        let holder = Holder::of(&client);
        Self {
            server,
            stream,
            client,
            parser: Parser::default(),
            input,
            start: 0,
            output: Vec::new(),
            scratch: Vec::new(),
            share: server.budget.share(holder.clone()),
            holder,
            stranger_since: Instant::now(),
        }
    }

    async fn serve(&mut self) -> io::Result<End> {
        let mut stopping = self.server.stopping.subscribe();
        // One for all turns: to begin to wait is dearer than to go on.
        let mut stopped = std::pin::pin!(stopping.wait_for(|stopping| *stopping));
        loop {
            let turn = self.take_turn().await?;
            if !self.holder.is_of(&self.client) {
                self.change_account().await?;
            }
            let patience = self.patience();
            if self.client.closing || patience.is_zero() {
                return self.stream.shutdown().await.map(|()| End::Closed);
            }
            match turn {
                Turn::HasMore => tokio::task::yield_now().await,
                Turn::Stalled => {
                    // While the replies of this turn were written the checkpoint may have ended, and
                    // there may be none after it that would wake us. Nothing happens between this
                    // look and the waiting: all that could is on this thread.
                    if self.server.store.borrow().is_stalled() {
                        self.server.flushed.notified().await;
                    }
                }
                Turn::NeedsInput => {
                    self.tidy();
                    let midway = self.parser.is_midway() || self.start < self.input.len();
                    let limit = if midway { STANDSTILL } else { Duration::MAX }.min(patience);
                    // What has arrived is read, and answered, before a stop is looked at.
                    let read = tokio::select! {
                        biased;
                        read = self.read(limit) => read?,
                        _ = &mut stopped => return Ok(End::Stopped),
                    };
                    if read.is_break() {
                        return Ok(End::Closed);
                    }
                }
            }
        }
    }

    /// The client has said by a password, or by another user's name, for which namespace it is.
    async fn change_account(&mut self) -> io::Result<()> {
        let holder = Holder::of(&self.client);
        let seats = &self.server.seats;
        if !seats.change(&holder, 0, 1) {
            let info = &self.server.info;
            info.refused.set(info.refused.get() + 1);
            Reply::new(&mut self.output, self.client.version).error(NO_SEAT);
            self.client.closing = true;
            return self.write().await;
        }
        seats.change(&self.holder, 1, 0);
        self.client.closing |= !self.share.pass_to(holder.clone());
        self.holder = holder;
        self.stranger_since = Instant::now();
        Ok(())
    }

    /// How long the client may say nothing for being a stranger.
    fn patience(&self) -> Duration {
        match self.holder {
            Holder::Stranger => INTRODUCTION.saturating_sub(self.stranger_since.elapsed()),
            _ => Duration::MAX,
        }
    }

    /// For the next process, if the connection can be gone on with there.
    fn into_handover(self) -> Option<Handover> {
        let memento = self.client.memento()?;
        let input = self.input.get(self.start..).unwrap_or_default().to_vec();
        let small = input.len() <= MOST_INPUT;
        let socket = small.then(|| self.stream.into_descriptor())??;
        Some(Handover { socket, memento, input })
    }

    /// Carries out requests, makes their effects as safe as the settings say, and answers.
    async fn take_turn(&mut self) -> io::Result<Turn> {
        let mut requests = 0;
        if self.output.capacity() == 0 {
            self.output = self.server.outputs.take();
        }
        // The clock stands still within a turn.
        let now = crate::session::now();
        let before = self.server.store.borrow().sequence();
        let mut turn = Turn::NeedsInput;
        while !self.client.closing {
            if requests == TURN || self.output.len() > REPLIES {
                turn = Turn::HasMore;
                break;
            }
            let authenticated = self.client.authenticated;
            let bytes = &self.input[self.start..];
            let used = match self.parser.parse(bytes, &self.server.limits, authenticated) {
                Ok(None) => break,
                Ok(Some(used)) => used,
                Err(error) => {
                    // What follows has no meaning any more.
                    let text = format!("ERR {error}");
                    Reply::new(&mut self.output, self.client.version).error(&text);
                    self.client.closing = true;
                    break;
                }
            };
            let arguments = self.parser.arguments(bytes);
            if !arguments.is_empty() {
                let mut store = self.server.store.borrow_mut();
                if store.is_stalled() && command::may_write(arguments) {
                    // The request is whole: parsing goes on from its end when it is asked again.
                    self.parser.finish();
                    turn = Turn::Stalled;
                    break;
                }
                requests += 1;
                let length = self.output.len();
                let mut context = Context {
                    store: &mut store,
                    client: &mut self.client,
                    server: &self.server.info,
                    now,
                    scratch: std::mem::take(&mut self.scratch),
                };
                let mut reply = Reply::new(&mut self.output, context.client.version);
                command::dispatch(&mut context, arguments, &mut reply);
                if reply.is_too_large() {
                    reply.truncate(length);
                    reply.error("ERR the reply is too large; ask for less at once");
                    context.client.closing = true;
                }
                self.scratch = context.scratch;
            }
            self.start += used;
            self.parser.finish();
        }
        // Before anybody else's turn, whose requests see other things.
        let (wrote, observed) = {
            let store = self.server.store.borrow();
            (store.sequence() != before, store.take_observed())
        };
        if self.server.store.borrow().has_unwritten() {
            // All that can run does so first: what the others write then goes to the log with this,
            // in one system call.
            tokio::task::yield_now().await;
        }
        self.make_safe(requests, wrote, observed).await;
        self.write().await?;
        Ok(turn)
    }

    /// Has the log written before any reply leaves, and synced if the settings say so. When it
    /// cannot be, every reply of this turn becomes an error: nothing was acknowledged.
    async fn make_safe(&mut self, requests: usize, wrote: bool, observed: u64) {
        let (result, always) = {
            let mut store = self.server.store.borrow_mut();
            let always = store.options().sync == SessionSync::Always;
            (store.write_log(), always)
        };
        let mut failure = result.err().filter(|_| wrote);
        if always && failure.is_none() && observed > 0 {
            let mut synced = self.server.store.borrow().synced();
            let safe = |synced: &crate::session::store::Synced| {
                synced.sequence >= observed || synced.failure.is_some()
            };
            if let Ok(synced) = synced.wait_for(safe).await
                && synced.sequence < observed
                && let Some(error) = &synced.failure
            {
                failure = Some(format!("MISCONF the session log cannot be synced: {error}"));
            }
        }
        if let Some(failure) = failure {
            self.output.clear();
            let mut reply = Reply::new(&mut self.output, self.client.version);
            (0..requests).for_each(|_| reply.error(&failure));
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.write_all().await?;
        }
        self.server.outputs.give(std::mem::take(&mut self.output));
        Ok(())
    }

    async fn write_all(&mut self) -> io::Result<()> {
        // Nearly always the socket takes all of it at once, and no timer is needed.
        let mut written = match self.stream.write_now(&self.output) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            now => now?,
        };
        while written < self.output.len() {
            let writing = self.stream.write(&self.output[written..]);
            match timeout(STANDSTILL, writing).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(count)) => written += count,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there, into a buffer that grows only as far as bytes arrive.
    async fn read(&mut self, limit: Duration) -> io::Result<ControlFlow<()>> {
        let room = self.input.capacity() - self.input.len();
        if room < SMALL_BUFFER / 4 {
            let wanted = self.parser.wanted().saturating_sub(self.input.len() - self.start);
            let growth = wanted.clamp(SMALL_BUFFER, GROWTH.max(self.input.len()));
            self.input.reserve_exact(growth);
        }
        let held = self.input.capacity()
            + self.output.capacity()
            + self.scratch.capacity()
            + self.parser.memory()
            + self.client.memory();
        if !self.share.set(held) {
            let info = &self.server.info;
            info.refused.set(info.refused.get() + 1);
            let reason = "ERR the requests of all clients together are too large; try again later";
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

    /// Drops what has been carried out, and buffers that a large request has left behind.
    fn tidy(&mut self) {
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

impl Stream for UnixStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn into_descriptor(self) -> Option<OwnedFd> {
        Some(self.into_std().ok()?.into())
    }
}

impl Stream for TcpStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn into_descriptor(self) -> Option<OwnedFd> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::pin::{Pin, pin};
    use std::task::{Context as TaskContext, Poll};

    use tokio::io::{DuplexStream, ReadBuf, duplex};
    use tokio::task::yield_now;

    use super::*;
    use crate::session::command::{Identity, ServerInfo};
    use crate::session::store::{Options, Store};

    /// A socket that never takes anything at once.
    struct Slow(DuplexStream);

    impl AsyncRead for Slow {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut TaskContext<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut TaskContext<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            cx: &mut TaskContext<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl Stream for Slow {
        fn write_now(&self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn into_descriptor(self) -> Option<OwnedFd> {
            None
        }
    }

    fn server(directory: &Path, memory: usize) -> Server {
        let options = Options {
            directory: directory.to_owned(),
            sync: SessionSync::EverySecond,
            max_size: u64::MAX,
            memory,
        };
        let (store, _problems) = Store::open(options).unwrap();
        Server::new(store, ServerInfo::default())
    }

    fn connection(server: &Server, stream: Slow, input: Vec<u8>) -> Connection<'_, Slow> {
        let client = Client::new(1, Identity::Admin, "test".to_owned(), 0);
        Connection::new(server, stream, client, input)
    }

    fn set(key: &str, length: usize) -> String {
        let value = "x".repeat(length);
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${length}\r\n{value}\r\n", key.len())
    }

    /// The checkpoint that a writer is to wait for ends while the client has not yet read what came
    /// before: nothing wakes the writer afterwards.
    #[tokio::test]
    async fn a_writer_does_not_wait_for_a_checkpoint_that_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let server = server(directory.path(), 64 * 1024);
        let mut outcomes = server.store.borrow_mut().outcomes().unwrap();
        let writes: String = (0..400).map(|n| set(&format!("key{n}"), 1024)).collect();
        let (near, _far) = duplex(1024 * 1024);
        let mut filling = connection(&server, Slow(near), writes.into_bytes());
        while !matches!(filling.take_turn().await.unwrap(), Turn::Stalled) {
            assert!(filling.start < filling.input.len(), "memory has not become full");
        }
        drop(filling);

        let (near, mut far) = duplex(1);
        let request = format!("*1\r\n$4\r\nPING\r\n{}", set("late", 10));
        let mut late = connection(&server, Slow(near), request.into_bytes());
        let mut serving = pin!(late.serve());
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut serving => unreachable!("its reply has not been read"),
                () = yield_now() => {}
            }
        }
        let outcome = outcomes.recv().await.expect("the checkpoint ends");
        server.store.borrow_mut().checkpointed(outcome);
        server.flushed.notify_waiters();
        assert!(!server.store.borrow().is_stalled());
        let mut replies = [0; 12];
        let read = timeout(Duration::from_secs(20), far.read_exact(&mut replies));
        tokio::select! {
            _ = &mut serving => unreachable!("its client is there"),
            read = read => { read.expect("it waits for ever").unwrap(); }
        }
        assert_eq!(&replies, b"+PONG\r\n+OK\r\n");
    }
}
