//! A turn of one connection: carry out what is whole, make it safe, answer.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::budget::FREE;
use super::connection::{Connection, Turn};
use super::stream::Stream;
use crate::config::settings::SessionSync;
use crate::session::command::{self, Context};
use crate::session::protocol::Reply;
use crate::session::store::{Synced, is_long};

/// Replies that are collected before they are written: a client that sends and does not read is
/// not read from any more.
const REPLIES: usize = 256 * 1024;
/// Requests of one connection before the others have their turn, if they do not take many steps, and how
/// long they may take if the time of some depends on how much there is.
const TURN: usize = 256;
const LONGEST: Duration = Duration::from_millis(10);
/// Steps that a request takes whatever it is, and bytes that are read or written in one.
const STEPS: u64 = 1000;
const BYTES: usize = 4;

impl<S: Stream> Connection<'_, S> {
    /// Carries out requests, makes their effects as safe as the settings say, and answers.
    pub(super) async fn take_turn(&mut self) -> io::Result<Turn> {
        let begin = self.server.turns.begin(Rc::clone(&self.account));
        let Some(mut on_turn) = self.server.unless_stopping(begin).await else {
            return Ok(Turn::Stopped);
        };
        if on_turn.has_waited && self.stream.is_gone() {
            return Err(io::ErrorKind::BrokenPipe.into()); // nobody waits for what it has asked for
        }
        if self.output.capacity() == 0 {
            self.output = self.server.outputs.take();
        }
        self.changes.clear();
        let (turn, steps) = self.carry_out();
        on_turn.steps = steps;
        drop(on_turn);
        if !self.changes.is_empty() {
            self.server.note_change();
        }
        // Before anybody else's turn, whose requests see other things.
        let observed = self.server.store.borrow().take_observed();
        if self.server.store.borrow().has_unwritten() && !self.server.turns.is_contended() {
            // All that can run does so first: what the others write then goes to the log with this,
            // in one system call. But nobody waits for what takes long.
            tokio::task::yield_now().await;
        }
        if self.make_safe(observed).await.is_none() {
            self.is_unsafe = true;
            return Ok(Turn::Stopped);
        }
        // Small replies are no matter: the client takes them, or is not read from.
        if self.output.len() > FREE
            && let Err(reason) = self.account()
        {
            Reply::new(&mut self.output, self.client.version).error(reason);
            self.client.closing = true;
        }
        if let Some(delay) = self.client.put_off.take()
            && self.server.unless_stopping(sleep(delay)).await.is_none()
        {
            return Ok(Turn::Stopped);
        }
        self.write().await?;
        Ok(if self.output.is_empty() { turn } else { Turn::Stopped })
    }

    /// Carries out what is whole, as much of it as belongs into a turn; returns what ended it, and the steps that
    /// it took.
    fn carry_out(&mut self) -> (Turn, u64) {
        let began = Instant::now();
        let (mut requests, mut steps) = (0, 0);
        let (commands, start) = (self.server.info.commands.get(), self.start);
        // The clock stands still within a turn.
        let now = crate::session::now();
        self.client.active = now;
        let (mut turn, mut is_over) = (Turn::NeedsInput, false);
        while !self.client.closing {
            if is_over || requests == TURN || self.output.len() > REPLIES {
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
                if store.is_stalled() && command::may_write(&self.client, arguments) {
                    // The request is whole: parsing goes on from its end when it is asked again.
                    self.parser.finish();
                    turn = Turn::Stalled;
                    break;
                }
                requests += 1;
                let (length, sequence) = (self.output.len(), store.sequence());
                let unwritten = store.unwritten();
                let mut context = Context {
                    store: &mut store,
                    client: &mut self.client,
                    server: &self.server.info,
                    now,
                    scratch: std::mem::take(&mut self.scratch),
                };
                let mut reply = Reply::new(&mut self.output, context.client.version);
                let fast = command::dispatch(&mut context, arguments, &mut reply);
                if reply.is_too_large() {
                    reply.truncate(length);
                    reply.error("ERR the reply is too large; ask for less at once");
                    context.client.closing = true;
                }
                self.scratch = context.scratch;
                let again = std::mem::take(&mut self.client.again);
                if again && store.sequence() == sequence {
                    self.output.truncate(length);
                    self.parser.finish();
                    turn = Turn::Unreadable;
                    break;
                }
                if store.sequence() != sequence {
                    self.changes.push(length..self.output.len());
                }
                let written = store.unwritten().saturating_sub(unwritten);
                steps += store.work().taken() + (written / BYTES) as u64;
                if is_long(steps) || !fast && began.elapsed() > LONGEST {
                    is_over = true; // it was the last one
                }
            }
            self.start += used;
            self.parser.finish();
            if self.client.put_off.is_some() {
                turn = Turn::HasMore;
                break;
            }
        }
        let commands = self.server.info.commands.get() - commands;
        let bytes = self.start - start + self.output.len();
        let steps = steps + STEPS * commands.max(requests as u64) + (bytes / BYTES) as u64;
        (turn, steps)
    }

    /// Has the log written before any reply leaves, and synced if the settings say so. When it
    /// cannot be, the reply to every request that changed something becomes an error: nothing was
    /// acknowledged. Those that only read are answered all the same. `None` when the service stops before
    /// it is known.
    async fn make_safe(&mut self, observed: u64) -> Option<()> {
        let (result, always) = {
            let mut store = self.server.store.borrow_mut();
            let always = store.options().sync == SessionSync::Always;
            (store.write_log(), always)
        };
        let mut failure = result.err();
        if always && failure.is_none() && observed > 0 {
            let mut synced = self.server.store.borrow().synced();
            let safe = |synced: &Synced| synced.sequence >= observed || synced.failure.is_some();
            if let Ok(synced) = self.server.unless_stopping(synced.wait_for(safe)).await?
                && synced.sequence < observed
                && let Some(error) = &synced.failure
            {
                failure = Some(format!("MISCONF the session log cannot be synced: {error}"));
            }
        }
        if let Some(failure) = failure
            && !self.changes.is_empty()
        {
            self.take_back(&failure);
        }
        Some(())
    }

    /// Puts an error in the place of the replies to requests that changed something.
    fn take_back(&mut self, failure: &str) {
        let before = std::mem::take(&mut self.output);
        let mut end = 0;
        for reply in &self.changes {
            self.output.extend_from_slice(&before[end..reply.start]);
            Reply::new(&mut self.output, self.client.version).error(failure);
            end = reply.end;
        }
        self.output.extend_from_slice(&before[end..]);
    }
}
