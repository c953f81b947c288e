//! Whether clients are connected to the app: what would be cut off by its end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::base::file;

/// States of a TCP connection that the app's end of it has not closed (`TCP_ESTABLISHED`, `TCP_CLOSE_WAIT`).
const OPEN: [&str; 2] = ["01", "08"];

/// How the kernel shows a UNIX socket that is connected (`SS_CONNECTED`).
const CONNECTED: &str = "03";

/// Where the app's servers are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Doors {
    pub(super) ports: BTreeSet<u16>,
    pub(super) paths: BTreeSet<String>,
}

impl Doors {
    /// Whether a connection that came by one of them is open in this process. Where the kernel does not say it,
    /// it may be so.
    pub(super) fn are_in_use(&self, pid: u32) -> bool {
        let Some(held) = sockets_of(pid) else { return true };
        let tcp = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(file::of_kernel);
        let unix = file::of_kernel("/proc/self/net/unix");
        let [Ok(v4), v6] = tcp else { return true };
        let (v6, Ok(unix)) = (v6.unwrap_or_default(), unix) else { return true };
        let lines = v4.lines().chain(v6.lines());
        lines.filter_map(|line| self.tcp(line)).any(|socket| held.contains(&socket))
            || unix.lines().filter_map(|line| self.unix(line)).any(|socket| held.contains(&socket))
    }

    /// The number of the socket in a line of `/proc/net/tcp`, if that is one of a client.
    fn tcp(&self, line: &str) -> Option<u64> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let port = words.get(1)?.rsplit_once(':')?.1;
        let is_ours = self.ports.contains(&u16::from_str_radix(port, 16).ok()?);
        (is_ours && OPEN.contains(words.get(3)?)).then(|| words.get(9)?.parse().ok())?
    }

    /// The same of `/proc/net/unix`.
    fn unix(&self, line: &str) -> Option<u64> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_ours = self.paths.contains(*words.get(7)?);
        (is_ours && words.get(5)? == &CONNECTED).then(|| words.get(6)?.parse().ok())?
    }
}

fn sockets_of(pid: u32) -> Option<BTreeSet<u64>> {
    let descriptors = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).ok()?;
    let number = |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let target = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
    Some(descriptors.flatten().filter_map(target).filter_map(|t| number(t.to_str()?)).collect())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_client_is_seen_as_long_as_it_is_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let doors =
            Doors { ports: [listener.local_addr().unwrap().port()].into(), paths: [].into() };
        let pid = std::process::id();
        assert!(!doors.are_in_use(pid), "it listens");
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(doors.are_in_use(pid));
        assert!(!Doors::default().are_in_use(pid), "by another door");
        drop(server);
        assert!(!doors.are_in_use(pid), "the app has closed it");
        drop(client);
    }

    #[test]
    fn so_is_one_over_a_unix_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // Somebody else's, in the same list.
        let no_text = directory.path().join(OsStr::from_bytes(b"\xff"));
        let _no_text = UnixListener::bind(no_text).unwrap();
        let paths = [path.to_str().unwrap().to_owned()].into();
        let doors = Doors { ports: [].into(), paths };
        let pid = std::process::id();
        assert!(!doors.are_in_use(pid));
        let _client = UnixStream::connect(&path).unwrap();
        let server = listener.accept().unwrap();
        assert!(doors.are_in_use(pid));
        drop(server);
        assert!(!doors.are_in_use(pid));
    }

    #[test]
    fn a_process_that_cannot_be_looked_at_may_have_clients() {
        assert!(Doors::default().are_in_use(u32::MAX));
    }
}
