//! Who listens where on TCP: what the kernel says (sock_diag(7)), whoever asks.
//!
//! Anybody may bind a free loopback address, so that something accepts connections at an address does
//! not say whose it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, and what makes of a request one for all (`NLM_F_ROOT | NLM_F_MATCH`).
const REQUEST: u16 = 1;
const ALL: u16 = 0x300;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `IPPROTO_TCP`, and the state of a listener.
const TCP: u8 = 6;
const LISTEN: u32 = 10;

/// The lengths of `struct nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg`.
const HEADER: usize = 16;
const QUESTION: usize = 56;
const ANSWER: usize = 72;

/// What the kernel writes at once.
const BUFFER: usize = 32 * 1024;

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener {
    /// What it is bound to, which may be every address.
    pub(crate) address: SocketAddr,
    /// Who made it.
    pub(crate) uid: u32,
    /// The number of the socket, as `/proc/PID/fd` has it.
    pub(crate) inode: u32,
}

/// The way to ask.
#[derive(Debug)]
pub(crate) struct Listeners {
    socket: OwnedFd,
    questions: AtomicU32,
}

// === impl Listeners ===

impl Listeners {
    /// Opens the way, and tries it: a kernel may be built without, and a sandbox without
    /// `AF_NETLINK`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::SOCK_DIAG);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        let listeners = Self { socket, questions: AtomicU32::new(0) };
        let known = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match listeners.at(known.local_addr()?)? {
            Some(_) => Ok(listeners),
            None => Err(io::Error::other("the kernel does not say who listens")),
        }
    }

    /// The listener that gets what connects to this address now: the one bound to it, or to every
    /// address at its port.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub(crate) fn at(&self, address: SocketAddr) -> io::Result<Option<Listener>> {
        let mut buffer = [0; 4096];
        let number = self.ask(&question(Some(address), address.is_ipv4()), REQUEST)?;
        loop {
            let length = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?.1;
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some((kind, body)) = messages(bytes, number).next() {
                return match kind {
                    ERROR => match error_of(body) {
                        Errno::NOENT => Ok(None),
                        other => Err(other.into()),
                    },
                    _ => Ok(listener(body)),
                };
            }
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub(crate) fn all(&self) -> io::Result<Vec<Listener>> {
        let mut found = Vec::new();
        let mut buffer = vec![0; BUFFER];
        for is_ipv4 in [true, false] {
            let number = self.ask(&question(None, is_ipv4), REQUEST | ALL)?;
            'family: loop {
                let length = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?.1;
                for (kind, body) in messages(buffer.get(..length).unwrap_or_default(), number) {
                    match kind {
                        DONE => break 'family,
                        // A kernel without IPv6 has none of its listeners.
                        ERROR if error_of(body) == Errno::NOENT => break 'family,
                        ERROR => return Err(error_of(body).into()),
                        _ => found.extend(listener(body)),
                    }
                }
            }
        }
        Ok(found)
    }

    /// Sends a question; its number is that of the answers.
    fn ask(&self, question: &[u8; QUESTION], flags: u16) -> io::Result<u32> {
        let number = self.questions.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER + QUESTION);
        message.extend(((HEADER + QUESTION) as u32).to_ne_bytes());
        message.extend(BY_FAMILY.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(number.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(question);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(number)
    }
}

fn question(address: Option<SocketAddr>, is_ipv4: bool) -> [u8; QUESTION] {
    let mut question = [0; QUESTION];
    let family = if is_ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    question[0] = u8::try_from(family.as_raw()).unwrap_or_default();
    question[1] = TCP;
    question[4..8].copy_from_slice(&(1_u32 << LISTEN).to_ne_bytes());
    if let Some(address) = address {
        question[8..10].copy_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => question[12..16].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => question[12..28].copy_from_slice(&ip.octets()),
        }
    }
    question[48..].fill(0xff); // any cookie
    question
}

/// The messages of an answer to question `number`, by kind.
fn messages(mut bytes: &[u8], number: u32) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
            let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if u32_at(message, 8)? == number {
                let kind = u16::from_ne_bytes([*message.get(4)?, *message.get(5)?]);
                return Some((kind, message.get(HEADER..)?));
            }
        }
    })
}

fn error_of(body: &[u8]) -> Errno {
    let number = u32_at(body, 0).map_or(0, u32::cast_signed);
    Errno::from_raw_os_error(number.wrapping_neg())
}

fn listener(body: &[u8]) -> Option<Listener> {
    if body.len() < ANSWER {
        return None;
    }
    let port = u16::from_be_bytes([body[4], body[5]]);
    let ip: IpAddr = if i32::from(body[0]) == i32::from(AddressFamily::INET.as_raw()) {
        Ipv4Addr::new(body[8], body[9], body[10], body[11]).into()
    } else {
        Ipv6Addr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?).into()
    };
    let address = SocketAddr::new(ip, port);
    Some(Listener { address, uid: u32_at(body, 64)?, inode: u32_at(body, 68)? })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(<[u8; 4]>::try_from(four).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn the_kernel_says_who_gets_what_connects() {
        let listeners = Listeners::open().unwrap();
        let socket = TcpListener::bind("127.9.8.7:0").unwrap();
        let address = socket.local_addr().unwrap();
        let found = listeners.at(address).unwrap().expect("a listener");
        assert_eq!((found.address, found.uid), (address, own()));
        let elsewhere = SocketAddr::from(([127, 9, 8, 8], address.port()));
        assert_eq!(listeners.at(elsewhere).unwrap(), None);
        assert!(listeners.all().unwrap().contains(&found));
        // A connection is no listener, and does not hide one.
        let _near = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(listeners.at(address).unwrap(), Some(found));
        drop(socket);
        assert_eq!(listeners.at(address).unwrap(), None);
    }

    #[test]
    fn who_listens_on_every_address_is_found_at_each() {
        let listeners = Listeners::open().unwrap();
        for every in ["0.0.0.0:0", "[::]:0"] {
            let Ok(socket) = TcpListener::bind(every) else { continue };
            let bound = socket.local_addr().unwrap();
            let asked = SocketAddr::from(([127, 64, 0, 9], bound.port()));
            assert_eq!(listeners.at(asked).unwrap().map(|found| found.address), Some(bound));
        }
        let socket = TcpListener::bind("[::1]:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(listeners.at(address).unwrap().map(|found| found.address), Some(address));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for bytes in [&[][..], &[0; 15], &[255; 40], &[16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0]] {
            assert_eq!(messages(bytes, 1).count(), 0, "{bytes:?}");
        }
        assert_eq!(listener(&[0; ANSWER - 1]), None);
    }
}
