//! Real sockets for the servers of an app that the front does not use.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with,
    sockopt,
};
use rustix::process::geteuid;

use super::endpoint::Endpoint;
use crate::base::file;
use crate::worker::channel::ForAll;

/// How many connections may wait, until the app says it itself: what Node takes.
const BACKLOG: i32 = 511;

/// Binds `endpoint`. What takes connections listens at once: two may bind the same address, one listens.
pub(super) fn bind_endpoint(endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
    match endpoint {
        Endpoint::Tcp { host: Some(host), port, ipv6_only } => {
            tcp(SocketAddr::new(*host, *port), *ipv6_only)
        }
        Endpoint::Tcp { host: None, port, ipv6_only } => {
            // As Node: both families by one socket, or IPv4 where there is no IPv6.
            let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port);
            match tcp(both, *ipv6_only) {
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::INVAL) => {
                    tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port), false)
                }
                other => other,
            }
        }
        Endpoint::Udp { address, ipv6_only, reuse } => {
            inet(SocketType::DGRAM, *address, *ipv6_only, *reuse)
        }
        Endpoint::Path { path, for_all } => match path.strip_prefix('\0') {
            Some(name) => unix(&SocketAddrUnix::new_abstract_name(name.as_bytes())?),
            None => at_path(Path::new(path), *for_all),
        },
        Endpoint::Descriptor(_) => Err(Errno::INVAL),
    }
}

/// Node's name for a handle of this kind.
pub(super) fn kind(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Udp { .. } => "dgram.Native",
        _ => "net.Native",
    }
}

/// The port of a socket that has one.
pub(super) fn port(socket: &OwnedFd) -> Option<u16> {
    Some(SocketAddr::try_from(getsockname(socket).ok()?).ok()?.port())
}

fn tcp(address: SocketAddr, ipv6_only: bool) -> Result<OwnedFd, Errno> {
    let socket = inet(SocketType::STREAM, address, ipv6_only, true)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn inet(
    kind: SocketType,
    address: SocketAddr,
    ipv6_only: bool,
    reuse: bool,
) -> Result<OwnedFd, Errno> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // Never the kernel's sharing of a port (`SO_REUSEPORT`): another app of the same user would have part in it.
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, ipv6_only)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

fn unix(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn at_path(path: &Path, for_all: ForAll) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = match unix(&address) {
        Err(Errno::ADDRINUSE) if is_left(path) => {
            let _ = fs::remove_file(path); // if it stays, the error is the right one
            unix(&address)
        }
        Err(Errno::NOENT) => Err(Errno::ACCESS), // as libuv says it
        result => result,
    }?;
    let wanted = if for_all.read { 0o444 } else { 0 } | if for_all.write { 0o222 } else { 0 };
    if wanted != 0 {
        let mode = fs::metadata(path).map_err(|error| errno(&error))?.permissions().mode();
        let mode = Permissions::from_mode(mode | wanted);
        fs::set_permissions(path, mode).map_err(|error| errno(&error))?;
    }
    Ok(socket)
}

/// Whether a socket there is of this user, and of a process that was killed: Node's primary would have taken
/// it away, for which it would have had to be killed, too.
fn is_left(path: &Path) -> bool {
    let is_ours = fs::symlink_metadata(path)
        .is_ok_and(|data| data.file_type().is_socket() && data.uid() == geteuid().as_raw());
    // Who has bound it and does not listen yet is in the kernel's list.
    is_ours
        && file::of_kernel("/proc/net/unix").is_ok_and(|list| !is_listed(&list, path))
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether the path is in the kernel's list of sockets.
fn is_listed(list: &str, path: &Path) -> bool {
    list.lines().any(|line| line.split_ascii_whitespace().nth(7).map(Path::new) == Some(path))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::ACCESS)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::net::TcpListener;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn local(port: u16) -> Endpoint {
        Endpoint::Tcp { host: Some(Ipv4Addr::LOCALHOST.into()), port, ipv6_only: false }
    }

    #[test]
    fn nobody_shares_a_port() {
        let first = bind_endpoint(&local(0)).unwrap();
        let taken = local(port(&first).unwrap());
        assert_eq!(bind_endpoint(&taken).unwrap_err(), Errno::ADDRINUSE);
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = local(foreign.local_addr().unwrap().port());
        assert_eq!(bind_endpoint(&taken).unwrap_err(), Errno::ADDRINUSE);
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error() {
        let host = Some("192.0.2.1".parse().unwrap());
        let endpoint = Endpoint::Tcp { host, port: 0, ipv6_only: false };
        assert_eq!(bind_endpoint(&endpoint).unwrap_err(), Errno::ADDRNOTAVAIL);
    }

    fn at(path: &Path, for_all: ForAll) -> Endpoint {
        Endpoint::Path { path: path.to_str().unwrap().to_owned(), for_all }
    }

    #[test]
    fn a_path_is_taken_over_from_the_dead_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let endpoint = at(&path, ForAll::default());
        // Somebody else's, in the same list.
        let no_text = directory.path().join(OsStr::from_bytes(b"\xff"));
        let _no_text = UnixListener::bind(no_text).unwrap();
        let socket = bind_endpoint(&endpoint).unwrap();
        assert_eq!(bind_endpoint(&endpoint).unwrap_err(), Errno::ADDRINUSE, "it listens");
        drop(socket);
        assert!(bind_endpoint(&endpoint).is_ok(), "nobody has it");
        std::fs::remove_file(&path).unwrap();
        let flags = SocketFlags::CLOEXEC;
        let bound = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        bind(&bound, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        assert_eq!(bind_endpoint(&endpoint).unwrap_err(), Errno::ADDRINUSE, "it will listen");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(bind_endpoint(&endpoint).unwrap_err(), Errno::ADDRINUSE, "a file");
    }

    #[test]
    fn a_path_is_for_whom_it_shall_be() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |name: &str, read, write| {
            let path = directory.path().join(name);
            bind_endpoint(&at(&path, ForAll { read, write })).unwrap();
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o666
        };
        assert_eq!(mode("all", true, true), 0o666);
        assert_eq!(mode("write", false, true) & 0o222, 0o222);
        assert_eq!(mode("read", true, false) & 0o444, 0o444);
    }

    #[test]
    fn an_abstract_name_has_no_file() {
        let name = format!("\0roundsman-test-{}", std::process::id());
        let endpoint = Endpoint::Path { path: name, for_all: ForAll::default() };
        let socket = bind_endpoint(&endpoint).unwrap();
        assert_eq!(bind_endpoint(&endpoint).unwrap_err(), Errno::ADDRINUSE);
        drop(socket);
        assert!(bind_endpoint(&endpoint).is_ok());
    }
}
