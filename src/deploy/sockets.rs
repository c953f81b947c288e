//! Whether systemd holds the listeners of workers: what it says of a socket's unit is not all. When its
//! drop-in is not there at a `daemon-reload`, or `/run` is full, a unit goes on being "active" without a
//! descriptor. The worker that runs has inherited one; the next one would get none.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::Path;

use crate::base::unit::{self, Instance};
use crate::config::settings::App;
use crate::systemd::dbus::{Systemd, SystemdError, Unit, UnitState, Verb};

/// The listeners that systemd's process holds, as the kernel sees it; `None` where we may not look.
#[derive(Debug, Default)]
pub(crate) struct Held(Option<HashSet<String>>);

/// What is wrong with the socket of a worker that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SocketFault {
    /// Its unit is not active.
    #[error("runs without its socket, whose unit is {}", .0.word())]
    Down(UnitState),
    /// Its unit is active and has nothing.
    #[error("runs with a socket that systemd has lost")]
    Lost,
}

// === impl Held ===

impl Held {
    /// As it is now. One way for every command: root sees it, also from a network of its own.
    pub(crate) async fn now(systemd: &Systemd) -> Self {
        let Some(process) = systemd.process().await else { return Self(None) };
        Self(held_by(&Path::new("/proc").join(process.to_string())).ok())
    }

    /// Whether it is known that systemd does not hold this, as `Listen=` of a socket's unit has it.
    fn lacks(&self, address: &str) -> bool {
        self.0.as_ref().is_some_and(|held| !held.contains(address))
    }
}

/// Every address and path that a process listens on.
fn held_by(process: &Path) -> io::Result<HashSet<String>> {
    let sockets = sockets_of(process)?;
    let mut held = HashSet::new();
    // The kernel names listeners first, before all the connections.
    for (address, number) in lines(process, "tcp")?.map_while(|line| tcp_listener(&line)) {
        if sockets.contains_key(&number) {
            held.insert(address.to_string());
        }
    }
    for (path, number) in lines(process, "unix")?.filter_map(|line| unix_listener(&line)) {
        if sockets.contains_key(&number) {
            held.insert(path);
        }
    }
    Ok(held)
}

/// The descriptors with which a process may listen at a path. A path may have a line's end in it, and anybody may
/// bind one: whoever takes a descriptor looks what it is.
pub(super) fn listeners_of(process: &Path, at: &Path) -> io::Result<Vec<RawFd>> {
    let sockets = sockets_of(process)?;
    let listeners = lines(process, "unix")?.filter_map(|line| unix_listener(&line));
    let there = listeners.filter(|(path, _)| Path::new(path) == at);
    Ok(there.filter_map(|(_, number)| sockets.get(&number).copied()).collect())
}

/// The sockets of a process, by the number that the kernel has for each, and their descriptors.
fn sockets_of(process: &Path) -> io::Result<HashMap<String, RawFd>> {
    let mut sockets = HashMap::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        let Ok(target) = fs::read_link(entry.path()) else { continue }; // it was closed
        let number = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
        let descriptor = entry.file_name().to_str().and_then(|name| name.parse().ok());
        sockets.extend(number.map(str::to_owned).zip(descriptor));
    }
    Ok(sockets)
}

/// What the kernel says of the sockets in a process's network, which need not be ours.
fn lines(process: &Path, of: &str) -> io::Result<impl Iterator<Item = String>> {
    let file = File::open(process.join("net").join(of))?;
    // Anybody may bind a path that is no text.
    let lines = BufReader::new(file).split(b'\n').skip(1).map_while(Result::ok);
    Ok(lines.map(|line| String::from_utf8_lossy(&line).into_owned()))
}

/// The address and the socket of a line of `/proc/PID/net/tcp`; `None` when it is no listener.
fn tcp_listener(line: &str) -> Option<(SocketAddr, String)> {
    const LISTENS: &str = "0A";
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (&local, &state, &number) = (words.get(1)?, words.get(3)?, words.get(9)?);
    let (address, port) = local.split_once(':').filter(|_| state == LISTENS)?;
    // As the kernel has it in its memory, written as a number.
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(((Ipv4Addr::from(address), port).into(), number.to_owned()))
}

