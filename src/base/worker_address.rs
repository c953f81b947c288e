//! Connecting to the TCP address of a worker.
//!
//! Anybody may listen there once the worker does not: it has crashed, or closes its listener to open it
//! again. Whoever asks who listens there, before connecting or after, leaves a moment in which that was
//! somebody else. What cannot change is the connection: the kernel keeps its far end, from the first
//! moment on, in the control group of the listener that took it, whoever accepts it and whatever becomes
//! of the listener. So the question is, before a byte is sent, in whose group the far end of this very
//! connection is; and a group is a unit, which no other user, and no other app of the same user, is in.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::control_groups;
use super::own_port;
use super::sock_diag::{Diag, Question, Socket, State};
use super::unit::{self, Instance};
use super::want;

/// How often a connection is asked for that the kernel does not find: it looks for one without a lock,
/// and may miss one that is about to become another's kind.
const TRIES: usize = 3;

/// Where systemd's control groups begin, once it is known that the kernel says what is asked here.
static GROUPS: OnceLock<PathBuf> = OnceLock::new();

/// Whether it could not be found out so far for want of ports or descriptors.
static UNKNOWN: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Each thread has a way of its own: another's answers would come in between.
    static DIAG: RefCell<Option<Diag>> = const { RefCell::new(None) };
}

/// A worker that listens on TCP, or for whom systemd does.
#[derive(Debug)]
pub(crate) struct Worker {
    service: String,
}

/// Whose the far end of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The worker's, or that of systemd, which listens for it.
    Workers,
    Others,
    /// Nobody has it: it has been reset.
    Nobodys,
}

/// From here on nobody is connected to in the place of a worker. Without a call of this, and outside of
/// the front's unit, whoever listens is believed.
///
/// # Errors
/// When the kernel does not say whose a connection is: then whoever listens is believed. Where there was
/// only nothing to ask with, as somebody had taken all ports, nobody is: it is asked again before the next
/// connection to a worker.
pub(crate) fn ask_whose() -> io::Result<()> {
    let asked = try_to_ask();
    let unknown = asked.as_ref().is_err_and(is_passing);
    UNKNOWN.store(unknown, Ordering::Relaxed);
    if unknown { Err(Errno::ADDRNOTAVAIL.into()) } else { asked }
}

fn try_to_ask() -> io::Result<()> {
    // Without systemd workers are in no unit, either.
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let Some((groups, own)) = control_groups::around(&own, unit::FRONT) else { return Ok(()) };
    let (listener, stream) = own_port::loop_back()?;
    let (near, far) = (stream.local_addr()?, listener.local_addr()?);
    is_told(ask(near, far)?.1, fs::metadata(own)?.ino())?;
    let _ = GROUPS.set(groups);
    Ok(())
}

/// Whether the kernel has said of the far end of a connection of this process in whose group it is.
fn is_told(end: Option<Socket>, own: u64) -> io::Result<()> {
    match end {
        Some(Socket { state: State::Other, group, .. }) if group == Some(own) => Ok(()),
        Some(Socket { state: State::Other, .. }) => {
            Err(io::Error::other("the kernel does not say in which control group a socket is"))
        }
        // Its last step is not done yet: of a connection to a worker that is asked again, too.
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether others, or the moment, can bring this about. That the kernel does not say anything is said in other
/// words.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, ConnectionRefused, ConnectionReset, TimedOut};
    want::is_ours(error)
        || matches!(error.kind(), AddrInUse | ConnectionRefused | ConnectionReset | TimedOut)
}

/// From here on there is a port for connections to workers when the machine has no other: the one that an
/// `earlier` process of the front has kept by this socket, or else another one. Returns the socket, for the next
/// process.
///
/// # Errors
/// When none is free.
pub(crate) fn keep_port(earlier: Option<OwnedFd>) -> io::Result<BorrowedFd<'static>> {
    own_port::keep(earlier)
}

/// From where the front connects to workers over TCP.
pub(crate) fn near_addresses() -> impl Iterator<Item = Ipv4Addr> {
    own_port::addresses()
}

