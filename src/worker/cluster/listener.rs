//! The worker's own listener.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::{TcpListener, UnixListener};

use crate::systemd::activation::Socket;

/// The worker's own listener.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(listener) => listener.accept().await?.0.into_std()?.into(),
            Self::Unix(listener) => listener.accept().await?.0.into_std()?.into(),
        })
    }
}

pub(super) async fn accept(listener: Option<&Listener>) -> io::Result<OwnedFd> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            result => return result,
        }
    }
}
