//! What the kernel says of TCP sockets of this machine (sock_diag(7)), whoever asks.
//!
//! The answers are there when a question has been sent: nothing here waits.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// The interface by which the machine speaks with itself, in every network namespace: a socket that is
/// bound to it is found, too.
const LOOPBACK: u32 = 1;
/// `INET_DIAG_CGROUP_ID`.
const CGROUP: u16 = 21;

/// The lengths of `struct nlmsghdr`, `inet_diag_req_v2`, `inet_diag_msg` and `nlattr`.
const HEADER: usize = 16;
const QUESTION: usize = 56;
const ANSWER: usize = 72;
const ATTRIBUTE: usize = 4;

/// Enough for one answer, and what the kernel writes at once of many.
const ONE: usize = 1024;
const MANY: usize = 32 * 1024;

/// The way to ask.
#[derive(Debug)]
pub(super) struct Diag {
    socket: OwnedFd,
    questions: AtomicU32,
}

/// What can be asked of one socket.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    /// The listener that gets what connects to this address now.
    Listener(SocketAddr),
    /// The far end of the connection that a socket of this machine at `near` has to one at `far`. Where
    /// there is none it is who listens there.
    FarEnd { near: SocketAddr, far: SocketAddr },
}

/// A TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) state: State,
    /// What it is bound to, which may be every address.
    pub(super) address: SocketAddr,
    /// Who made it, or root before somebody has.
    pub(super) uid: u32,
    /// Bytes that have come on a connection and that nobody has read.
    pub(super) unread: u32,
    /// The number that it has in `/proc/PID/fd`.
    pub(super) inode: u32,
    /// The control group of whoever made it, or of the listener that took the connection. Requests for
    /// a connection have none.
    pub(super) group: Option<u64>,
}

/// In which state a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its handshake is not over, or its listener waits for its first bytes.
    Request,
    Listener,
    Other,
}

// === impl Diag ===

impl Diag {
    /// Opens the way.
    ///
    /// # Errors
    /// Where the kernel, or a sandbox, has none.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::SOCK_DIAG);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        Ok(Self { socket, questions: AtomicU32::new(0) })
    }

    /// Asks all of these in this order, without anything of ours in between.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub(super) fn ask<const N: usize>(
        &self,
        questions: [Question; N],
    ) -> io::Result<[Option<Socket>; N]> {
        let first = self.send(&questions.map(Question::encode), REQUEST)?;
        let mut answers = [None; N];
        for (answer, number) in answers.iter_mut().zip(first..) {
            *answer = self.answer(number)?;
        }
        Ok(answers)
    }

    /// Every listener.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) fn listeners(&self) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        let mut buffer = vec![0; MANY];
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            let number = self.send(&[about(family, 1 << LISTEN)], REQUEST | ALL)?;
            'family: loop {
                let length = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?.1;
                for (kind, body) in messages(buffer.get(..length).unwrap_or_default(), number) {
                    match kind {
                        DONE => break 'family,
                        // A kernel without IPv6 has none of its listeners.
                        ERROR if error_of(body) == Errno::NOENT => break 'family,
                        ERROR => return Err(error_of(body).into()),
                        _ => found.extend(Socket::decode(body)),
                    }
                }
            }
        }
        Ok(found)
    }

    fn answer(&self, number: u32) -> io::Result<Option<Socket>> {
        let mut buffer = [0; ONE];
        loop {
            let length = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?.1;
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some((kind, body)) = messages(bytes, number).next() {
                return match kind {
                    ERROR => match error_of(body) {
                        Errno::NOENT => Ok(None),
                        other => Err(other.into()),
                    },
                    _ => Ok(Socket::decode(body)),
                };
            }
        }
    }

    /// Sends questions at once; the number of the first one's answers, which those of the others follow.
    fn send(&self, questions: &[[u8; QUESTION]], flags: u16) -> io::Result<u32> {
        let count = questions.len() as u32;
        let first = self.questions.fetch_add(count, Ordering::Relaxed);
        let mut messages = Vec::with_capacity(questions.len() * (HEADER + QUESTION));
        for (question, number) in questions.iter().zip(first..) {
            messages.extend(((HEADER + QUESTION) as u32).to_ne_bytes());
            messages.extend(BY_FAMILY.to_ne_bytes());
            messages.extend(flags.to_ne_bytes());
            messages.extend(number.to_ne_bytes());
            messages.extend(0_u32.to_ne_bytes());
            messages.extend(question);
        }
        send(&self.socket, &messages, SendFlags::empty())?;
        Ok(first)
    }
}

// === impl Question ===

impl Question {
    fn encode(self) -> [u8; QUESTION] {
        let (own, other) = match self {
            Self::Listener(address) => (address, None),
            Self::FarEnd { near, far } => (far, Some(near)),
        };
        let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let mut question = about(family, u32::MAX);
        put(&mut question, (8, 12), own);
        if let Some(other) = other {
            put(&mut question, (10, 28), other);
        }
        question[44..48].copy_from_slice(&LOOPBACK.to_ne_bytes());
        question
    }
}