/// Connects to where a worker listens, or to another server.
///
/// # Errors
/// As for any connection, and when somebody else listens in the worker's place: that is
/// [`io::ErrorKind::PermissionDenied`].
pub(crate) async fn connect(address: SocketAddr, worker: Option<&Worker>) -> io::Result<TcpStream> {
    if worker.is_some()
        && UNKNOWN.load(Ordering::Relaxed)
        && let Err(error) = ask_whose()
        && UNKNOWN.load(Ordering::Relaxed)
    {
        return Err(error);
    }
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => own_port::connect_instead(error, address).await?,
    };
    if let (Some(worker), Some(groups)) = (worker, GROUPS.get()) {
        let near = stream.local_addr()?;
        let is_workers = |group| control_groups::is_of_worker(groups, &worker.service, group);
        check(near, address, is_workers).await?;
    }
    Ok(stream)
}

/// Whether so many bytes that were sent to a server of this machine wait there for somebody to read them: in the
/// queue of a listener, perhaps, that outlives its worker.
pub(crate) fn is_unread(stream: &TcpStream, sent: usize) -> bool {
    let (Ok(near), Ok(far)) = (stream.local_addr(), stream.peer_addr()) else { return false };
    let unread = |end: Socket| match end.state {
        State::Request => true, // its listener waits for its first bytes
        State::Listener => false,
        State::Other => usize::try_from(end.unread).is_ok_and(|unread| unread >= sent),
    };
    ask(near, far).is_ok_and(|(_, end)| end.is_some_and(unread))
}

