//! How a worker asks a sibling for what they may have in common.
//!
//! Over the sibling's control socket: after the first line `share N`, the question is a line of JSON. The
//! answer is one, too: `null`, or an object, with the socket (if it has one) beside its first byte.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::held::Held;
use super::turn::Turn;
use crate::base::worker_socket;

/// How long a sibling may take to accept.
const CONNECT: Duration = Duration::from_secs(2);

/// The longest answer: ticket keys are a hundred bytes.
const LONGEST: usize = 64 * 1024;

/// Whether somebody has something.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::worker) struct Question {
    pub(super) turn: Turn,
    pub(super) name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    data: Value,
}

impl Question {
    /// Asks the sibling at `path`.
    pub(super) async fn ask(&self, path: &Path) -> io::Result<Option<(Option<OwnedFd>, Value)>> {
        let mut stream = worker_socket::control_with_descriptors(CONNECT, path).await?;
        let question = serde_json::to_string(self)?;
        stream.write_all(format!("share {}\n{question}\n", self.turn.number()).as_bytes()).await?;
        let (mut text, mut socket) = (Vec::new(), None);
        while text.len() < LONGEST && text.last() != Some(&b'\n') {
            stream.readable().await?;
            match stream.try_io(Interest::READABLE, || receive(stream.as_fd(), &mut text)) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, received)) => socket = socket.or(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let answer: Option<Answer> = serde_json::from_slice(&text)?;
        Ok(answer.map(|answer| (socket, answer.data)))
    }

    /// Answers it.
    pub(in crate::worker) async fn reply(
        stream: &mut UnixStream,
        held: Option<Held>,
    ) -> io::Result<()> {
        let answer = held.as_ref().map(|held| json!({ "data": held.data }));
        let text = format!("{}\n", answer.unwrap_or_default());
        let sent = loop {
            stream.writable().await?;
            let socket = held.as_ref().and_then(|held| held.socket.as_deref());
            let send = || transmit(stream.as_fd(), text.as_bytes(), socket.map(AsFd::as_fd));
            match stream.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break result?,
            }
        };
        stream.write_all(&text.as_bytes()[sent..]).await
    }
}

fn transmit(
    stream: BorrowedFd<'_>,
    bytes: &[u8],
    socket: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Reads what has come, and the socket beside it.
fn receive(stream: BorrowedFd<'_>, text: &mut Vec<u8>) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg(stream, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut socket = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            socket = descriptors.last().or(socket);
        }
    }
    text.extend_from_slice(&buffer[..received]);
    Ok((received, socket))
}
