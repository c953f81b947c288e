//! `MULTI`: requests are kept and carried out together, without any other in between.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::protocol::{Arguments, Reply};
use super::super::store::{Task, key};
use super::table::{self, Flags};
use super::{CommandError, Context, Outcome};

/// The requests between `MULTI` and `EXEC`, in few large pieces of memory: many small ones would
/// take several times the bytes that they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Where each argument lies.
    arguments: Vec<Range<usize>>,
    /// Where the arguments of each request end.
    requests: Vec<usize>,
    /// Some of them may change data.
    pub(super) writes: bool,
    /// Some of them may need more room.
    grows: bool,
    /// One of them was refused, so `EXEC` will be too.
    pub(super) spoilt: bool,
}

/// Bytes that the requests of one transaction may take.
const LARGEST: usize = 64 * 1024 * 1024;

/// Nobody else is served while a transaction is carried out. One that has taken so long, or so much room
/// in the log, or all the steps that a request may take, is carried out no further. But its first requests
/// are unless they took many steps: a client's few never depend on how busy the machine is.
const LONGEST: Duration = Duration::from_secs(1);
const MOST: usize = 2 * LARGEST;
const FIRST: usize = 16;

impl Queue {
    fn push(&mut self, flags: Flags, args: Arguments<'_>) -> Outcome {
        if self.spoilt {
            return Ok(()); // nothing of it will be carried out
        }
        for argument in args.from(0) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(argument);
            self.arguments.push(start..self.bytes.len());
        }
        self.requests.push(self.arguments.len());
        self.writes |= flags.write;
        self.grows |= flags.grows;
        if self.memory() > LARGEST {
            *self = Self { spoilt: true, ..Self::default() };
            return Err(CommandError::Other(format!(
                "ERR the transaction is larger than {LARGEST} bytes"
            )));
        }
        Ok(())
    }

    fn requests(&self) -> impl Iterator<Item = Arguments<'_>> {
        let mut start = 0;
        self.requests.iter().map(move |end| {
            let ranges = self.arguments.get(start..*end).unwrap_or_default();
            start = *end;
            Arguments::new(&self.bytes, ranges)
        })
    }

    /// How many requests there are.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.arguments.capacity() * size_of::<Range<usize>>()
            + self.requests.capacity() * size_of::<usize>()
    }
}

pub(super) fn queue(
    cx: &mut Context<'_>,
    flags: Flags,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    if let Some(queue) = &mut cx.client.queue {
        queue.push(flags, args)?;
    }
    reply.simple("QUEUED");
    Ok(())
}

pub(super) fn multi(cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if cx.client.queue.is_some() {
        return Err(CommandError::other("ERR MULTI calls can not be nested"));
    }
    cx.client.queue = Some(Queue::default());
    reply.ok();
    Ok(())
}

pub(super) fn discard(
    cx: &mut Context<'_>,
    _args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    if cx.client.queue.take().is_none() {
        return Err(CommandError::other("ERR DISCARD without MULTI"));
    }
    cx.client.unwatch();
    reply.ok();
    Ok(())
}

pub(super) fn exec(cx: &mut Context<'_>, _args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(queue) = cx.client.queue.take() else {
        return Err(CommandError::other("ERR EXEC without MULTI"));
    };
    let touched = cx.client.watching.is_touched() || has_expired(cx)?;
    cx.client.unwatch();
    if queue.spoilt {
        return Err(CommandError::other(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    // Much may have happened since its requests were looked at.
    if queue.writes {
        table::admit_write(cx, queue.grows).map_err(|reason| {
            CommandError::Other(format!("EXECABORT Transaction discarded because of: {reason}"))
        })?;
    }
    if touched {
        reply.null_array();
        return Ok(());
    }
    reply.array(queue.len());
    let began = Instant::now();
    let mut is_over = false;
    for (index, arguments) in queue.requests().enumerate() {
        let work = cx.store.work();
        is_over = is_over
            || work.is_spent()
            || (index >= FIRST || work.is_long()) && began.elapsed() > LONGEST
            || cx.store.unwritten() > MOST;
        if is_over {
            reply.error(
                "ERR this was not carried out: the transaction takes too long or too much room",
            );
        } else {
            table::execute(cx, arguments, reply);
        }
    }
    cx.client.again = false; // what was done is done
    Ok(())
}

/// Whether a watched key was there and its time is over now.
fn has_expired(cx: &Context<'_>) -> Result<bool, CommandError> {
    for key in cx.client.watching.expiring() {
        cx.store.work().note(Task::Visit, 1);
        // What there is no time to look for may be gone.
        if cx.store.work().is_spent() || cx.store.find(key, cx.now)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn watch(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if cx.client.queue.is_some() {
        return Err(CommandError::other("ERR WATCH inside MULTI is not allowed"));
    }
    // A database that nobody has written to has a number for whoever waits for the first write.
    let space = cx.store.promise_space(&cx.client.namespace, cx.client.database);
    let mut stored = Vec::new();
    for name in args.from(1) {
        key::build(&mut stored, space, name);
        if cx.client.watching.has(&stored) {
            continue;
        }
        cx.store.work().spend(Task::Find, 1)?;
        let expires = cx.store.find(&stored, cx.now)?.is_some_and(|found| found.expires() != 0);
        cx.store.watch(&stored, cx.client.watching.touched());
        cx.client.watching.add(std::mem::take(&mut stored), expires);
    }
    reply.ok();
    Ok(())
}

pub(super) fn unwatch(
    cx: &mut Context<'_>,
    _args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    cx.client.unwatch();
    reply.ok();
    Ok(())
}
