//! What front and worker say to each other on the worker's control socket.
//!
//! The front sends a number for each connection, with the connection beside it. The worker sends
//! records of five bytes: a letter, and the number that it is about.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Connections that one worker may have at most without having said that it took them: enough to keep it
/// busy. One that answers nothing has fewer (see `link`).
pub(crate) const WINDOW: usize = 32;

/// The length of a record.
pub(crate) const RECORD: usize = 5;

/// Connections that are sent at once.
pub(super) const TOGETHER: usize = 32;

/// What the worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// It takes connections.
    Ready,
    /// It takes none at present.
    Busy,
    /// Its app has this one.
    Taken(u32),
    /// Its app does not want this one.
    Refused(u32),
}

impl Record {
    pub(crate) fn bytes(self) -> [u8; RECORD] {
        let (letter, number) = match self {
            Self::Ready => (b'R', 0),
            Self::Busy => (b'B', 0),
            Self::Taken(number) => (b'T', number),
            Self::Refused(number) => (b'N', number),
        };
        let [a, b, c, d] = number.to_be_bytes();
        [letter, a, b, c, d]
    }

    pub(crate) fn read(bytes: [u8; RECORD]) -> Option<Self> {
        let [letter, a, b, c, d] = bytes;
        let number = u32::from_be_bytes([a, b, c, d]);
        match letter {
            b'R' => Some(Self::Ready),
            b'B' => Some(Self::Busy),
            b'T' => Some(Self::Taken(number)),
            b'N' => Some(Self::Refused(number)),
            _ => None,
        }
    }
}

/// Sends connections with their numbers. All of them go, or none.
pub(super) fn send_connections(
    socket: BorrowedFd<'_>,
    connections: &[(u32, BorrowedFd<'_>)],
) -> io::Result<()> {
    let numbers: Vec<u8> =
        connections.iter().flat_map(|(number, _)| number.to_be_bytes()).collect();
    let descriptors: Vec<BorrowedFd<'_>> = connections.iter().map(|(_, socket)| *socket).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(socket, &[IoSlice::new(&numbers)], &mut control, SendFlags::NOSIGNAL)?;
    // So few bytes are one piece to the kernel.
    if sent == numbers.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives what was sent at once. A number comes without its connection when this process has no
/// room for more descriptors.
pub(crate) fn receive_connections(
    socket: BorrowedFd<'_>,
) -> io::Result<Vec<(u32, Option<OwnedFd>)>> {
    let mut buffer = [0; 4 * TOGETHER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg(socket.as_fd(), &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let count = received.bytes;
    // The kernel never gives more than one piece that has descriptors at a time, and all of ours
    // have and fit.
    let (numbers, []) = buffer[..count].as_chunks::<4>() else {
        return Err(io::Error::other("this is no hand-off"));
    };
    if numbers.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = descriptors.into_iter();
    Ok(numbers.iter().map(|n| (u32::from_be_bytes(*n), descriptors.next())).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn connections_arrive_with_their_numbers_and_in_order() {
        let (front, worker) = UnixStream::pair().unwrap();
        let pairs: Vec<_> = (0..TOGETHER).map(|_| UnixStream::pair().unwrap()).collect();
        let numbered: Vec<_> = (7_u32..).zip(pairs.iter().map(|(_, far)| far.as_fd())).collect();
        send_connections(front.as_fd(), &numbered).unwrap();
        send_connections(front.as_fd(), &numbered[..1]).unwrap();
        let got = receive_connections(worker.as_fd()).unwrap();
        assert_eq!(got.len(), TOGETHER);
        for (((number, socket), expected), (near, _)) in got.into_iter().zip(7..).zip(&pairs) {
            assert_eq!(number, expected);
            io::Write::write_all(&mut UnixStream::from(socket.unwrap()), b"x").unwrap();
            io::Read::read_exact(&mut &*near, &mut [0]).unwrap();
        }
        assert_eq!(receive_connections(worker.as_fd()).unwrap().len(), 1);
        drop(front);
        assert!(receive_connections(worker.as_fd()).is_err());
    }

    #[test]
    fn a_number_may_come_without_its_connection() {
        let (mut front, worker) = UnixStream::pair().unwrap();
        io::Write::write_all(&mut front, &7_u32.to_be_bytes()).unwrap();
        assert!(matches!(receive_connections(worker.as_fd()).unwrap()[..], [(7, None)]));
        io::Write::write_all(&mut front, b"x").unwrap();
        assert!(receive_connections(worker.as_fd()).is_err());
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        for record in [Record::Ready, Record::Busy, Record::Taken(5), Record::Refused(u32::MAX)] {
            assert_eq!(Record::read(record.bytes()), Some(record));
        }
        assert_eq!(Record::read([0; RECORD]), None);
    }
}
