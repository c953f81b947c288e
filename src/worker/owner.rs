//! Whose listener it is: which sockets the processes of this worker's unit hold.
//!
//! The app's server is only what its own processes listen on. Something else at its address may be a
//! stranger's, another app's, or another worker's of the same app that has bound every address.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::base::listeners::{Listener, Listeners};
use crate::base::peer;
use crate::base::unit::Instance;

/// Where systemd and the kernel keep control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// Who gets what connects to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Nobody: connecting fails.
    Nobodys,
    /// The worker's own processes.
    Ours,
    /// Somebody else.
    Others(Other),
    /// The kernel does not say.
    Unknown,
}

/// Somebody else who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Other {
    listener: Listener,
    is_same_user: bool,
}

/// Knows the unit's processes.
#[derive(Debug)]
pub(super) struct Owner {
    listeners: Option<Listeners>,
    unit: Unit,
    /// The socket that was found to be ours: its number is enough to know it again.
    known: Cell<Option<u32>>,
    /// The app's own process.
    app: Cell<Option<u32>>,
}

/// Which processes are meant.
#[derive(Debug)]
enum Unit {
    /// Those of the unit's control group.
    Group(PathBuf),
    /// Outside systemd: the app's, and those that it has started.
    App,
}

/// The sockets of the unit's processes.
#[derive(Debug, Default)]
struct Held {
    sockets: BTreeSet<u32>,
    /// A process does not let itself be looked at: it has given up being dumpable.
    is_partial: bool,
}

// === impl Owner ===

impl Owner {
    /// Finds out how to ask.
    pub(super) fn of(worker: Option<&Instance>) -> Self {
        let listeners = Listeners::open();
        if let Err(error) = &listeners {
            tracing::debug!(%error, "nobody says whose listener it is: what answers is believed");
        }
        let group = worker
            .and_then(peer::group_of_this)
            .map(|path| Path::new(GROUPS).join(path.trim_start_matches('/')).join("cgroup.procs"));
        let unit = match group.filter(|path| path.is_file()) {
            Some(path) => Unit::Group(path),
            None => Unit::App,
        };
        Self { listeners: listeners.ok(), unit, known: Cell::new(None), app: Cell::new(None) }
    }

    /// The app runs, as this process.
    pub(super) fn started(&self, pid: u32) {
        self.app.set(Some(pid));
    }

    /// The app's process.
    pub(super) fn app(&self) -> Option<u32> {
        self.app.get()
    }

    /// Who gets what connects to `address` now.
    pub(super) fn whose(&self, address: SocketAddr) -> Whose {
        let Some(listeners) = &self.listeners else { return Whose::Unknown };
        let found = match listeners.at(address) {
            Ok(Some(found)) => found,
            Ok(None) => return Whose::Nobodys,
            Err(_) => return Whose::Unknown,
        };
        if self.known.get() == Some(found.inode) {
            return Whose::Ours;
        }
        let own = rustix::process::geteuid().as_raw();
        let is_same_user = found.uid == own;
        let held = self.held();
        // Several may share the address (SO_REUSEPORT), and the kernel names one of them.
        let shared = listeners.all().unwrap_or_default();
        let mut candidates = shared
            .iter()
            .filter(|one| one.address == found.address && one.uid == found.uid)
            .chain([&found]);
        if candidates.any(|one| held.sockets.contains(&one.inode))
            || (held.is_partial && is_same_user)
        {
            self.known.set(Some(found.inode));
            return Whose::Ours;
        }
        Whose::Others(Other { listener: found, is_same_user })
    }

    /// Where the unit's processes do listen, in order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let Some(listeners) = &self.listeners else { return Vec::new() };
        let held = self.held();
        let all = listeners.all().unwrap_or_default();
        let ours: BTreeSet<SocketAddr> = all
            .iter()
            .filter(|listener| held.sockets.contains(&listener.inode))
            .map(|listener| listener.address)
            .collect();
        ours.into_iter().collect()
    }

    /// The unit's processes beside the app's own and this one. Outside systemd they cannot be told.
    pub(super) fn left(&self) -> Vec<u32> {
        let Unit::Group(path) = &self.unit else { return Vec::new() };
        let mut left = numbers(path);
        left.retain(|pid| *pid != std::process::id() && Some(*pid) != self.app.get());
        left
    }

    fn held(&self) -> Held {
        let mut held = Held::default();
        for pid in self.processes() {
            held.add(pid);
        }
        held
    }

    fn processes(&self) -> Vec<u32> {
        match &self.unit {
            Unit::Group(path) => numbers(path),
            Unit::App => {
                let mut found: Vec<u32> = self.app.get().into_iter().collect();
                let mut next = 0;
                while let Some(pid) = found.get(next).copied() {
                    next += 1;
                    found.extend(children(pid));
                }
                found
            }
        }
    }
}

impl Held {
    fn add(&mut self, pid: u32) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            self.is_partial |= Path::new(&format!("/proc/{pid}")).exists();
            return;
        };
        for descriptor in descriptors.flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            let number = target.to_str().and_then(|name| {
                name.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u32>().ok()
            });
            self.sockets.extend(number);
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.flat_map(|thread| numbers(&thread.path().join("children"))).collect()
}

fn numbers(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listener { address, uid, .. } = self.listener;
        if self.is_same_user {
            write!(
                f,
                "another process of the app's own user listens on {address}, perhaps another worker"
            )
        } else {
            write!(f, "a process of user {uid} listens on {address}, which is not the app")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_what_the_apps_processes_hold_is_its_server() {
        let owner = Owner::of(None);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let Whose::Others(other) = owner.whose(address) else { panic!("no app runs yet") };
        assert!(other.to_string().contains(&format!("listens on {address}")), "{other}");
        assert!(owner.addresses().is_empty());
        owner.started(std::process::id());
        assert_eq!(owner.whose(address), Whose::Ours);
        assert!(owner.addresses().contains(&address));
        drop(socket);
        assert_eq!(owner.whose(address), Whose::Nobodys);
        // Another one at the same address is another one.
        owner.started(0);
        let _stranger = TcpListener::bind(address).unwrap();
        assert!(matches!(owner.whose(address), Whose::Others(_)));
    }
}
