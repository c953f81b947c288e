//! The sockets: accepting, reading, answering, all on one thread and within stated bounds.

mod budget;
mod connection;
pub(crate) mod handover;
mod refusal;
mod shared;
mod shares;
mod stream;
mod transfer;
mod turn;
mod turns;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::{LocalSet, coop::unconstrained, spawn_local, yield_now};
use tokio::time::{Instant, sleep, sleep_until};

use super::command::{Client, Identity, ServerInfo};
use super::namespace::Acquaintances;
use super::store::Store;

use handover::Handover;
use shared::Server;
use shares::Holder;
use stream::Stream;

/// Where clients connect.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A UNIX socket: the kernel says who connects.
    Unix(StdUnixListener),
    /// TCP: a password says for which namespace.
    Tcp(StdTcpListener),
}

/// What the server is started with.
#[derive(Debug)]
pub(crate) struct Options {
    /// Facts for the commands that ask for them, passwords among them.
    pub info: ServerInfo,
    /// Stop after so long without a connection.
    pub idle_stop: Option<Duration>,
    /// Connections of the process before.
    pub handovers: Vec<Handover>,
}

/// How often regular work is done.
const TICK: Duration = Duration::from_millis(100);
/// Index entries that one step of the sweep looks at.
const SWEEP_STEP: usize = 200;
/// What a tick may spend on sweeping, out of its 100 ms.
const SWEEP_TIME: Duration = Duration::from_millis(10);
/// Entries that are moved to the cache in one step, between the turns of clients.
const SETTLE_STEP: usize = 200;
/// What connections have for their last replies when the service stops.
const LAST_REPLIES: Duration = Duration::from_secs(5);
/// Connections that are accepted before others have their turn, if few processes make them: in some ten
/// milliseconds.
const AT_ONCE: usize = 1024;
/// Refusals a second that the journal hears of.
const REFUSALS: u32 = 5;
/// After an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` completes, or until nobody has been connected for `idle_stop`. `ready` is
/// called when clients are served. Returns the connections that the next process can go on with.
pub(crate) async fn serve(
    store: Store,
    listeners: Vec<Listener>,
    options: Options,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> io::Result<Vec<Handover>> {
    let server = Rc::new(Server::new(store, options.info));
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let mut accepting = Vec::new();
            for listener in listeners {
                accepting.push(match listener {
                    Listener::Unix(listener) => {
                        listener.set_nonblocking(true)?;
                        let listener = UnixListener::from_std(listener)?;
                        spawn_local(accept_unix(Rc::clone(&server), listener))
                    }
                    Listener::Tcp(listener) => {
                        listener.set_nonblocking(true)?;
                        let listener = TcpListener::from_std(listener)?;
                        spawn_local(accept_tcp(Rc::clone(&server), listener))
                    }
                });
            }
            for handover in options.handovers {
                resume(&server, handover);
            }
            spawn_local(take_outcomes(Rc::clone(&server)));
            spawn_local(look_at_sockets(Rc::clone(&server)));
            let work = spawn_local(regular_work(Rc::clone(&server)));
            // All is on this thread: whoever is asked here moves.
            let beat = Cell::new(0);
            let beats = || vec![beat.replace(beat.get() + 1)];
            ready();
            tokio::select! {
                () = stop => {}
                () = idle(&server, options.idle_stop) => {
                    tracing::info!("nobody is connected: stopping until somebody is");
                }
                () = crate::systemd::watchdog::run(beats) => {}
            }
            accepting.iter().for_each(tokio::task::JoinHandle::abort);
            server.stopping.send_replace(true);
            let deadline = Instant::now() + LAST_REPLIES;
            while server.info.connections.get() > 0 && Instant::now() < deadline {
                sleep(Duration::from_millis(5)).await;
            }
            work.abort();
            io::Result::Ok(())
        })
        .await?;
    drop(tasks); // with every task that still holds the server
    let handovers = server.handovers.take();
    match Rc::try_unwrap(server) {
        Ok(server) => server.store.into_inner().close(),
        Err(server) => {
            // A task that outlives its set cannot be; the log is written all the same.
            let _ = server.store.borrow_mut().write_log();
        }
    }
    Ok(handovers)
}

async fn accept_unix(server: Rc<Server>, listener: UnixListener) {
    accept_all(|cx, known| {
        let (stream, _) = ready!(listener.poll_accept(cx))?;
        let identity = server.trust.identify(&stream, known);
        start(&server, stream, identity, "unix".to_owned());
        Poll::Ready(Ok(()))
    })
    .await;
}

async fn accept_tcp(server: Rc<Server>, listener: TcpListener) {
    accept_all(|cx, _| {
        let (stream, address) = ready!(listener.poll_accept(cx))?;
        let _ = stream.set_nodelay(true);
        start(&server, stream, Ok(Identity::Remote), address.to_string());
        Poll::Ready(Ok(()))
    })
    .await;
}

