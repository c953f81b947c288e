//! One worker thread: its runtime, what it is told, and its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::Listener;
use super::accept::{self, Accepted, Source};
use super::begin::begin;
use crate::front::counters::Counters;
use crate::io::deadline::TICK;
use crate::proxy::local::Local;

/// How often a thread looks after itself while it has no connection: twice within the second in
/// which its heartbeat has to move.
const IDLE_TICK: Duration = Duration::from_millis(500);
/// How often the pools are looked through for connections that servers closed, and buffers for
/// those that nobody needs any more.
const SWEEP: u64 = 500;

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve these.
    Connections(Batch),
    /// Accept from these; only thread 0 is told so.
    Accept(Vec<Listener>),
    /// Accept no more, and say so.
    StopAccepting(Option<tokio::sync::oneshot::Sender<()>>),
    ForgetIdle(u32),
    /// Have every connection look whether it must end.
    Look,
    /// Finish what is in flight and keep nothing alive.
    Stop,
    /// End everything now.
    Cut,
    /// Say so and block the thread until told otherwise: what a stuck thread does.
    #[cfg(test)]
    Block(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>),
}

/// Connections of one listener.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) connections: Vec<Accepted>,
    pub(super) source: Arc<Source>,
}

/// The other ends of all threads, as the accepting one sees them.
#[derive(Debug)]
pub(super) struct Links {
    commands: Vec<UnboundedSender<Command>>,
    counters: Vec<Arc<Counters>>,
    /// Connections that were handed over and not yet counted as open by their thread.
    on_the_way: Vec<Arc<AtomicUsize>>,
    clients: RefCell<HashMap<IpAddr, usize>>,
    gone: RefCell<UnboundedReceiver<IpAddr>>,
    /// The other end of `gone`.
    pub(super) leave: UnboundedSender<IpAddr>,
    counting: Cell<bool>,
}

/// What a thread needs to begin.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) front: Arc<crate::front::Front>,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) on_the_way: Vec<Arc<AtomicUsize>>,
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
        on_the_way: start.on_the_way,
        clients: RefCell::default(),
        gone: RefCell::new(start.gone_receiver.take().unwrap_or_else(|| unbounded_channel().1)),
        leave: start.gone.clone(),
        counting: Cell::new(false),
    });
    let mut accepting: Vec<JoinHandle<()>> = Vec::new();
    while let Some(command) = start.receiver.recv().await {
        match command {
            Command::Connections(batch) => {
                links.on_the_way[index].fetch_sub(batch.connections.len(), Ordering::Relaxed);
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
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            Command::ForgetIdle(server) => {
                local.pool.borrow_mut().forget(server);
                local.links.borrow_mut().forget(server);
            }
            Command::Look => local.deadlines.wake_all(),
            Command::Stop => {
                local.stopping.set(true);
                local.deadlines.wake_all();
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

/// Moves the heartbeat and the clock, and sweeps the pools.
async fn look_after(local: Rc<Local>) {
    let mut swept = 0;
    loop {
        let tick = if local.deadlines.len() == 0 { IDLE_TICK } else { TICK };
        tokio::time::sleep(tick).await;
        local.counters.heartbeat.add(1);
        local.deadlines.tick();
        let now = local.deadlines.now();
        if now >= swept + SWEEP {
            swept = now;
            local.pool.borrow_mut().sweep(now);
            local.links.borrow_mut().sweep(now);
            crate::io::trim();
        }
    }
}

impl Links {
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Open connections of each thread, with those on their way there.
    pub(super) fn open_each(&self) -> Vec<usize> {
        self.counters
            .iter()
            .zip(&self.on_the_way)
            .map(|(c, way)| c.open.get() as usize + way.load(Ordering::Relaxed))
            .collect()
    }

    /// Open connections in all.
    pub(super) fn open(&self) -> usize {
        self.open_each().iter().sum()
    }

    /// Gives a batch to a thread.
    pub(super) fn hand(&self, thread: usize, batch: Batch) {
        self.on_the_way[thread].fetch_add(batch.connections.len(), Ordering::Relaxed);
        let _ = self.commands[thread].send(Command::Connections(batch));
    }

    /// Leaves out the connections of clients that have too many.
    pub(super) fn admit(
        &self,
        mut batch: Vec<Accepted>,
        most: Option<usize>,
        mut refuse: impl FnMut(IpAddr),
    ) -> Vec<Accepted> {
        let mut clients = self.clients.borrow_mut();
        let Some(most) = most else {
            if self.counting.replace(false) {
                clients.clear();
            }
            return batch;
        };
        // Connections that were open before the limit was set are not known and not counted.
        self.counting.set(true);
        while let Ok(peer) = self.gone.borrow_mut().try_recv() {
            if let Some(count) = clients.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    clients.remove(&peer);
                }
            }
        }
        batch.retain(|accepted| {
            let Some(peer) = accepted.peer.map(|peer| peer.ip().to_canonical()) else {
                return true;
            };
            let count = clients.entry(peer).or_default();
            if *count >= most {
                refuse(peer);
                return false;
            }
            *count += 1;
            true
        });
        batch
    }
}
