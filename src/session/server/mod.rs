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

use rustix::fs::OFlags;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{LocalSet, coop::unconstrained, spawn_local, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::command::{Client, Identity, ServerInfo};
use super::namespace::Acquaintances;
use super::store::Store;

use handover::{Handover, Legacy};
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

/// How the service stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Another process goes on at once.
    Restart,
    /// Nobody knows what comes, or whether the machine stays on.
    ForGood,
}

/// How often regular work is done.
const TICK: Duration = Duration::from_millis(100);
/// Index entries that one step of the sweep looks at.
const SWEEP_STEP: usize = 200;
/// What a tick may spend on sweeping, out of its 100 ms.
const SWEEP_TIME: Duration = Duration::from_millis(10);
/// Entries that are moved to the cache in one step, between the turns of clients.
const SETTLE_STEP: usize = 200;
/// What connections have to let go when the service stops: none of them waits for anything then.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are accepted before others have their turn, if few processes make them: in some ten
/// milliseconds.
const AT_ONCE: usize = 1024;
/// Refusals a second that the journal hears of.
const REFUSALS: u32 = 5;
/// After an `accept` that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` completes, or until nobody has been connected for `idle_stop`. `ready` is
/// called when clients are served. Returns what the next process can go on with.
pub(crate) async fn serve(
    store: Store,
    listeners: Vec<Listener>,
    options: Options,
    ready: impl FnOnce(),
    stop: impl Future<Output = Stop>,
) -> io::Result<Legacy> {
    let server = Rc::new(Server::new(store, options.info));
    let tasks = LocalSet::new();
    let stop = tasks
        .run_until(async {
            let over_tcp = listeners.iter().any(|listener| matches!(listener, Listener::Tcp(_)));
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
                if is_welcome(&server, &handover, over_tcp) {
                    resume(&server, handover);
                }
            }
            spawn_local(take_outcomes(Rc::clone(&server)));
            spawn_local(look_at_sockets(Rc::clone(&server)));
            let work = spawn_local(regular_work(Rc::clone(&server)));
            // All is on this thread: whoever is asked here moves.
            let beat = Cell::new(0);
            let beats = || vec![beat.replace(beat.get() + 1)];
            ready();
            let stop = tokio::select! {
                stop = stop => stop,
                () = idle(&server, options.idle_stop) => {
                    tracing::info!("nobody is connected: stopping until somebody is");
                    Stop::ForGood
                }
                () = crate::systemd::watchdog::run(beats) => Stop::ForGood,
            };
            accepting.iter().for_each(tokio::task::JoinHandle::abort);
            server.stop();
            let all_left = async {
                while server.info.connections.get() > 0 {
                    server.left.notified().await;
                }
            };
            let _ = timeout(PATIENCE, all_left).await;
            work.abort();
            io::Result::Ok(stop)
        })
        .await?;
    drop(tasks); // with every task that still holds the server
    let mut connections = server.handovers.take();
    let mut file = None;
    let is_safe = match Rc::try_unwrap(server) {
        Ok(server) => {
            let store = server.store.into_inner();
            file = store.file_mark();
            match stop {
                Stop::ForGood => store.close(),
                Stop::Restart => store.leave(),
            }
        }
        // A task that outlives its set cannot be; the log is written all the same.
        Err(server) => server.store.borrow_mut().write_log().is_ok(),
    };
    connections.retain(|connection| is_safe || !connection.is_unsafe);
    Ok(Legacy { connections, file })
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
                return run(server, stream, client, Default::default());
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

/// Whether a connection of the process before would still be let in: over TCP the settings may say something
/// else now.
fn is_welcome(server: &Server, handover: &Handover, over_tcp: bool) -> bool {
    let memento = &handover.memento;
    let password = server.info.passwords.get(memento.namespace());
    (over_tcp || !memento.is_remote())
        && (!memento.is_of_password() || password == handover.password.as_ref())
}

/// Goes on with a connection of the process before.
fn resume(server: &Rc<Server>, handover: Handover) {
    let Handover { socket, memento, input, output, .. } = handover;
    let id = server.next_id.replace(server.next_id.get() + 1);
    let is_remote = memento.is_remote();
    let client = Client::from_memento(id, memento, &mut server.store.borrow_mut());
    if !server.seats.change(&Holder::of(&client), 0, 1) {
        return;
    }
    let holder = Holder::of(&client);
    let resumed = rustix::fs::fcntl_getfl(&socket)
        .and_then(|flags| rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK))
        .map_err(io::Error::from)
        .and_then(|()| {
            if is_remote {
                let stream = TcpStream::from_std(socket.into())?;
                run(server, stream, client, (input, output));
            } else {
                let stream = UnixStream::from_std(socket.into())?;
                run(server, stream, client, (input, output));
            }
            Ok(())
        });
    if let Err(error) = resumed {
        tracing::warn!(%error, "cannot go on with a connection");
        server.seats.change(&holder, 1, 0);
    }
}

/// Serves a client that has a seat, with what is there of its requests and replies.
fn run<S: Stream>(server: &Rc<Server>, stream: S, client: Client, begun: (Vec<u8>, Vec<u8>)) {
    server.info.connections.set(server.info.connections.get() + 1);
    let server = Rc::clone(server);
    spawn_local(async move {
        let holder = connection::run(&server, stream, client, begun).await;
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
            verified: None,
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
