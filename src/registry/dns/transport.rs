//! One question to one DNS server: over UDP, and over TCP when the answer does not fit.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::DnsError;
use super::message::{self, Kind, Records, Reply};
use crate::base::want;

/// Larger than any answer over UDP to a question that does not ask for more.
const DATAGRAM: usize = 4096;

/// Asks this server for this whole name.
pub(super) async fn ask(
    server: SocketAddr,
    name: &str,
    kind: Kind,
    limit: Duration,
) -> Result<(Records, Duration), DnsError> {
    let exchange = async {
        let answer = match over_udp(server, name, kind).await? {
            None => over_tcp(server, name, kind).await?,
            answer => answer,
        };
        answer.ok_or(DnsError::Malformed)
    };
    timeout(limit, exchange).await.unwrap_or(Err(DnsError::Timeout(server, limit)))
}

/// `None` when the answer did not fit.
async fn over_udp(
    server: SocketAddr,
    name: &str,
    kind: Kind,
) -> Result<Option<(Records, Duration)>, DnsError> {
    let id = number();
    let question = message::question(id, name, kind)?;
    let io = |error: io::Error| unanswered(server, &error);
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A port of its own for each question, and nobody but the server can answer on it.
    let socket = UdpSocket::bind((any, 0)).await.map_err(io)?;
    socket.connect(server).await.map_err(io)?;
    socket.send(&question).await.map_err(io)?;
    let mut buffer = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(io)?;
        match message::reply(&buffer[..length], id, name, kind)? {
            Reply::Answer(records, ttl) => return Ok(Some((records, ttl))),
            Reply::Truncated => return Ok(None),
            Reply::Stray => {}
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    name: &str,
    kind: Kind,
) -> Result<Option<(Records, Duration)>, DnsError> {
    let id = number();
    let question = message::question(id, name, kind)?;
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(question.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&question);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let answer = exchange.await.map_err(|error: io::Error| unanswered(server, &error))?;
    match message::reply(&answer, id, name, kind)? {
        Reply::Answer(records, ttl) => Ok(Some((records, ttl))),
        Reply::Truncated | Reply::Stray => Ok(None),
    }
}

/// That the network said no, or this machine had nothing left to ask with.
fn unanswered(server: SocketAddr, error: &io::Error) -> DnsError {
    if want::is_ours(error) {
        DnsError::Unasked(error.to_string())
    } else {
        DnsError::Io(server, error.to_string())
    }
}

/// A number that nobody foresees, so that nobody can forge an answer to it.
fn number() -> u16 {
    (RandomState::new().hash_one(0) >> 24) as u16
}
