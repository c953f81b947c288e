//! Who is at the other end of a UNIX socket: what the kernel says about it, never what it says.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::control_groups::{self, Found, is_slice, unified};
use super::unit::Instance;
use super::user::{self, ROUNDSMAN, User};
use crate::sys;

/// A process that has connected, as it was at that moment.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// Its number, if it has one in this process's namespace.
    pub pid: Option<u32>,
    process: Process,
}

/// The numbers that decide. Where one of them is not known nobody is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accounts {
    /// The user of the front.
    pub front: u32,
    /// The group whose members administer Roundsman.
    pub group: u32,
}

/// By what the process is told from another one that gets its number after its end.
#[derive(Debug)]
enum Process {
    /// The kernel holds it for us.
    Held(OwnedFd),
    /// The kernel (before Linux 6.5) cannot. Another process of the same user may be taken for it,
    /// which could have done as much by itself: each app has a user of its own.
    ByUser,
    /// It has ended.
    Gone,
}

/// Where a peer is among the units of this machine.
///
/// A process can hand its connection to another one and end. So only a process that lives, and was
/// looked at, is somebody: [`Standing::Hidden`] and [`Standing::Nobody`] are never read as "in no
/// worker". Where `/proc` hides it, its unit alone is known, and nobody is [`Standing::Confined`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In this worker's unit.
    Worker(Instance),
    /// In no worker's.
    Elsewhere,
    /// In no worker's, and without a way to gain rights (`NoNewPrivs`). So is all that a worker starts,
    /// and nothing of a login: a user's own service manager has groups into which such a process may have
    /// been moved.
    Confined,
    /// It lives, and nothing says where.
    Hidden,
    /// It has ended, or its number is somebody else's by now.
    Nobody,
}

/// What is known of a process's control groups.
enum Groups {
    /// In the form of `/proc/PID/cgroup`, and whether it cannot gain rights.
    Known(String, bool),
    Hidden,
    Nobody,
}

impl Accounts {
    /// Those of this machine; `None` where the package is not installed.
    pub(crate) fn find() -> Option<Self> {
        let front = User::named(ROUNDSMAN).ok()??.uid;
        let group = user::group(ROUNDSMAN).ok()??;
        Some(Self { front, group })
    }
}

impl Peer {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When this is no UNIX socket, or not a connected one.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        let peer = sys::peer_credentials(&socket)?;
        if peer.uid == u32::MAX {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Without these nobody has more rights than with them.
        let groups = sys::peer_groups(&socket).unwrap_or_default();
        let process = match sys::peer_process(&socket) {
            Ok(Some(process)) => Process::Held(process),
            Ok(None) => Process::ByUser,
            Err(_) => Process::Gone,
        };
        let pid = u32::try_from(peer.pid).ok().filter(|pid| *pid > 0);
        Ok(Self { uid: peer.uid, gid: peer.gid, groups, pid, process })
    }

