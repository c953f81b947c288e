//! Whose keys a peer may see: decided by what the kernel says about it, never by what it says.
//!
//! A process of `roundsman-worker@NAME:N.service` sees the namespace NAME. systemd put it into that
//! unit's control group, and no process can move itself out of it or into another's. Everybody
//! else must be root, the store's own user, or in the group `roundsman`.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use super::command::Identity;
use crate::base::unit::Instance;
use crate::base::user::{self, ROUNDSMAN};

/// What the store knows about users before it meets any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    own_uid: u32,
    admin_gid: Option<u32>,
}

impl Trust {
    /// From this process and the group database.
    pub fn from_system() -> Self {
        Self {
            own_uid: rustix::process::getuid().as_raw(),
            admin_gid: user::group(ROUNDSMAN).ok().flatten(),
        }
    }

    /// Who is at the other end of a UNIX socket; an error says why it may not come in.
    pub fn identify(&self, socket: impl AsFd) -> Result<Identity, String> {
        let peer = rustix::net::sockopt::socket_peercred(&socket)
            .map_err(|error| format!("the kernel does not say who connects: {error}"))?;
        let (pid, uid) = (peer.pid.as_raw_nonzero().get(), peer.uid.as_raw());
        let process = read_process(pid).unwrap_or_default();
        // A process that has ended may have left its number to another one. The user must fit.
        let same = process.uid == Some(uid);
        if same && let Some(app) = app_of_cgroup(&process.cgroup) {
            return Ok(Identity::Worker(app));
        }
        let mut groups = vec![peer.gid.as_raw()];
        if same {
            groups.extend(process.groups);
        }
        let in_group = self.admin_gid.is_some_and(|admin| groups.contains(&admin));
        if uid == 0 || uid == self.own_uid || in_group {
            return Ok(Identity::Admin);
        }
        Err(format!(
            "process {pid} of user {uid} is neither a worker of an app nor in the group \
             {ROUNDSMAN}"
        ))
    }
}

/// What `/proc` says about a process.
#[derive(Debug, Default)]
struct Process {
    cgroup: String,
    uid: Option<u32>,
    groups: Vec<u32>,
}

fn read_process(pid: i32) -> io::Result<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let numbers = |name: &str| -> Vec<u32> {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect())
            .unwrap_or_default()
    };
    Ok(Process {
        cgroup: fs::read_to_string(format!("/proc/{pid}/cgroup"))?,
        // Real, effective, saved, file system: the socket has the effective one.
        uid: numbers("Uid:").get(1).copied(),
        groups: numbers("Groups:"),
    })
}

/// The app that a control group belongs to, if it is a worker's.
///
/// Only the first unit on the path counts: below it a service may make groups of any name, and a
/// user's own service manager, itself a service, may run units of any name.
fn app_of_cgroup(file: &str) -> Option<String> {
    let path = file.lines().find_map(|line| line.strip_prefix("0::"))?;
    let is_slice = |part: &str| part.strip_suffix(".slice").is_some();
    let unit = path.split('/').find(|part| !part.is_empty() && !is_slice(part))?;
    Some(Instance::of_service(unit)?.app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_known_by_its_unit() {
        let worker = "0::/roundsman.slice/roundsman-workers.slice/roundsman-worker@shop:2.service";
        assert_eq!(app_of_cgroup(worker).as_deref(), Some("shop"));
        assert_eq!(app_of_cgroup(&format!("{worker}/sub/group\n")).as_deref(), Some("shop"));
        let hybrid = format!("12:pids:/other\n{worker}\n");
        assert_eq!(app_of_cgroup(&hybrid).as_deref(), Some("shop"));
        let dashes = worker.replace("shop", "my-shop_2");
        assert_eq!(app_of_cgroup(&dashes).as_deref(), Some("my-shop_2"));
    }

    #[test]
    fn nobody_becomes_a_worker_by_a_name_of_his_own() {
        for path in [
            // A user's own service manager may run a unit of this very name.
            "/user.slice/user-1000.slice/user@1000.service/app.slice/roundsman-worker@shop:1.service",
            // Another worker may make groups below its own.
            "/system.slice/evil.service/roundsman-worker@shop:1.service",
            "/system.slice/roundsman-worker@shop.service",
            "/system.slice/roundsman-worker@shop:x.service",
            "/system.slice/roundsman-worker@SHOP:1.service",
            "/system.slice/roundsman-worker@../x:1.service",
            "/roundsman-worker@shop:1.scope",
            "/",
        ] {
            assert_eq!(app_of_cgroup(&format!("0::{path}\n")), None, "{path}");
        }
        assert_eq!(app_of_cgroup("1:name=systemd:/roundsman-worker@shop:1.service"), None);
    }
}
