//! Accepting: thread 0 takes connections in batches and hands them round.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustix::process::{Resource, getrlimit};
use tracing::{info, warn};

use super::batch::{Accepted, Batch, Source};
use super::begin::begin;
use super::links::{Links, Share};
use super::listener::{Listener, Socket};
use crate::base::limiter::Limiter;
use crate::config::settings::HandOff;
use crate::front::Reason;
use crate::handoff::Handing;
use crate::proxy::local::{About, Local};

/// Connections that are taken before they are handed round: few enough that the first does not
/// wait, enough that a burst wakes each thread once.
const BATCH: usize = 64;
/// How long to wait when the process has no descriptor left, or as many connections as it may.
const FULL: Duration = Duration::from_millis(50);
/// One of so many descriptors is no client's.
const KEPT_BACK: u64 = 8;
/// How often it is said that accepting fails, which it does again and again then.
const EVERY: Duration = Duration::from_mins(1);

/// Accepts from one listener until told to stop.
pub(super) async fn run(local: Rc<Local>, listener: Listener, links: Rc<Links>) {
    let name = listener.name;
    let (socket, source) = match listener.socket {
        Socket::Tcp(socket) => {
            // The kernel wakes us when the request is there, not when the handshake is. After a
            // second a client that says nothing is handed over all the same.
            // Where whole connections are handed on, it may be the server that speaks first.
            let handed = local.snapshot().settings.handed(&name).is_some();
            if !handed && let Err(error) = crate::sys::set_defer_accept(&socket, 1) {
                info!("listener {name}: accepts are not deferred: {error}");
            }
            // Accepted connections inherit it.
            if let Err(error) = rustix::net::sockopt::set_tcp_nodelay(&socket, true) {
                info!("listener {name}: TCP_NODELAY: {error}");
            }
            let port = socket.local_addr().ok().map(|a| a.port());
            (OwnedFd::from(socket), Source { name: name.clone(), port, unix: false })
        }
        Socket::Unix(socket) => {
            (OwnedFd::from(socket), Source { name: name.clone(), port: None, unix: true })
        }
    };
    let source = Arc::new(source);
    let socket = match crate::sys::watch(socket) {
        Ok(socket) => socket,
        Err(error) => return warn!("listener {name} cannot be watched: {error}"),
    };
    let mut next = 0;
    let mut handoff: Option<Handing> = None;
    let failures = Limiter::new();
    let most = room_for_clients();
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        loop {
            let limits = &local.snapshot().settings.front.limits;
            let room = limits.connections.min(most).saturating_sub(links.open());
            if room == 0 {
                if !somebody_waits(socket.get_ref()) {
                    ready.clear_ready();
                    break;
                }
                // Who has been served has had his turn.
                local.deadlines.tick();
                links.crowded(local.deadlines.now());
                // What waits in the backlog is served later; what is accepted and closed is not.
                tokio::time::sleep(FULL).await;
                continue;
            }
            let snapshot = local.snapshot();
            let owner = snapshot.settings.handed(&name);
            if handoff.as_ref().map(Handing::app) != owner {
                handoff = owner.map(|app| Handing::start(&local.front, &local.counters, app));
            }
            let room = handoff.as_ref().map_or(room, |handoff| handoff.room().min(room));
            if room == 0 {
                tokio::time::sleep(FULL).await;
                continue;
            }
            let (batch, end) = take(socket.get_ref(), room.min(BATCH));
            if let Some(handoff) = &handoff {
                for accepted in batch {
                    handoff.take(accepted.socket);
                }
            } else {
                let share = Share {
                    of: limits.connections.min(most),
                    each: limits.connections_per_client,
                    trusted: &snapshot.settings.front.trusted_proxies,
                };
                let refuse = |peer| {
                    let about = About { client: Some(peer), ..About::default() };
                    local.refused(Reason::TooManyConnections, &about);
                };
                let batch = links.admit(batch, &share, refuse);
                hand_round(&local, &links, batch, &source, &mut next);
            }
            match end {
                End::More => tokio::task::yield_now().await,
                End::Empty => {
                    ready.clear_ready();
                    break;
                }
                End::Failed(error) => {
                    if let Some(more) = failures.may_write(1, EVERY) {
                        warn!("listener {name}: accepting failed ({more} times more): {error}");
                    }
                    tokio::time::sleep(FULL).await;
                }
            }
        }
    }
}