async fn check(
    near: SocketAddr,
    far: SocketAddr,
    is_workers: impl Fn(u64) -> bool,
) -> io::Result<()> {
    for _ in 0..TRIES {
        let (listener, end) = ask(near, far)?;
        match whose(listener, end, &is_workers) {
            Whose::Workers => return Ok(()),
            Whose::Others => {
                let text = "what listens there is no process of this worker";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            Whose::Nobodys => yield_now().await,
        }
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

/// Who listens there, and after that who has the far end.
fn ask(near: SocketAddr, far: SocketAddr) -> io::Result<(Option<Socket>, Option<Socket>)> {
    DIAG.with_borrow_mut(|diag| {
        let diag = match diag {
            Some(diag) => diag,
            None => diag.insert(Diag::open()?),
        };
        let questions = [Question::Listener(far), Question::FarEnd { near, far }];
        let [listener, end] = diag.ask(questions)?;
        Ok((listener, end))
    })
}

/// `listener` was there before `end` was.
///
/// A listener may have the kernel wait for a connection's first bytes (`TCP_DEFER_ACCEPT`): until then
/// there is a request, which has no group. But only its own listener gets those bytes, and only if it
/// listens still; then it did a moment ago, and there is but one at an address, or several of one user
/// and one kind (`SO_REUSEPORT`).
fn whose(listener: Option<Socket>, end: Option<Socket>, is_workers: impl Fn(u64) -> bool) -> Whose {
    let group = match end {
        None | Some(Socket { state: State::Listener, .. }) => return Whose::Nobodys,
        Some(Socket { state: State::Request, .. }) => listener.and_then(|socket| socket.group),
        Some(Socket { state: State::Other, group, .. }) => group,
    };
    let Some(group) = group else { return Whose::Nobodys };
    // systemd's sockets are root's, in whatever group it has made them.
    let is_systemds = listener.is_some_and(|it| it.uid == 0 && it.group == Some(group));
    if is_systemds || is_workers(group) { Whose::Workers } else { Whose::Others }
}

// === impl Worker ===

impl Worker {
    /// The worker of this name (`shop:1`), if it is one's.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let Instance { app, number } = name.parse().ok()?;
        Some(Self { service: unit::service(&app, number) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const WORKER: u64 = 7;
    const STRANGER: u64 = 8;
    const SYSTEMD: u64 = 1;

    fn socket(state: State, uid: u32, group: Option<u64>) -> Socket {
        let address = SocketAddr::from(([127, 64, 0, 1], 7080));
        Socket { state, address, unread: 0, uid, inode: 0, group }
    }

    fn is_whose(listener: impl Into<Option<Socket>>, end: impl Into<Option<Socket>>) -> Whose {
        whose(listener.into(), end.into(), |group| group == WORKER)
    }

    #[test]
    fn the_far_end_decides_and_not_who_listens_by_now() {
        let listens = |group| socket(State::Listener, 1000, Some(group));
        let end = |group| socket(State::Other, 0, Some(group));
        assert_eq!(is_whose(listens(WORKER), end(WORKER)), Whose::Workers);
        assert_eq!(is_whose(None, end(WORKER)), Whose::Workers, "it has closed its listener");
        assert_eq!(is_whose(listens(STRANGER), end(WORKER)), Whose::Workers, "taken since");
        assert_eq!(is_whose(listens(STRANGER), end(STRANGER)), Whose::Others);
        assert_eq!(is_whose(listens(WORKER), end(STRANGER)), Whose::Others, "given back since");
        assert_eq!(is_whose(None, end(STRANGER)), Whose::Others, "it connected to us as we to it");
        // Nobody has it any more, though somebody listens.
        assert_eq!(is_whose(listens(WORKER), listens(WORKER)), Whose::Nobodys);
        assert_eq!(is_whose(listens(WORKER), None), Whose::Nobodys);
        assert_eq!(is_whose(listens(WORKER), socket(State::Other, 0, None)), Whose::Nobodys);
    }

    #[test]
    fn a_connection_that_is_not_made_yet_says_nothing_of_the_kernel() {
        let end = |state, group| Some(socket(state, 0, group));
        assert!(is_told(end(State::Other, Some(WORKER)), WORKER).is_ok());
        for early in [end(State::Request, None), end(State::Listener, Some(WORKER)), None] {
            let error = is_told(early, WORKER).unwrap_err();
            assert!(is_passing(&error), "it is asked again");
        }
        let error = is_told(end(State::Other, None), WORKER).unwrap_err();
        assert!(!is_passing(&error), "it cannot be asked");
        for cannot in [Errno::PERM, Errno::AFNOSUPPORT, Errno::OPNOTSUPP, Errno::PROTONOSUPPORT] {
            assert!(!is_passing(&cannot.into()), "{cannot}");
        }
    }

    #[test]
    fn a_request_is_its_listeners() {
        let request = socket(State::Request, 0, None);
        let listens = |group| socket(State::Listener, 1000, Some(group));
        assert_eq!(is_whose(listens(WORKER), request), Whose::Workers);
        assert_eq!(is_whose(listens(STRANGER), request), Whose::Others);
        assert_eq!(is_whose(None, request), Whose::Nobodys);
    }

    #[test]
    fn systemd_listens_for_workers_and_nobody_else_does() {
        let systemds = socket(State::Listener, 0, Some(SYSTEMD));
        let end = |group| socket(State::Other, 1000, Some(group));
        assert_eq!(is_whose(systemds, end(SYSTEMD)), Whose::Workers);
        assert_eq!(is_whose(systemds, end(STRANGER)), Whose::Others);
        assert_eq!(
            is_whose(socket(State::Listener, 1000, Some(SYSTEMD)), end(SYSTEMD)),
            Whose::Others
        );
    }

    #[tokio::test]
    async fn a_connection_is_of_the_group_of_whoever_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = listener.local_addr().unwrap();
        let stream = TcpStream::connect(far).await.unwrap();
        let near = stream.local_addr().unwrap();
        let own = ask(near, far).unwrap().1.unwrap().group;
        check(near, far, |group| Some(group) == own).await.unwrap();
        if !rustix::process::geteuid().is_root() {
            let error = check(near, far, |_| false).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        drop((listener, stream));
        let error = check(near, far, |_| true).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // Without `ask_whose` whoever listens is believed.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = Worker::named("shop:1");
        assert!(worker.is_some() && Worker::named("127.0.0.1:80").is_none());
        connect(listener.local_addr().unwrap(), worker.as_ref()).await.unwrap();
    }
}