/// A question about sockets of a family in any of these states.
fn about(family: AddressFamily, states: u32) -> [u8; QUESTION] {
    let mut question = [0; QUESTION];
    question[0] = u8::try_from(family.as_raw()).unwrap_or_default();
    question[1] = TCP;
    question[4..8].copy_from_slice(&states.to_ne_bytes());
    question[48..].fill(0xff); // any cookie
    question
}

fn put(question: &mut [u8; QUESTION], (port, ip): (usize, usize), address: SocketAddr) {
    question[port..port + 2].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => question[ip..ip + 4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => question[ip..ip + 16].copy_from_slice(&v6.octets()),
    }
}

/// The messages of an answer to question `number`, by kind.
fn messages(mut bytes: &[u8], number: u32) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
            let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if u32_at(message, 8)? == number {
                return Some((u16_at(message, 4)?, message.get(HEADER..)?));
            }
        }
    })
}

fn error_of(body: &[u8]) -> Errno {
    let number = u32_at(body, 0).map_or(0, u32::cast_signed);
    Errno::from_raw_os_error(number.wrapping_neg())
}

// === impl Socket ===

impl Socket {
    fn decode(body: &[u8]) -> Option<Self> {
        let attributes = body.get(ANSWER..)?;
        let port = u16::from_be_bytes([body[4], body[5]]);
        let ip: IpAddr = if i32::from(body[0]) == i32::from(AddressFamily::INET.as_raw()) {
            Ipv4Addr::new(body[8], body[9], body[10], body[11]).into()
        } else {
            Ipv6Addr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?).into()
        };
        Some(Self {
            state: State::of(body[1]),
            address: SocketAddr::new(ip, port),
            unread: if body[1] == ESTABLISHED { u32_at(body, 56)? } else { 0 },
            uid: u32_at(body, 64)?,
            inode: u32_at(body, 68)?,
            group: attribute(attributes, CGROUP)
                .and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?))),
        })
    }
}

/// `TCP_ESTABLISHED`, `TCP_SYN_RECV`, `TCP_LISTEN` and `TCP_NEW_SYN_RECV` of the kernel's `enum tcp_state`.
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
const LISTEN: u8 = 10;
const NEW_SYN_RECV: u8 = 12;

impl State {
    fn of(state: u8) -> Self {
        match state {
            SYN_RECV | NEW_SYN_RECV => Self::Request,
            LISTEN => Self::Listener,
            _ => Self::Other,
        }
    }
}

/// What the first attribute of this kind says.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(ATTRIBUTE..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sys;

    fn far_end(diag: &Diag, stream: &TcpStream) -> Option<Socket> {
        let (near, far) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let [end] = diag.ask([Question::FarEnd { near, far }]).unwrap();
        end
    }

    #[test]
    fn the_far_end_of_a_connection_is_told_from_its_listener() {
        let diag = Diag::open().unwrap();
        for every in ["127.9.8.6:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(every) else { continue };
            let mut address = listener.local_addr().unwrap();
            if every == "[::]:0" {
                address.set_ip(Ipv4Addr::LOCALHOST.into()); // one socket for both families
            }
            let near = TcpStream::connect(address).unwrap();
            let questions = [
                Question::Listener(address),
                Question::FarEnd { near: near.local_addr().unwrap(), far: address },
            ];
            let [Some(asked), Some(waiting)] = diag.ask(questions).unwrap() else {
                panic!("both are there")
            };
            assert_eq!((asked.state, waiting.state), (State::Listener, State::Other), "{every}");
            assert_eq!(asked.uid, rustix::process::geteuid().as_raw());
            assert_eq!(asked.group, waiting.group, "before somebody accepts it");
            assert_eq!(waiting.inode, 0);
            let (far, _) = listener.accept().unwrap();
            let accepted = far_end(&diag, &near).unwrap();
            assert!(accepted.inode != 0 && accepted.group == asked.group, "{accepted:?}");
            drop(listener);
            assert_eq!(
                far_end(&diag, &near).unwrap(),
                accepted,
                "whatever becomes of the listener"
            );
            drop((near, far));
        }
    }

    #[test]
    fn a_connection_whose_listener_waits_for_its_first_bytes_is_a_request() {
        let diag = Diag::open().unwrap();
        let listener = TcpListener::bind("127.9.8.6:0").unwrap();
        sys::set_defer_accept(&listener, 30).unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let request = far_end(&diag, &near).unwrap();
        assert_eq!((request.state, request.group), (State::Request, None));
        near.write_all(b"x").unwrap();
        let (_far, _) = listener.accept().unwrap();
        assert_eq!(far_end(&diag, &near).unwrap().state, State::Other);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for bytes in [&[][..], &[0; 15], &[255; 40], &[16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0]] {
            assert_eq!(messages(bytes, 1).count(), 0, "{bytes:?}");
        }
        assert_eq!(Socket::decode(&[0; ANSWER - 1]), None);
        for bytes in [&[][..], &[0; 4], &[3, 0, 21, 0], &[255; 12], &[12, 0, 21, 0, 1, 2, 3]] {
            assert_eq!(attribute(bytes, CGROUP), None, "{bytes:?}");
        }
        assert_eq!(
            attribute(&[5, 0, 8, 0, 7, 0, 0, 0, 6, 0, 21, 0, 1, 2], CGROUP),
            Some(&[1, 2][..])
        );
    }
}
