//! What the helper sends back: a kind, a length and that many bytes, again and again, until the exit
//! status of the command.

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};

/// The most that one frame carries.
pub(crate) const MOST: usize = 16 * 1024;

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// What the command wrote to standard output.
    Out(Vec<u8>),
    /// What it wrote to standard error.
    Err(Vec<u8>),
    /// It has ended with this status; nothing follows.
    Exit(u8),
}

// === impl Frame ===

impl Frame {
    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::Out(bytes) => (b'o', bytes),
            Self::Err(bytes) => (b'e', bytes),
            Self::Exit(status) => (b'x', std::slice::from_ref(status)),
        }
    }

    /// Sends it.
    ///
    /// # Errors
    /// When the other end is gone.
    pub(crate) async fn write(&self, to: &mut (impl io::AsyncWrite + Unpin)) -> io::Result<()> {
        let (kind, bytes) = self.parts();
        for chunk in bytes.chunks(MOST) {
            let length = u16::try_from(chunk.len()).unwrap_or(0); // MOST fits
            let mut frame = vec![kind];
            frame.extend(length.to_be_bytes());
            frame.extend(chunk);
            to.write_all(&frame).await?;
        }
        Ok(())
    }

    /// Receives one; `None` at the end of the connection.
    ///
    /// # Errors
    /// When the connection breaks, or is not the helper's.
    pub(crate) async fn read(from: &mut (impl io::AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = [0; 3];
        match from.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let mut bytes = vec![0; length.min(MOST)];
        from.read_exact(&mut bytes).await?;
        match (head[0], bytes.as_slice()) {
            (b'o', _) if length <= MOST => Ok(Some(Self::Out(bytes))),
            (b'e', _) if length <= MOST => Ok(Some(Self::Err(bytes))),
            (b'x', [status]) => Ok(Some(Self::Exit(*status))),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "this is no answer of the helper")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives() {
        let long = vec![b'x'; 16_384 + 5];
        let mut wire = Vec::new();
        for frame in [Frame::Out(long.clone()), Frame::Err(b"\xff\n".to_vec()), Frame::Exit(130)] {
            frame.write(&mut wire).await.unwrap();
        }
        let mut from = wire.as_slice();
        let mut frames = Vec::new();
        while let Some(frame) = Frame::read(&mut from).await.unwrap() {
            frames.push(frame);
        }
        let expected = [
            Frame::Out(long[..16_384].to_vec()),
            Frame::Out(long[16_384..].to_vec()),
            Frame::Err(b"\xff\n".to_vec()),
            Frame::Exit(130),
        ];
        assert_eq!(frames, expected);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for wrong in [&b"HTTP/1.1 400"[..], b"x\0\0", b"x\0\x02ab", b"o\xff\xff", b"o\0\x09short"] {
            let mut from = wrong;
            assert!(Frame::read(&mut from).await.is_err(), "{wrong:?}");
        }
        assert_eq!(Frame::read(&mut &b""[..]).await.unwrap(), None);
        for kind in [b'o', b'e'] {
            let longer = [vec![kind, 0x40, 0x01], vec![b'y'; 0x4001]].concat();
            assert!(Frame::read(&mut longer.as_slice()).await.is_err(), "more than one carries");
        }
    }

    #[tokio::test]
    async fn a_broken_connection_is_not_its_end() {
        struct Broken;
        impl io::AsyncRead for Broken {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                _: &mut io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let error = Frame::read(&mut Broken).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
