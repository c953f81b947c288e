//! One worker thread: its runtime, what it is told, and its connections.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::accept;
use super::begin::begin;
use super::links::{Command, Links};
use crate::front::counters::Counters;
use crate::io::deadline::TICK;
use crate::proxy::local::Local;

/// How often a thread looks after itself while it has no client's connection.
const IDLE_TICK: Duration = Duration::from_millis(500);
/// So often it does before it rests, if it has no server's connection either: what a burst took is given
/// back by then.
const BEFORE_REST: u32 = 4;
/// How often the pools are looked through for connections that servers closed, and buffers for
/// those that nobody needs any more.
const SWEEP: u64 = 500;

/// Bytes for HTTP/2 clients that are worth giving back to the system when they have been sent.
const BURST: usize = 8 * 1024 * 1024;

/// What a thread needs to begin.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) front: Arc<crate::front::Front>,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) commands: Vec<UnboundedSender<Command>>,
    pub(super) receiver: UnboundedReceiver<Command>,
    /// Where a client's address goes when its connection ends; its other end is thread 0's.
    pub(super) gone: UnboundedSender<IpAddr>,
    pub(super) gone_receiver: Option<UnboundedReceiver<IpAddr>>,
}

/// Runs a thread to its end. `reported` is told when it is ready for commands.
pub(super) fn run(start: Start, reported: &std::sync::mpsc::Sender<std::io::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = reported.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let _ = reported.send(Ok(()));
        obey(start).await;
    });
}

async fn obey(mut start: Start) {
    let index = start.index;
    let counters = Arc::clone(&start.counters[index]);
    let local = Local::new(index, Arc::clone(&start.front), counters);
    tokio::task::spawn_local(look_after(Rc::clone(&local)));
    let links = Rc::new(Links {
        commands: start.commands,
        counters: start.counters,
        clients: RefCell::default(),
        gone: RefCell::new(start.gone_receiver.take().unwrap_or_else(|| unbounded_channel().1)),
        leave: start.gone.clone(),
        counting: Cell::new(false),
        said: Cell::new(0),
    });
    let mut accepting: Vec<JoinHandle<()>> = Vec::new();
    while let Some(command) = start.receiver.recv().await {
        match command {
            Command::Connections(batch) => {
                local.counters.connections.arrive(batch.connections.len());
                begin(&local, batch, &start.gone);
            }
            Command::Accept(listeners) => {
                for listener in listeners {
                    let task = accept::run(Rc::clone(&local), listener, Rc::clone(&links));
                    accepting.push(tokio::task::spawn_local(task));
                }
            }
            Command::StopAccepting(done) => {
                for task in accepting.drain(..) {
                    task.abort();
                    let _ = task.await; // it is gone, and its socket with it
                }
                let _ = done.send(()); // or nobody waits for it
            }
            Command::ForgetIdle(server) => {
                local.pool.borrow_mut().forget(server);
                local.links.borrow_mut().forget(server);
            }
            Command::Beat => local.counters.heartbeat.add(1),
            Command::Look => local.deadlines.wake_all(),
            Command::Crowded => local.make_place(),
            Command::Stop => {
                local.stopping.set(true);
                local.deadlines.wake_all();
            }
            Command::GiveUp => {
                local.given_up.set(local.given_up.get() + 1);
                local.deadlines.wake_all();
                local.front.health_changed(); // wakes those in the queue
            }
            Command::Cut => return,
            #[cfg(test)]
            Command::Block(entered, until) => {
                let _ = entered.send(());
                let _ = until.recv();
            }
        }
    }
}

/// Moves the clock and sweeps the pools. A thread without any connection does not wake up.
async fn look_after(local: Rc<Local>) {
    let (mut swept, mut most, mut idle) = (0, 0, 0);
    loop {
        let is_idle = local.deadlines.len() == 0;
        idle = if is_idle { idle + 1 } else { 0 };
        let tick = if is_idle { IDLE_TICK } else { TICK };
        if idle > BEFORE_REST && local.keeps_nothing() {
            local.roused.notified().await;
            idle = 0;
        } else {
            tokio::time::sleep(tick).await;
        }
        local.deadlines.tick();
        let now = local.deadlines.now();
        if now >= swept + SWEEP {
            swept = now;
            local.pool.borrow_mut().sweep(tokio::time::Instant::now());
            local.links.borrow_mut().sweep(now);
            crate::io::trim();
            // The allocator keeps what a burst took unless it is asked.
            let backlog = local.backlog.get();
            most = backlog.max(most);
            if most > BURST && backlog < most / 4 {
                crate::sys::give_memory_back();
                most = backlog;
            }
        }
    }
}
