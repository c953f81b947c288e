//! `MULTI`: requests are kept and carried out together, without any other in between.

use std::ops::Range;

use super::super::protocol::{Arguments, Reply};
use super::table;
use super::{CommandError, Context, Outcome};

/// The requests between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(super) struct Queue {
    requests: Vec<(Vec<u8>, Vec<Range<usize>>)>,
    bytes: usize,
    /// One of them was refused, so `EXEC` will be too.
    pub(super) spoilt: bool,
}

/// A key whose change makes `EXEC` do nothing.
#[derive(Debug)]
pub(super) struct WatchedKey {
    pub(super) key: Vec<u8>,
    /// It was there and has an expiry: when it is gone at `EXEC`, that counts as a touch.
    expires: bool,
}

/// Bytes that the requests of one transaction may take.
const LARGEST: usize = 64 * 1024 * 1024;

impl Queue {
    fn push(&mut self, args: Arguments<'_>) -> Outcome {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::with_capacity(args.len()));
        for argument in args.from(0) {
            let start = bytes.len();
            bytes.extend_from_slice(argument);
            ranges.push(start..bytes.len());
        }
        self.bytes += bytes.len() + ranges.len() * size_of::<Range<usize>>();
        if self.bytes > LARGEST {
            self.spoilt = true;
            return Err(CommandError::Other(format!(
                "ERR the transaction is larger than {LARGEST} bytes"
            )));
        }
        self.requests.push((bytes, ranges));
        Ok(())
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.bytes
    }
}

pub(super) fn queue(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(queue) = &mut cx.client.queue {
        queue.push(args)?;
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
    let touched = cx.client.touched.get() || has_expired(cx)?;
    cx.client.unwatch();
    if queue.spoilt {
        return Err(CommandError::other(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    if touched {
        reply.null_array();
        return Ok(());
    }
    reply.array(queue.requests.len());
    for (bytes, ranges) in &queue.requests {
        table::execute(cx, Arguments::new(bytes, ranges), reply);
    }
    Ok(())
}

/// Whether a watched key was there and its time is over now.
fn has_expired(cx: &Context<'_>) -> Result<bool, CommandError> {
    for watched in &cx.client.watched {
        if watched.expires && cx.store.find(&watched.key, cx.now)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn watch(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    if cx.client.queue.is_some() {
        return Err(CommandError::other("ERR WATCH inside MULTI is not allowed"));
    }
    for name in args.from(1) {
        // A key whose time is over is removed first, or its removal would count as a touch.
        let key = cx.key_to_change(name)?;
        let expires = cx.store.find(&key, cx.now)?.is_some_and(|found| found.expires() != 0);
        cx.store.watch(&key, &cx.client.touched);
        cx.client.watched.push(WatchedKey { key, expires });
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
