//! Connections over a restart of the service: systemd keeps them (`FileDescriptorStoreMax=`), the next
//! process goes on with them, and the client notices nothing but a pause.
//!
//! systemd gets one descriptor, however many connections there are: it compares each that it is given with
//! all that it has, and does nothing else meanwhile. That one is an end of a pair of sockets, in whose queue
//! the connections wait, behind a file in memory that says what each of them is: how long the description
//! is, the description, and the beginnings of requests and what is left of replies, one behind the other. Where it does not make
//! sense (after a downgrade, say), they are closed, as they would have been without all this.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::session::command::Memento;
use crate::session::store::FileMark;
use crate::systemd::activation::{KEPT, Kept};
use crate::systemd::notify;

/// A connection between two processes.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The connection.
    pub socket: OwnedFd,
    /// What the client has said so far.
    pub memento: Memento,
    /// Requests that are not carried out yet, and the beginning of one that is not whole.
    pub input: Vec<u8>,
    /// Replies that the client has not taken yet.
    pub output: Vec<u8>,
    /// The password that let it in.
    pub password: Option<String>,
    /// Whether the replies say what is not known to be as safe as it is to be.
    pub is_unsafe: bool,
}

/// What a process leaves to the next one.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    /// Its connections.
    pub connections: Vec<Handover>,
    /// The file that it had open.
    pub file: Option<FileMark>,
}

/// More of requests and replies than this is not taken along: such a client is closed and connects anew.
pub(super) const MOST: usize = 16 * 1024 * 1024;
/// The same for all clients together: the next process begins by reading it.
const MOST_TOGETHER: usize = 64 * 1024 * 1024;
/// systemd has other things to do at times, but a stop must not hang.
const PATIENCE: Duration = Duration::from_secs(5);
/// Descriptors of one message: no kernel takes more.
const TOGETHER: usize = 253;

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Descriptions {
    file: Option<FileMark>,
    connections: Vec<Description>,
}

/// What the file says of a connection.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    memento: Memento,
    password: Option<String>,
    /// Bytes of its input, and of its output.
    bytes: (usize, usize),
}

/// Gives connections to systemd; an error says why their clients must connect anew.
pub(crate) fn keep(legacy: Legacy) -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let queue = queue(legacy)?;
    notify::keep(&name(), queue.as_fd())?;
    // Until systemd has it, it is to be open here: the kernel looks for queues that nobody can reach.
    notify::barrier(PATIENCE)
}

/// Takes over what an earlier process has given to systemd, which then keeps it no longer.
pub(crate) fn take(kept: Vec<Kept>) -> Legacy {
    for (name, _) in &kept {
        if let Err(error) = notify::forget(name) {
            tracing::warn!(%error, name, "systemd keeps a connection that is no longer needed");
        }
    }
    let Some((_, queue)) = kept.into_iter().find(|(kept, _)| *kept == name()) else {
        return Legacy::default();
    };
    from_queue(&queue.into()).unwrap_or_else(|error| {
        tracing::warn!(%error, "the connections of the process before are closed");
        Legacy::default()
    })
}

fn name() -> String {
    format!("{KEPT}connections")
}

impl Handover {
    fn bytes(&self) -> usize {
        self.input.len() + self.output.len()
    }
}

/// Without those for whose requests and replies there is no room. Each app has the same, and what one does not need
/// the others share; of an app's connections those go on that have least. So nobody's half requests close another's
/// connections.
fn bounded(connections: Vec<Handover>, mut room: usize) -> Vec<Handover> {
    let all = connections.len();
    let mut apps: BTreeMap<String, Vec<Handover>> = BTreeMap::new();
    for connection in connections {
        apps.entry(connection.memento.namespace().to_owned()).or_default().push(connection);
    }
    let bytes = |of: &[Handover]| of.iter().map(Handover::bytes).sum::<usize>();
    let mut apps: Vec<Vec<Handover>> = apps.into_values().collect();
    // Who needs least comes first, so that what is left is known when it is shared.
    apps.sort_by_cached_key(|of| bytes(of));
    let mut kept = Vec::with_capacity(all);
    let mut left = apps.len();
    for mut connections in apps {
        let mut share = room / left;
        left -= 1;
        connections.sort_by_key(Handover::bytes);
        connections.retain(|connection| {
            let rest = share.checked_sub(connection.bytes());
            share = rest.unwrap_or(0);
            rest.is_some()
        });
        room -= bytes(&connections);
        kept.append(&mut connections);
    }
    let closed = all - kept.len();
    if closed > 0 {
        tracing::warn!(closed, "some clients with much to send or to read must connect anew");
    }
    kept
}

