//! The handshake: step by step, and no two steps of a thread without looking at all else between.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::stream::TlsStream;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The client went away before it said anything: a port check, or a browser that opened one
    /// connection too many.
    Silent,
    /// It went away, or the network broke.
    Gone(io::Error),
    /// The two do not agree, or the client is not who it must be.
    Tls(rustls::Error),
}

/// Takes the connection that a client opens on `io`.
///
/// One step is a tenth of a millisecond to two of computing. `turns` has one permit for each
/// thread: who took a step gives it on only after everything else that is ready was looked at, so
/// that a flood of handshakes delays the requests of others by one step at a time.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ServerConfig>,
    io: S,
    turns: &Semaphore,
) -> Result<TlsStream<S>, HandshakeError> {
    let mut stream = TlsStream::new(config, io).map_err(HandshakeError::Tls)?;
    let mut silent = true;
    loop {
        poll_fn(|cx| stream.poll_send(cx)).await.map_err(HandshakeError::Gone)?;
        if !stream.is_handshaking() {
            return Ok(stream);
        }
        let count = poll_fn(|cx| stream.poll_fill(cx)).await.map_err(HandshakeError::Gone)?;
        if count == 0 {
            let end = HandshakeError::Gone(io::ErrorKind::UnexpectedEof.into());
            return Err(if silent { HandshakeError::Silent } else { end });
        }
        silent = false;
        let turn = turns.acquire().await;
        let result = stream.process();
        // At once, or the client would wait for the others, too; what does not fit goes later.
        let _ = poll_fn(|cx| Poll::Ready(stream.poll_send(cx))).await;
        result.map_err(HandshakeError::Tls)?;
        tokio::task::yield_now().await;
        drop(turn);
    }
}

impl std::fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent => f.write_str("the client said nothing"),
            Self::Gone(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
        }
    }
}