    /// Whether both are the same process: a number that one process has from before the other's look until
    /// after it was nobody else's meanwhile.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let numbers = |peer: &Self| (peer.pid, peer.uid, peer.gid);
        self.pid.is_some()
            && numbers(self) == numbers(other)
            && self.groups == other.groups
            && match (&self.process, &other.process) {
                (Process::Held(one), Process::Held(other)) => lives(one) && lives(other),
                // No more is known of either.
                (Process::ByUser, Process::ByUser) => {
                    self.pid.and_then(open_process).is_some_and(|process| lives(&process))
                }
                _ => false,
            }
    }

    /// Whether it is the front, where there is one.
    pub(crate) fn is_front(&self, accounts: Option<Accounts>) -> bool {
        accounts.is_some_and(|accounts| self.uid == accounts.front)
    }

    /// Whether it is a member of the group, given where it is: a process in no worker's unit, and that
    /// cannot have left one, since an app may run as a user who is a member, and is none itself. The front is none, though its user is
    /// in the group, which is its own: it speaks with the internet.
    pub(crate) fn is_member(&self, accounts: Option<Accounts>, standing: &Standing) -> bool {
        *standing == Standing::Elsewhere && self.has_group(accounts)
    }

    /// Whether the group would make it a member.
    pub(crate) fn has_group(&self, accounts: Option<Accounts>) -> bool {
        let is_in = |group| self.gid == group || self.groups.contains(&group);
        accounts.is_some_and(|accounts| self.uid != accounts.front && is_in(accounts.group))
    }

    /// Where it is, as long as it lives and is the same user. Where others' processes are hidden this
    /// takes a search: not for a thread that others wait for, and not before the peer has been counted.
    pub(crate) fn standing(&self) -> Standing {
        self.looked_at(|pid| control_groups::worker_of(pid, self.uid, None))
    }

    /// The same, where it is likely to be this worker: that saves the search.
    pub(crate) fn standing_near(&self, likely: Option<&Instance>) -> Standing {
        self.looked_at(|pid| control_groups::worker_of(pid, self.uid, likely))
    }

    /// The same without a search: for peers whom nobody has to know.
    pub(crate) fn standing_shown(&self) -> Standing {
        self.looked_at(|_| Found::Unknown)
    }

    fn looked_at(&self, search: impl FnOnce(u32) -> Found) -> Standing {
        let opened;
        let process = match (&self.process, self.pid) {
            (Process::Held(process), _) => process,
            // Whoever has the number now; `/proc` tells whether it is the same user.
            (Process::ByUser, Some(pid)) => match open_process(pid) {
                Some(process) => {
                    opened = process;
                    &opened
                }
                None => return Standing::Nobody,
            },
            (Process::ByUser, None) => return Standing::Hidden,
            (Process::Gone, _) => return Standing::Nobody,
        };
        // PID 1 is not where systemd began when a container shares its host's control groups.
        let init = || std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
        let standing = match self.shown() {
            Groups::Known(groups, is_confined) => match worker(&groups, &init()) {
                Some(worker) => Standing::Worker(worker),
                None if is_confined => Standing::Confined,
                None => Standing::Elsewhere,
            },
            Groups::Nobody => Standing::Nobody,
            // Who has ended is not to be seen either, and nobody searches for it.
            Groups::Hidden if !lives(process) => Standing::Nobody,
            Groups::Hidden => match self.pid.map_or(Found::Unknown, search) {
                Found::In(worker) => Standing::Worker(worker),
                Found::InNone => Standing::Elsewhere,
                Found::Unknown => Standing::Hidden,
            },
        };
        // Only now: until here its number might have become another's.
        if lives(process) { standing } else { Standing::Nobody }
    }

    /// What `/proc` shows of its control groups.
    fn shown(&self) -> Groups {
        let Some(pid) = self.pid else { return Groups::Hidden };
        // An open directory of a process does not become another's with the number.
        let directory = open(
            format!("/proc/{pid}"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let read = |name| directory.as_ref().ok().and_then(|at| read(at.as_fd(), name));
        let (Some(status), Some(groups)) = (read("status"), read("cgroup")) else {
            return Groups::Hidden;
        };
        let field =
            |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        // Real, effective, saved, file system: the socket has the effective one.
        let uid = field("Uid:").split_ascii_whitespace().nth(1).and_then(|uid| uid.parse().ok());
        if uid != Some(self.uid) {
            return Groups::Nobody;
        }
        Groups::Known(groups, field("NoNewPrivs:").trim() == "1")
    }
}

/// Holds the process that has this number.
fn open_process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Whether a process has not ended, as one has that nobody has waited for yet.
fn lives(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

fn read(directory: BorrowedFd<'_>, name: &str) -> Option<String> {
    let file = openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The control group of this process, where it is in this worker's unit.
pub(crate) fn group_of_this(meant: &Instance) -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let init = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    (worker(&groups, &init)? == *meant).then(|| unified(&groups).map(str::to_owned))?
}

/// The worker in whose unit these control groups are.
///
/// Only the first unit on the whole path counts, and only slices may come before it, of whatever
/// name: those the administrator chooses (`Slice=`), and nobody is given one. Below its unit a
/// service may make groups of any name, and a user's own service manager, itself a service, may run
/// units of any name.
fn worker(groups: &str, init: &str) -> Option<Instance> {
    let root = unified(init).and_then(|path| path.strip_suffix("/init.scope")).unwrap_or_default();
    let path = unified(groups)?.strip_prefix(root)?.strip_prefix('/')?;
    let unit = path.split('/').find(|part| !is_slice(part))?;
    Instance::of_apps_service(unit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const INIT: &str = "0::/init.scope\n";
    const WORKER: &str =
        "/roundsman.slice/roundsman-workers.slice/roundsman-worker@my-shop_2:7.service";

    fn of(path: &str) -> Option<String> {
        worker(&format!("0::{path}\n"), INIT).map(|worker| worker.to_string())
    }

    #[test]
    fn a_worker_is_known_by_its_unit() {
        assert_eq!(of(WORKER).as_deref(), Some("my-shop_2:7"));
        let valkey = "/roundsman.slice/roundsman-valkey@my-shop_2.service";
        assert_eq!(of(valkey).as_deref(), Some("my-shop_2:1"), "it reads what its user may write");
        assert_eq!(of(&format!("{WORKER}/sub/group")).as_deref(), Some("my-shop_2:7"));
        let hybrid = format!("12:pids:/other\n1:name=systemd:/x\n0::{WORKER}\n");
        assert!(worker(&hybrid, INIT).is_some());
        assert!(worker(&hybrid, "").is_some(), "where PID 1 is hidden");
        for elsewhere in ["/customer.slice", "/a.slice/a-b.slice", ""] {
            let path = format!("{elsewhere}/roundsman-worker@shop:1.service");
            assert_eq!(of(&path).as_deref(), Some("shop:1"), "{path}");
        }
    }

    #[test]
    fn nobody_becomes_a_worker_by_a_name_of_his_own() {
        for path in [
            // A user's own service manager may run a unit of this very name.
            "/user.slice/user-1000.slice/user@1000.service/app.slice/roundsman-worker@shop:1.service",
            "/user.slice/user-1000.slice/user@1000.service/roundsman-worker@shop:1.service",
            "/user.slice/user-1000.slice/session-1.scope/roundsman-worker@shop:1.service",
            // Another service may make groups below its own.
            "/system.slice/evil.service/roundsman-worker@shop:1.service",
            "/system.slice/evil.service/roundsman.slice/roundsman-workers.slice/\
             roundsman-worker@shop:1.service",
            // A machine in a container of ours, and a process outside our namespace.
            "/machine.slice/systemd-nspawn@x.service/payload/roundsman-worker@shop:1.service",
            "/docker/1/roundsman-worker@shop:1.service",
            "/../roundsman-worker@shop:1.service",
            "/.slice/roundsman-worker@shop:1.service",
            "/system.slice/roundsman-worker@shop.service",
            "/system.slice/roundsman-worker@shop:x.service",
            "/system.slice/roundsman-worker@SHOP:1.service",
            "/system.slice/roundsman-worker@../x:1.service",
            "/roundsman-worker@shop:1.scope",
            "roundsman-worker@shop:1.service",
            "/",
            "",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
        assert_eq!(worker("1:name=systemd:/roundsman-worker@shop:1.service", INIT), None);
    }

    #[test]
    fn in_a_container_that_shares_its_hosts_groups_the_path_begins_where_systemd_does() {
        let init = "0::/docker/1/init.scope\n";
        assert!(worker(&format!("0::/docker/1{WORKER}\n"), init).is_some());
        for other in ["/docker/2", "/docker/10", "", "/docker/1/system.slice/evil.service"] {
            assert_eq!(worker(&format!("0::{other}{WORKER}\n"), init), None, "{other}");
        }
    }

    #[test]
    fn the_kernel_says_who_a_peer_is() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = Peer::of(&near).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        assert_eq!(peer.pid, Some(std::process::id()));
        assert_eq!(peer.standing(), Standing::Elsewhere);
        // A number that belongs to somebody else by now says nothing.
        let other = Peer { pid: Some(1), uid: 12345, ..peer };
        assert_eq!(other.standing(), Standing::Nobody);
        assert!(Peer::of(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
    }

    #[test]
    fn members_are_in_the_group_and_the_front_is_none() {
        let accounts = Some(Accounts { front: 990, group: 980 });
        let peer = |uid, gid, groups: &[u32]| {
            let (near, _far) = UnixStream::pair().unwrap();
            Peer { uid, gid, groups: groups.to_vec(), ..Peer::of(&near).unwrap() }
        };
        let is_member = |peer: Peer, accounts| peer.is_member(accounts, &Standing::Elsewhere);
        assert!(is_member(peer(1000, 1000, &[1000, 980]), accounts));
        assert!(is_member(peer(1000, 980, &[]), accounts));
        assert!(!is_member(peer(1000, 1000, &[990]), accounts), "the front's number is no group");
        assert!(!is_member(peer(1000, 980, &[980]), None), "nobody knows who the front is");
        let front = peer(990, 980, &[980]);
        assert!(front.is_front(accounts) && !front.is_front(None));
        assert!(!is_member(front, accounts));
        let worker = Standing::Worker("shop:1".parse().unwrap());
        for standing in [worker, Standing::Confined, Standing::Hidden, Standing::Nobody] {
            assert!(!peer(1000, 980, &[980]).is_member(accounts, &standing), "{standing:?}");
        }
    }

    #[test]
    fn what_cannot_gain_rights_may_have_left_a_worker() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut child = std::process::Command::new("setpriv")
            .args(["--no-new-privs", "sh", "-c", "echo; cat"])
            .stdin(std::process::Stdio::from(OwnedFd::from(near.try_clone().unwrap())))
            .stdout(std::process::Stdio::from(OwnedFd::from(near)))
            .spawn()
            .unwrap();
        let process = Process::ByUser; // who made the pair is this process
        let mut told = [0];
        (&far).read_exact(&mut told).unwrap();
        let peer = Peer { process, pid: Some(child.id()), ..Peer::of(&far).unwrap() };
        assert_eq!(peer.standing(), Standing::Confined);
        drop(far);
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_has_ended_is_nobody() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        let held = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let peer = |process, pid| {
            let (near, _far) = UnixStream::pair().unwrap();
            Peer { process, pid: Some(pid), ..Peer::of(&near).unwrap() }
        };
        let own = std::process::id();
        let mut ended = [PollFd::new(&held, PollFlags::IN)];
        poll(&mut ended, None).unwrap();
        let waited_for = peer(Process::ByUser, child.id()).standing();
        assert_eq!(
            waited_for,
            Standing::Nobody,
            "an old kernel, and its parent waits for a reason"
        );
        child.wait().unwrap();
        assert_eq!(peer(Process::Held(held), own).standing(), Standing::Nobody);
        assert_eq!(peer(Process::Gone, own).standing(), Standing::Nobody);
        assert!(!peer(Process::Gone, own).is(&peer(Process::ByUser, own)));
        assert!(!peer(Process::ByUser, own).is(&peer(Process::Gone, own)));
        assert!(peer(Process::ByUser, own).is(&peer(Process::ByUser, own)));
        assert!(!Peer { uid: 12345, ..peer(Process::ByUser, own) }.is(&peer(Process::ByUser, own)));
        assert_eq!(peer(Process::ByUser, child.id()).standing(), Standing::Nobody, "an old kernel");
        assert_eq!(peer(Process::ByUser, own).standing(), Standing::Elsewhere);
    }
}