/// Accepts without a pause: the kernel's queue of those who wait is everybody's, and who finds it full is
/// turned away, whoever has filled it. What a namespace may have is known only behind it.
async fn accept_all(
    mut accept: impl FnMut(&mut Context<'_>, &mut Acquaintances) -> Poll<io::Result<()>>,
) {
    loop {
        let turn = poll_fn(|cx| {
            let mut known = Acquaintances::default();
            for _ in 0..AT_ONCE {
                ready!(accept(cx, &mut known))?;
                if known.are_many() {
                    break;
                }
            }
            Poll::Ready(Ok(()))
        });
        match unconstrained(turn).await {
            Ok(()) => yield_now().await,
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

fn start<S: Stream>(
    server: &Rc<Server>,
    stream: S,
    identity: Result<Identity, String>,
    address: String,
) {
    let info = &server.info;
    info.accepted.set(info.accepted.get() + 1);
    let refusal = match identity {
        Ok(identity) => {
            let id = server.next_id.replace(server.next_id.get() + 1);
            let client = Client::new(id, identity, address, super::now());
            if server.seats.change(&Holder::of(&client), 0, 1) {
                return run(server, stream, client, Vec::new());
            }
            connection::NO_SEAT.to_owned()
        }
        Err(reason) => {
            if let Some(left_out) = server.refusals.may_write(REFUSALS, Duration::from_secs(1)) {
                tracing::warn!(reason, left_out, "a connection was refused");
            }
            format!("NOPERM {reason}")
        }
    };
    info.refused.set(info.refused.get() + 1);
    refusal::refuse(server, stream, &refusal);
}

/// Goes on with a connection of the process before.
fn resume(server: &Rc<Server>, Handover { socket, memento, input }: Handover) {
    let stream = std::os::unix::net::UnixStream::from(socket);
    let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    match stream {
        Ok(stream) => {
            let id = server.next_id.replace(server.next_id.get() + 1);
            let client = Client::from_memento(id, memento);
            if server.seats.change(&Holder::of(&client), 0, 1) {
                run(server, stream, client, input);
            }
        }
        Err(error) => tracing::warn!(%error, "cannot go on with a connection"),
    }
}

/// Serves a client that has a seat.
fn run<S: Stream>(server: &Rc<Server>, stream: S, client: Client, input: Vec<u8>) {
    server.info.connections.set(server.info.connections.get() + 1);
    let server = Rc::clone(server);
    spawn_local(async move {
        let holder = connection::run(&server, stream, client, input).await;
        server.seats.change(&holder, 1, 0);
        server.info.connections.set(server.info.connections.get() - 1);
        server.left.notify_one();
    });
}

/// Expiry, eviction and retries: every 100 ms while there is something of them to do, and when there is
/// not, at the next expiry or change. An idle store does not wake up.
async fn regular_work(server: Rc<Server>) {
    let failed = server.store.borrow().sync_failed();
    loop {
        let began = Instant::now();
        let mut more = true;
        while more && began.elapsed() < SWEEP_TIME {
            more = work_step(&mut server.store.borrow_mut());
            tokio::task::yield_now().await;
        }
        let now = super::now();
        let next = if more { Some(now) } else { server.store.borrow().next_work(now) };
        let rest = next.map(|at| Duration::from_millis(at.saturating_sub(now)));
        server.resting.set(true);
        tokio::select! {
            () = async {
                match rest {
                    Some(rest) => sleep(rest).await,
                    None => std::future::pending().await,
                }
            } => {}
            () = server.changed.notified() => {}
            () = failed.notified() => {}
        }
        server.resting.set(false);
        sleep_until(began + TICK).await;
    }
}

/// One step of the regular work; true when there is more to do at once.
fn work_step(store: &mut Store) -> bool {
    let may_write = store.check_writable().is_ok() && !store.is_stalled();
    let mut more = may_write
        && store.sweep(super::now(), SWEEP_STEP).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot remove expired entries");
            false
        });
    // What a lower `max-size` or a burst has left over.
    store.work().begin();
    if may_write {
        match store.evict(SWEEP_STEP) {
            Ok(left) => more |= left && store.is_beyond_size() && !store.is_checkpoint_running(),
            Err(error) => tracing::error!(%error, "cannot evict entries"),
        }
    }
    store.end_record();
    let _ = store.write_log(); // it has said so itself
    store.tick();
    more
}

async fn take_outcomes(server: Rc<Server>) {
    let Some(mut outcomes) = server.store.borrow_mut().outcomes() else { return };
    while let Some(outcome) = outcomes.recv().await {
        server.store.borrow_mut().checkpointed(outcome);
        server.flushed.notify_waiters();
        server.note_change();
        while server.store.borrow_mut().settle_some(SETTLE_STEP) {
            tokio::task::yield_now().await;
        }
    }
}

async fn look_at_sockets(server: Rc<Server>) {
    server.turns.look_at_sockets().await;
}

/// Completes when nobody has been connected for this long.
async fn idle(server: &Server, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        while server.info.connections.get() > 0 {
            server.left.notified().await;
        }
        let seen = server.info.accepted.get();
        sleep(limit).await;
        if server.info.connections.get() == 0 && server.info.accepted.get() == seen {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::SessionSync;
    use crate::session::store;

    /// So that one app's storm leaves room in the queue for another one's connection.
    #[tokio::test]
    async fn all_that_wait_are_accepted_in_one_turn_and_too_many_are_refused_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let options = store::Options {
            directory: directory.path().to_owned(),
            sync: SessionSync::EverySecond,
            max_size: u64::MAX,
            memory: 1024 * 1024,
        };
        let (store, _problems) = Store::open(options).unwrap();
        let info = ServerInfo { max_connections: 100, ..ServerInfo::default() };
        let server = Rc::new(Server::new(store, info));
        let path = directory.path().join("socket");
        let listener = StdUnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 400).unwrap();
        listener.set_nonblocking(true).unwrap();
        let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
        let waiting: Vec<_> = (0..400).map(|_| connect()).collect();
        LocalSet::new()
            .run_until(async {
                let listener = UnixListener::from_std(listener).unwrap();
                let accepting = spawn_local(accept_unix(Rc::clone(&server), listener));
                let began = server.info.accepted.get();
                while server.info.accepted.get() == began {
                    yield_now().await;
                }
                assert_eq!(server.info.accepted.get(), 400);
                assert_eq!(server.info.refused.get(), 300);
                assert_eq!(server.refusing.get(), 64, "so many are told why");
                accepting.abort();
            })
            .await;
        drop(waiting);
    }
}