/// Clients that there are descriptors for, when some are kept back for servers and for whoever looks
/// after the front.
fn room_for_clients() -> usize {
    let all = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(all - all / KEPT_BACK).unwrap_or(usize::MAX)
}

/// Whether there is a connection to accept.
fn somebody_waits(socket: &OwnedFd) -> bool {
    let mut listener = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut listener, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

/// Why a batch ended.
enum End {
    More,
    Empty,
    Failed(io::Error),
}

fn take(socket: &OwnedFd, most: usize) -> (Vec<Accepted>, End) {
    // Accepting until nobody is left costs a try that fails, for which the kernel makes a socket and
    // throws it away: asking how many there are is much cheaper. Who comes later wakes us anew.
    let waiting = crate::sys::waiting_connections(socket);
    let count = waiting.unwrap_or(most).min(most);
    let mut batch = Vec::with_capacity(count);
    while batch.len() < count {
        match acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((socket, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                batch.push(Accepted { socket, peer });
            }
            Err(Errno::AGAIN) => return (batch, End::Empty),
            // The client gave up between its handshake and now.
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO | Errno::PERM) => {}
            Err(error) => return (batch, End::Failed(error.into())),
        }
    }
    (batch, if waiting == Some(count) { End::Empty } else { End::More })
}

/// Hands a batch round: one message and one wake-up for each thread that gets any of it, and none
/// for this one.
fn hand_round(
    local: &Rc<Local>,
    links: &Links,
    batch: Vec<Accepted>,
    source: &Arc<Source>,
    next: &mut usize,
) {
    if batch.is_empty() {
        return;
    }
    let threads = links.len();
    if threads == 1 {
        local.counters.connections.open(batch.len());
        return begin(
            local,
            Batch { connections: batch, source: Arc::clone(source) },
            &links.leave,
        );
    }
    let mut shares: Vec<Vec<Accepted>> = (0..threads).map(|_| Vec::new()).collect();
    let least = local.snapshot().settings.front.threads.hand_off == HandOff::LeastConnections;
    let mut open = if least { links.open_each() } else { Vec::new() };
    for accepted in batch {
        let thread = if least {
            let fewest = (0..threads).min_by_key(|t| open[*t]).unwrap_or(0);
            open[fewest] += 1;
            fewest
        } else {
            *next = (*next + 1) % threads;
            *next
        };
        shares[thread].push(accepted);
    }
    let own =
        Batch { connections: std::mem::take(&mut shares[local.index]), source: Arc::clone(source) };
    for (thread, connections) in shares.into_iter().enumerate() {
        if !connections.is_empty() {
            links.hand(thread, Batch { connections, source: Arc::clone(source) });
        }
    }
    if !own.connections.is_empty() {
        local.counters.connections.open(own.connections.len());
        begin(local, own, &links.leave); // last: the others need not wait for it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_who_waits_and_knows_whether_more_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address)).collect();
        assert!(clients.iter().all(Result::is_ok));
        let socket = OwnedFd::from(listener);
        while crate::sys::waiting_connections(&socket).unwrap() < 3 {
            std::thread::yield_now(); // the last handshake may still be under way
        }
        let (batch, end) = take(&socket, 2);
        assert!(batch.len() == 2 && matches!(end, End::More));
        assert!(somebody_waits(&socket));
        let (batch, end) = take(&socket, 2);
        assert!(batch.len() == 1 && matches!(end, End::Empty));
        assert!(!somebody_waits(&socket));
        let (batch, end) = take(&socket, 2);
        assert!(batch.is_empty() && matches!(end, End::Empty));
    }

    #[test]
    fn of_a_unix_socket_it_finds_out_by_trying() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let client = std::os::unix::net::UnixStream::connect(&path);
        assert!(client.is_ok());
        let socket = OwnedFd::from(listener);
        assert_eq!(crate::sys::waiting_connections(&socket), None);
        let (batch, end) = take(&socket, 2);
        assert!(batch.len() == 1 && matches!(end, End::Empty));
    }
}