/// The end of a pair of sockets that gives these connections to whoever reads from it.
fn queue(Legacy { connections, file: mark }: Legacy) -> io::Result<OwnedFd> {
    let mut rest = Vec::new();
    let (connections, sockets): (Vec<_>, Vec<_>) = bounded(connections, MOST_TOGETHER)
        .into_iter()
        .map(|Handover { socket, memento, input, output, password, .. }| {
            rest.extend_from_slice(&input);
            rest.extend_from_slice(&output);
            (Description { memento, password, bytes: (input.len(), output.len()) }, socket)
        })
        .unzip();
    let count = connections.len();
    let descriptions = Descriptions { file: mark, connections };
    let memory = rustix::fs::memfd_create("session-handover", MemfdFlags::CLOEXEC)?;
    let text = serde_json::to_vec(&descriptions)?;
    let mut file = BufWriter::new(File::from(memory));
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(&text)?;
    file.write_all(&rest)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    let (near, far) = UnixStream::pair()?;
    // Nobody reads before this process has ended.
    near.set_nonblocking(true)?;
    send(&near, &[file.as_fd()])?;
    for (index, sockets) in sockets.chunks(TOGETHER).enumerate() {
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        if let Err(error) = send(&near, &sockets) {
            let left = count - index * TOGETHER;
            tracing::warn!(%error, left, "some clients must connect anew");
            break;
        }
    }
    Ok(far.into())
}

fn from_queue(queue: &UnixStream) -> io::Result<Legacy> {
    queue.set_nonblocking(true)?;
    let file = receive(queue)?.pop().ok_or(io::ErrorKind::InvalidData)?;
    let (Descriptions { file, connections: descriptions }, rest) = read(file)?;
    let mut sockets = Vec::with_capacity(descriptions.len());
    while sockets.len() < descriptions.len() {
        let wanted = TOGETHER.min(descriptions.len() - sockets.len());
        let got = receive(queue)?;
        let is_whole = got.len() == wanted;
        sockets.extend(got);
        if !is_whole {
            // All that come later would be taken for others.
            let left = descriptions.len().saturating_sub(sockets.len());
            tracing::warn!(left, "some connections of the process before are closed");
            break;
        }
    }
    let mut rest = &rest[..];
    let mut take = |bytes| {
        let (taken, left) = rest.split_at_checked(bytes)?;
        rest = left;
        Some(taken.to_vec())
    };
    let connections = descriptions.into_iter().zip(sockets).map_while(|(description, socket)| {
        let Description { memento, password, bytes } = description;
        let (input, output) = (take(bytes.0)?, take(bytes.1)?);
        Some(Handover { socket, memento, input, output, password, is_unsafe: false })
    });
    Ok(Legacy { connections: connections.collect(), file })
}

