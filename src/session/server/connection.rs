//! One connection: read what is there, carry out what is whole, make it safe, answer.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Server;
use super::budget::Share;
use crate::config::settings::SessionSync;
use crate::session::command::{self, Client, Context};
use crate::session::protocol::{Parser, Reply, Version};

/// A stream that a client may be at the other end of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Writes what the socket takes at once.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
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

/// Serves a client until it goes, misbehaves, or the service stops.
pub(super) async fn run<S: Stream>(server: &Server, stream: S, client: Client) {
    let connection = Connection {
        server,
        stream,
        client,
        parser: Parser::default(),
        input: Vec::new(),
        start: 0,
        output: Vec::new(),
        scratch: Vec::new(),
        share: server.budget.share(),
    };
    if let Err(error) = connection.serve().await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Says why a connection is not served; the client reads it as the answer to its first request.
pub(super) fn refuse<S: Stream>(stream: &S, reason: &str) {
    let mut output = Vec::new();
    Reply::new(&mut output, Version::default()).error(reason);
    let _ = stream.write_now(&output);
}

impl<S: Stream> Connection<'_, S> {
    async fn serve(mut self) -> io::Result<()> {
        let mut stopping = self.server.stopping.subscribe();
        loop {
            let turn = self.take_turn().await?;
            if self.client.closing {
                return self.stream.shutdown().await;
            }
            match turn {
                Turn::HasMore => tokio::task::yield_now().await,
                Turn::Stalled => self.server.flushed.notified().await,
                Turn::NeedsInput => {
                    self.tidy();
                    let midway = self.parser.is_midway() || self.start < self.input.len();
                    let limit = if midway { STANDSTILL } else { Duration::MAX };
                    // What has arrived is read, and answered, before a stop is looked at.
                    let read = tokio::select! {
                        biased;
                        read = self.read(limit) => read?,
                        _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                    };
                    if read.is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Carries out requests, makes their effects as safe as the settings say, and answers.
    async fn take_turn(&mut self) -> io::Result<Turn> {
        let mut requests = 0;
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
                    now: crate::session::now(),
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
        self.make_safe(before, requests).await;
        self.write().await?;
        Ok(turn)
    }

    /// Has the log written before any reply leaves, and synced if the settings say so. When it
    /// cannot be, every reply of this turn becomes an error: nothing was acknowledged.
    async fn make_safe(&mut self, before: u64, requests: usize) {
        let (wrote, observed, result, always) = {
            let mut store = self.server.store.borrow_mut();
            let wrote = store.sequence() != before;
            let always = store.options().sync == SessionSync::Always;
            (wrote, store.take_observed(), store.write_log(), always)
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
        let mut written = 0;
        while written < self.output.len() {
            let writing = self.stream.write(&self.output[written..]);
            match timeout(STANDSTILL, writing).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(count)) => written += count,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        self.output.clear();
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
        if self.output.capacity() > super::budget::FREE {
            self.output = Vec::new();
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
}

impl Stream for TcpStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}
