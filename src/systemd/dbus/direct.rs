//! A connection to systemd at its own socket, as systemctl has one: for root, when the bus lets nobody in.
//!
//! There systemd gives its well-known name as the sender, which on a bus nobody can do, and which zbus
//! therefore takes for no message at all. So what comes from there goes through here, where the sender gets
//! the form of a connection's name.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::Connection;
use zbus::connection::Builder;

/// The sender as a header has it: field 7, a string, its length and its end; and what takes its place, which is
/// as long.
const SENDER: &[u8] = b"\x07\x01s\x00\x18\0\0\0org.freedesktop.systemd1\0";
const ITSELF: &[u8] = b"\x07\x01s\x00\x18\0\0\0:1.systemd-by-itself-000\0";

/// The part of a header whose length is fixed.
const FIXED: usize = 16;

/// What a message has at most, by the protocol.
const MOST: usize = 128 * 1024 * 1024;

/// Connects to systemd's own socket at this path. To be called inside a tokio runtime.
pub(super) async fn connect(path: &str) -> zbus::Result<Connection> {
    over(UnixStream::connect(path).await?).await
}

async fn over(systemd: UnixStream) -> zbus::Result<Connection> {
    let (inner, outer) = UnixStream::pair()?;
    let (mut from_us, to_us) = inner.into_split();
    let (from_systemd, mut to_systemd) = systemd.into_split();
    // Each ends when the side that it reads from does, and closes the other.
    tokio::spawn(async move { copy(&mut from_us, &mut to_systemd).await });
    tokio::spawn(relay(from_systemd, to_us));
    Builder::unix_stream(outer.into_std()?).p2p().build().await
}

/// Passes on what systemd says.
async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let mut done = 0;
        while let Some(length) = rename(&mut bytes[done..])? {
            done += length;
        }
        to.write_all(&bytes[..done]).await?;
        bytes.drain(..done);
    }
}

/// How long the line, or the message, is that these bytes begin with, once it is whole. A message has the sender
/// renamed by then.
fn rename(bytes: &mut [u8]) -> io::Result<Option<usize>> {
    let number = |at: usize| -> Option<usize> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        let number = if bytes[0] == b'l' { u32::from_le_bytes } else { u32::from_be_bytes };
        usize::try_from(number(four)).ok()
    };
    match bytes.first() {
        None => return Ok(None),
        Some(b'l' | b'B') => {}
        // Who we are is agreed on in lines.
        Some(_) => return Ok(bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1)),
    }
    let (Some(body), Some(fields)) = (number(4), number(12)) else { return Ok(None) };
    if body > MOST || fields > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (head, length) = (FIXED + fields, (FIXED + fields).next_multiple_of(8) + body);
    if bytes.len() < length {
        return Ok(None);
    }
    let fields = &mut bytes[FIXED..head];
    if let Some(at) = fields.windows(SENDER.len()).position(|window| window == SENDER) {
        fields[at..at + ITSELF.len()].copy_from_slice(ITSELF);
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[u8], body: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut message = vec![b'l', 4, 1, 1];
        message.extend(length(body));
        message.extend([1, 0, 0, 0]);
        message.extend(length(fields));
        message.extend(fields);
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend(body);
        message
    }

    #[test]
    fn the_sender_alone_is_renamed() {
        assert_eq!(SENDER.len(), ITSELF.len());
        let mut bytes = message(SENDER, SENDER);
        assert_eq!(rename(&mut bytes).unwrap(), Some(bytes.len()));
        assert_eq!(bytes, message(ITSELF, SENDER), "what it says stays");
        let mut other = message(b"\x01\x01o\0\x01\0\0\0/\0", b"");
        let before = other.clone();
        assert_eq!(rename(&mut other).unwrap(), Some(before.len()));
        assert_eq!(other, before);
    }

    #[test]
    fn what_is_not_whole_is_waited_for() {
        let whole = message(SENDER, b"body");
        for length in 0..whole.len() {
            assert_eq!(rename(&mut whole.clone()[..length]).unwrap(), None, "{length}");
        }
        assert_eq!(rename(&mut b"OK 0123\r\nAGREE".to_vec()).unwrap(), Some(9));
        assert_eq!(rename(&mut b"AGREE".to_vec()).unwrap(), None);
        let mut endless = whole;
        endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(rename(&mut endless).is_err());
    }

    /// What comes is taken for systemd's, whatever name it gives itself.
    #[tokio::test]
    async fn a_message_under_a_name_that_no_connection_has_arrives() {
        use tokio::io::AsyncBufReadExt as _;
        use zbus::MessageStream;

        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reads, mut writes) = theirs.into_split();
        let systemd = async {
            let mut lines = tokio::io::BufReader::new(reads);
            let mut line = String::new();
            while !line.ends_with("BEGIN\r\n") {
                lines.read_line(&mut line).await.unwrap();
                if line.ends_with("NEGOTIATE_UNIX_FD\r\n") {
                    writes.write_all(b"AGREE_UNIX_FD\r\n").await.unwrap();
                } else if line.contains("AUTH") && line.matches("\r\n").count() == 1 {
                    writes.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").await.unwrap();
                }
            }
            let mut fields = b"\x01\x01o\0\x01\0\0\0/\0".to_vec();
            for (code, name) in [(2, "a.B"), (3, "Said")] {
                fields.resize(fields.len().next_multiple_of(8), 0);
                fields.extend([code, 1, b's', 0]);
                fields.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
                fields.extend(name.bytes().chain([0]));
            }
            fields.resize(fields.len().next_multiple_of(8), 0);
            fields.extend(SENDER);
            writes.write_all(&message(&fields, b"")).await.unwrap();
            (lines, writes)
        };
        let heard = async {
            let connection = over(ours).await.unwrap();
            let mut messages = MessageStream::from(&connection);
            let next = std::future::poll_fn(|context| {
                futures_core::Stream::poll_next(std::pin::Pin::new(&mut messages), context)
            });
            next.await.expect("a message").unwrap()
        };
        let (_open, message) = tokio::join!(systemd, heard);
        assert_eq!(message.header().member().unwrap().as_str(), "Said");
    }
}