/// Sends descriptors; they go beside a byte.
fn send(to: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    sendmsg(to, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what was sent at once; nothing when nothing is left.
fn receive(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    recvmsg(from, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(descriptors)
}

/// The descriptions, and behind them the requests and replies.
fn read(file: OwnedFd) -> io::Result<(Descriptions, Vec<u8>)> {
    let mut file = File::from(file);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (length, rest) = bytes.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (text, rest) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((serde_json::from_slice(text)?, rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::command::{Client, Identity};

    /// More than one message takes, in one descriptor, each with what belongs to it; what does not come in
    /// is closed, and nobody gets the connection of another.
    #[test]
    fn all_connections_wait_in_one_descriptor() {
        let count = TOGETHER + 20;
        let (clients, connections): (Vec<_>, Vec<_>) = (0..count)
            .map(|number| {
                let (client, server) = UnixStream::pair().unwrap();
                let identity = Identity::Worker(format!("app{number}"));
                let memento = Client::new(1, identity, String::new(), 0).memento(|_| true).unwrap();
                let input = number.to_string().into_bytes();
                let output = format!("reply {number}").into_bytes();
                let password = Some(format!("of {number}"));
                let socket = server.into();
                let is_unsafe = false;
                (client, Handover { socket, memento, input, output, password, is_unsafe })
            })
            .unzip();
        let file = FileMark::of(std::path::Path::new("/dev/null"));
        let queue = queue(Legacy { connections, file }).unwrap();
        let taken = from_queue(&queue.into()).unwrap();
        assert!(file.is_some() && taken.file == file);
        let taken = taken.connections;
        assert_eq!(taken.len(), count);
        for (number, (client, Handover { socket, memento, input, output, password, .. })) in
            clients.into_iter().zip(taken).enumerate()
        {
            assert_eq!(input, number.to_string().into_bytes());
            assert_eq!(output, format!("reply {number}").into_bytes());
            assert_eq!(password, Some(format!("of {number}")));
            assert_eq!(memento.namespace(), format!("app{number}"));
            UnixStream::from(socket).write_all(&input).unwrap();
            let mut received = String::new();
            (&client).read_to_string(&mut received).unwrap();
            assert_eq!(received, number.to_string(), "and it is closed by nobody else");
        }
    }

    /// A hundred clients with much of a request once took half a minute: a file without a buffer, and each
    /// byte as a number. Nothing is longer in the file than it is, but for what says whose it is.
    #[test]
    fn what_clients_have_said_is_written_as_it_is_and_only_so_much_of_it() {
        let client = |input| of_app("shop", input);
        let binary: Vec<u8> = (0..64 * 1024).map(|n: usize| n as u8).collect();
        let (clients, connections): (Vec<_>, Vec<_>) =
            (0..20).map(|_| client(binary.clone())).unzip();
        let queue = queue(Legacy { connections, file: None }).unwrap();
        let near = UnixStream::from(queue);
        near.set_nonblocking(true).unwrap();
        let file = File::from(receive(&near).unwrap().pop().unwrap());
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        assert!(length < 20 * (binary.len() + 1024), "{length} bytes");
        let (descriptions, rest) = read(file.into()).unwrap();
        assert_eq!((descriptions.connections.len(), rest), (20, binary.repeat(20)));
        drop(clients);

        let (_clients, connections): (Vec<_>, Vec<_>) =
            [40, 10, 30, 20].into_iter().map(|n| client(vec![b'x'; n])).unzip();
        let kept: Vec<_> = bounded(connections, 65).iter().map(|c| c.input.len()).collect();
        assert_eq!(kept, [10, 20, 30], "who has said least, goes on");
    }

    /// A client of an app with so much of a request.
    fn of_app(app: &str, input: Vec<u8>) -> (UnixStream, Handover) {
        let (client, server) = UnixStream::pair().unwrap();
        let identity = Identity::Worker(app.to_owned());
        let memento = Client::new(1, identity, String::new(), 0).memento(|_| true).unwrap();
        let (socket, output, password) = (server.into(), Vec::new(), None);
        (client, Handover { socket, memento, input, output, password, is_unsafe: false })
    }

    #[test]
    fn an_app_with_many_half_requests_closes_no_connections_of_others() {
        let said = [("evil", 1, 100), ("few", 30, 1), ("shop", 20, 2), ("idle", 0, 3)];
        let (_clients, connections): (Vec<_>, Vec<_>) = said
            .iter()
            .flat_map(|(app, bytes, count)| std::iter::repeat_n((*app, *bytes), *count))
            .map(|(app, bytes)| of_app(app, vec![b'x'; bytes]))
            .unzip();
        let mut kept = BTreeMap::new();
        for connection in bounded(connections, 120) {
            *kept.entry(connection.memento.namespace().to_owned()).or_insert(0) += 1;
        }
        let counts = [("evil", 50), ("few", 1), ("idle", 3), ("shop", 2)];
        assert_eq!(kept, counts.map(|(app, count)| (app.to_owned(), count)).into());
    }

    #[test]
    fn what_is_no_such_queue_is_an_error() {
        let (near, far) = UnixStream::pair().unwrap();
        assert!(from_queue(&near).is_err(), "nothing is there");
        send(&far, &[near.as_fd()]).unwrap();
        assert!(from_queue(&near).is_err(), "no description is there");
        assert!(from_queue(&OwnedFd::from(File::open("/dev/null").unwrap()).into()).is_err());
    }
}
