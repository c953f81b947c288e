//! Who holds a TCP port: the process, and the unit that it belongs to, for people who want to know.

use std::fmt;
use std::fs;
use std::path::Path;

use super::listeners::Listeners;
use super::text;
use super::unit::FRONT;

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    name: String,
    /// The systemd unit, where it is in one.
    pub(crate) unit: Option<String>,
}

/// Who listens on this port, at whatever address. One of them, where there are several; `None` where
/// nobody does, or this process may not see who. That somebody does is the first part of the answer.
pub(crate) fn of(port: u16) -> (bool, Option<Holder>) {
    let all = Listeners::open().and_then(|listeners| listeners.all()).unwrap_or_default();
    let sockets: Vec<u32> = all
        .iter()
        .filter(|listener| listener.address.port() == port)
        .map(|listener| listener.inode)
        .collect();
    (!sockets.is_empty(), find(&sockets))
}

/// Who has a socket of this number; systemd for one that it holds.
pub(crate) fn of_socket(inode: u32) -> Option<Holder> {
    find(&[inode])
}

/// The port of an address as a unit has it: `[::]:80`, `80` or `127.0.0.1:8080`.
pub(crate) fn port(address: &str) -> Option<u16> {
    address.rsplit(':').next()?.parse().ok()
}

/// systemd itself holds what it listens on for others, so it counts only where nobody else does.
fn find(sockets: &[u32]) -> Option<Holder> {
    let links: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers: Vec<u32> =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    let systemd = usize::from(numbers.first() == Some(&1));
    numbers.rotate_left(systemd);
    numbers.into_iter().find(|pid| holds(*pid, &links)).map(Holder::new)
}

fn holds(pid: u32, links: &[String]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| links.iter().any(|link| target == Path::new(link)))
}

/// The unit in the form of `/proc/PID/cgroup`: the last part of the path that is one.
fn unit(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let ends = [".service", ".scope", ".socket"];
    let unit = path.rsplit('/').find(|part| ends.iter().any(|end| part.ends_with(end)))?;
    (unit != "init.scope").then(|| text::one_line(unit).into_owned())
}

// === impl Holder ===

impl Holder {
    fn new(pid: u32) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let name = read("comm").unwrap_or_default();
        let name = text::one_line(name.trim()).into_owned();
        Self { pid, name, unit: unit(&read("cgroup").unwrap_or_default()) }
    }

    /// Whether it is the front, or systemd for it.
    pub(crate) fn is_ours(&self) -> bool {
        self.pid == 1 || self.unit.as_deref() == Some(FRONT)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}", self.name, self.pid)?;
        match &self.unit {
            Some(unit) => write!(f, ", {unit})"),
            None => write!(f, ")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_is_named() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (is_held, holder) = of(port);
        let holder = holder.expect("it is this process");
        assert!(is_held && holder.pid == std::process::id(), "{holder}");
        assert!(holder.to_string().contains(&format!("(process {}", std::process::id())));
        drop(socket);
        assert_eq!(of(port), (false, None));
    }

    #[test]
    fn ports_are_read_from_addresses_of_units() {
        for (address, expected) in [
            ("[::]:80", Some(80)),
            ("8080", Some(8080)),
            ("127.0.0.1:81", Some(81)),
            ("/run/x", None),
        ] {
            assert_eq!(port(address), expected, "{address}");
        }
    }

    #[test]
    fn a_unit_is_the_last_one_on_the_path() {
        for (groups, expected) in [
            ("0::/system.slice/nginx.service\n", Some("nginx.service")),
            ("0::/user.slice/user-0.slice/session-3.scope\n", Some("session-3.scope")),
            ("0::/system.slice/docker-1f.scope/inner\n", Some("docker-1f.scope")),
            ("0::/init.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(groups).as_deref(), expected, "{groups}");
        }
    }
}