/// The path and the socket of a line of `/proc/PID/net/unix`; `None` when it is no listener.
fn unix_listener(line: &str) -> Option<(String, String)> {
    /// `__SO_ACCEPTCON`.
    const LISTENS: u32 = 1 << 16;
    let mut words = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
    let number = words.nth(2)?.to_owned();
    let path = words.next().filter(|_| flags & LISTENS != 0)?;
    Some((path.to_owned(), number))
}

// === what there is to do ===

/// What is wrong with the socket of a worker that runs; `None` when nothing is, as far as can be seen.
pub(crate) fn fault(held: &Held, socket: &Unit) -> Option<SocketFault> {
    match socket.state() {
        UnitState::Active => {
            let lost = socket.listens_on().iter().any(|address| held.lacks(address));
            lost.then_some(SocketFault::Lost)
        }
        // Somebody is at it.
        UnitState::Activating | UnitState::Deactivating => None,
        state => Some(SocketFault::Down(state)),
    }
}

/// What is wrong with the socket of a worker of an app, if it is to have one.
pub(crate) async fn look(
    systemd: &Systemd,
    held: &Held,
    app: &App,
    number: u16,
) -> Result<Option<SocketFault>, SystemdError> {
    if !app.has_socket() {
        return Ok(None);
    }
    Ok(fault(held, &systemd.unit(&unit::socket(&app.name, number)).await?))
}

/// What is wrong with the sockets of all workers that run.
pub(crate) async fn all_faults(
    systemd: &Systemd,
) -> Result<Vec<(Instance, SocketFault)>, SystemdError> {
    let held = Held::now(systemd).await;
    let mut faults = Vec::new();
    for (socket, state) in systemd.loaded(unit::ALL_SOCKETS).await? {
        let Some(worker) = Instance::of_socket(&socket) else { continue };
        let service = unit::service(&worker.app, worker.number);
        if state == UnitState::Inactive || systemd.state(&service).await? != UnitState::Active {
            continue;
        }
        if let Some(fault) = fault(&held, &systemd.unit(&socket).await?) {
            faults.push((worker, fault));
        }
    }
    Ok(faults)
}

/// Has the next start of a worker get the socket that its app's file says: what is wrong with it now is
/// taken away, and so is one at another address. A service that runs is stopped for that, since systemd
/// opens no socket for one.
pub(crate) async fn mend(systemd: &Systemd, app: &App, number: u16) -> Result<(), SystemdError> {
    let (service, socket) = (unit::service(&app.name, number), unit::socket(&app.name, number));
    let ended = |state| matches!(state, UnitState::Inactive | UnitState::Failed);
    if !app.has_socket() {
        // It may have had one before its file changed.
        return match systemd.state(&socket).await? {
            state if ended(state) => Ok(()),
            _ => systemd.job(Verb::Stop, &socket).await,
        };
    }
    let held = Held::now(systemd).await;
    let Some(fault) = look(systemd, &held, app, number).await? else { return Ok(()) };
    let is_down = ended(systemd.state(&service).await?);
    if !(is_down && matches!(fault, SocketFault::Down(_))) {
        systemd.jobs(Verb::Stop, &[service, socket.clone()]).await?;
    }
    systemd.reset_failed(&socket).await
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_a_process_listens_on_is_found_and_what_it_has_closed_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let (tcp, unix) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let address = tcp.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let addresses = [address.to_string(), path.display().to_string()];
        let held = || Held(Some(held_by(Path::new("/proc/self")).unwrap()));
        assert!(addresses.iter().all(|address| !held().lacks(address)));
        assert!(held().lacks(&client.local_addr().unwrap().to_string()), "it does not listen");
        drop((tcp, unix));
        assert!(addresses.iter().all(|address| held().lacks(address)));
    }

    #[test]
    fn where_nobody_may_look_nothing_is_said_to_be_lost() {
        assert!(!Held::default().lacks("127.64.0.1:7080"));
        assert!(held_by(Path::new("/proc/none")).is_err());
    }

    #[test]
    fn what_is_no_listener_is_none() {
        for line in ["", "0: 0100007F:1F90", "  0: 0100007F:1F90 00000000:0000 01 0 0 0 0 0 77"] {
            assert_eq!(tcp_listener(line), None, "{line}");
        }
        for line in ["", "0: 2 0", "0000: 00000002 00000000 00000000 0001 01 77 /run/x"] {
            assert_eq!(unix_listener(line), None, "{line}");
        }
    }
}
